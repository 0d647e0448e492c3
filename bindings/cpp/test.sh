#!/usr/bin/env bash
# Compiles the wrapper's example and its test without a warning, with every C++ compiler that there is, and runs them
# against a real authorization server.
#
# PHANTOM_TOKEN_LIBRARY and PHANTOM_TOKEN_AS name the library and the server; without them, those in target/ are taken.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

built() {
    local kind
    for kind in release debug; do
        [ ! -e "$root/target/$kind/$1" ] || { echo "$root/target/$kind/$1"; return; }
    done
    echo "$1 is not built: cargo build --release && cargo build --release -p authorization_server" >&2
    return 1
}
library=${PHANTOM_TOKEN_LIBRARY:-$(built libphantom_token.so)}
authorization_server=${PHANTOM_TOKEN_AS:-$(built authorization_server)}

work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || { kill "$server" && wait "$server" || true; } 2>/dev/null
    rm -rf "$work"
}
trap finish EXIT

# As an installation has it: under its own name, and under the one that programs are bound to.
ln -s "$(realpath "$library")" "$work/libphantom_token.so"
ln -s "$(realpath "$library")" "$work/libphantom_token.so.0"
export LD_LIBRARY_PATH=$work${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

printf 'gateway-secret\n' >"$work/secret"
"$authorization_server" --listen 127.0.0.1:0 --port-file "$work/port" --client gateway:gateway-secret >/dev/null &
server=$!
for _ in $(seq 600); do
    [ ! -s "$work/port" ] || break
    kill -0 "$server"
    sleep 0.05
done
as=http://127.0.0.1:$(cat "$work/port")
issue() {
    curl --silent --show-error --fail --noproxy '*' -u gateway:gateway-secret \
        -d grant_type=client_credentials -d scope=read "$@" "$as/token" | sed 's/.*"access_token":"\([^"]*\)".*/\1/'
}

failed=0
# expect STATUS TEXT ENDPOINT TOKEN: the example ends with STATUS and says TEXT.
expect() {
    local status=0
    timeout 60 "$work/example" "$3" gateway "$work/secret" <<<"$4" >"$work/said" 2>&1 || status=$?
    if [ "$status" = "$1" ] && grep -q "$2" "$work/said"; then
        echo "ok      the example ends with $1 and says: $2"
    else
        echo "FAILED  the example ends with $1 and says: $2; but with $status:"
        sed 's/^/        /' "$work/said"
        failed=1
    fi
}

tried=
for compiler in g++ clang++; do
    command -v "$compiler" >/dev/null || continue
    tried=yes
    echo "--- $compiler"
    for program in example test; do
        "$compiler" -std=c++17 -Wall -Wextra -Werror -pedantic -I "$root/include" -o "$work/$program" \
            "$here/$program.cpp" -L "$work" -lphantom_token
    done
    expect 0 '^Authorization: Bearer ey' "$as/introspect" "$(issue)"
    expect 1 '^HTTP 401 (inactive)' "$as/introspect" unknown
    expect 1 '^HTTP 401 (presentation_missing)' "$as/introspect" "$(issue --data-urlencode 'claim.cnf={"jkt":"x"}')"
    expect 2 '^no verdict (HTTP 502)' "$as/introspect?status=500" unknown
    expect 2 '^log: ' "$as/introspect?status=500" unknown
    timeout 60 "$work/test" "$as/introspect" gateway gateway-secret "$(issue)" \
        "$(issue --data-urlencode 'claim.cnf={"jkt":"x"}')" || failed=1
done
[ -n "$tried" ] || { echo "there is no C++ compiler" >&2; exit 1; }
exit "$failed"
