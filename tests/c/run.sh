#!/usr/bin/env bash
# Installs the library into a scratch directory, compiles C and C++ programs against what was installed, as a stranger
# would, and runs them against a real authorization server.
#
#   tests/c/run.sh          with the system's compilers, and once under valgrind
#   tests/c/run.sh --asan   library and programs under AddressSanitizer, with LeakSanitizer and UBSan
#
# PROFILE=dev tests what `cargo build` makes instead of `cargo build --release`. PHANTOM_TOKEN_AS names a binary of
# the example server; without it, it is built.
set -euo pipefail
cd "$(dirname "$0")/../.."

asan=
case "${1:-}" in
    --asan) asan=1 ;;
    '') ;;
    *) echo "usage: $0 [--asan]" >&2; exit 2 ;;
esac
PROFILE=${PROFILE:-release}
CARGO=${CARGO:-cargo}
export PROFILE

work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || { kill "$server" && wait "$server" || true; } 2>/dev/null
    rm -rf "$work"
}
trap finish EXIT

passed=0
failed=0
ok() { printf 'ok      %s\n' "$1"; passed=$((passed + 1)); }
bad() { printf 'FAILED  %s\n' "$1"; failed=$((failed + 1)); }
# promise SENTENCE COMMAND...: the sentence holds if the command succeeds.
promise() {
    local sentence=$1
    shift
    if "$@" >"$work/said" 2>&1; then ok "$sentence"; else bad "$sentence"; sed 's/^/        /' "$work/said"; fi
}
# run NAME COMMAND...: runs a test program, which prints a line for each promise.
run() {
    local name=$1 status=0
    shift
    printf -- '--- %s\n' "$name"
    timeout 300 "$@" >"$work/said" 2>"$work/complained" || status=$?
    cat "$work/said"
    passed=$((passed + $(grep -c '^ok ' "$work/said" || true)))
    failed=$((failed + $(grep -c '^FAILED ' "$work/said" || true)))
    if [ "$status" -ne 0 ]; then
        bad "$name ends well (status $status)"
        sed 's/^/        /' "$work/complained"
    elif ! grep -q '^ok ' "$work/said"; then
        bad "$name promises something"
    fi
}

# --- The library, installed.

if [ -n "$asan" ]; then
    # Rust's sanitizer support is complete in the stable compiler, but only unlocked like this.
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" PROFILE=dev
    CARGO_BUILD_TARGET=$(rustc -vV | sed -n 's/^host: //p')
    export CARGO_BUILD_TARGET CARGO_TARGET_DIR=target/asan
fi
make --no-print-directory -f mk/install.mk library CARGO="$CARGO" >"$work/made" 2>&1 || { cat "$work/made"; exit 1; }
# As somebody installs who has no Rust. What a sanitizer reports is read best with all symbols.
make --no-print-directory -f mk/install.mk install-lib CARGO=false RUSTC=false PREFIX=/opt/phantom DESTDIR="$work/root" \
    ${asan:+STRIP=} >"$work/made" 2>&1 || { cat "$work/made"; exit 1; }
unset RUSTC_BOOTSTRAP RUSTFLAGS CARGO_BUILD_TARGET CARGO_TARGET_DIR
library=$work/root/opt/phantom/lib/libphantom_token.so
export PKG_CONFIG_SYSROOT_DIR=$work/root PKG_CONFIG_PATH=$work/root/opt/phantom/lib/pkgconfig
export LD_LIBRARY_PATH=$work/root/opt/phantom/lib
read -ra flags <<<"$(pkg-config --cflags phantom_token)"
read -ra libs <<<"$(pkg-config --libs phantom_token)"
read -ra static_libs <<<"$(pkg-config --static --libs-only-l phantom_token | sed 's/-lphantom_token//')"

printf -- '--- installed files\n'
promise "the headers, both libraries, the links and the pkg-config file are there" \
    ls "$work"/root/opt/phantom/{include/phantom_token.{h,hpp},lib/libphantom_token.{so,so.0,a},lib/pkgconfig/phantom_token.pc}
soname() { readelf -d "$library" | grep 'SONAME.*\[libphantom_token\.so\.0\]'; }
promise "the shared library has a soname" soname
nodelete() { readelf -d "$library" | grep 'NODELETE'; }
promise "it is never unloaded from under its thread" nodelete
exports() { ! nm -D --defined-only "$library" | awk '{ print $3 }' | grep -v '^phantom_'; }
[ -n "$asan" ] || promise "it exports nothing but phantom_*" exports
same_functions() {
    diff <(nm -D --defined-only "$library" | awk '$3 ~ /^phantom_/ { print $3 }' | sort) \
        <(grep -v '^ *//' include/phantom_token.h | grep -o '\bphantom_[a-z_]*(' | tr -d '(' | sort)
}
promise "it exports every function of the header, and no other" same_functions

# --- The authorization server, and tokens.

if [ -z "${PHANTOM_TOKEN_AS:-}" ]; then
    as_profile=$PROFILE
    "$CARGO" build -q --profile "$as_profile" -p authorization_server
    [ "$as_profile" = dev ] && as_profile=debug
    PHANTOM_TOKEN_AS=${CARGO_TARGET_DIR:-target}/$as_profile/authorization_server
fi
export CLIENT_ID=gateway CLIENT_SECRET='secret of the gateway: 100%ab&c="+'
"$PHANTOM_TOKEN_AS" --listen 127.0.0.1:0 --port-file "$work/port" --client "$CLIENT_ID:$CLIENT_SECRET" \
    --token-lifetime 3600 >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 300); do
    [ -s "$work/port" ] && break
    sleep 0.1
done
origin=http://127.0.0.1:$(cat "$work/port")
export ENDPOINT=$origin/introspect CLIENT_SECRET_FILE=$work/secret TOKENS=$work/tokens
printf '%s\n' "$CLIENT_SECRET" >"$CLIENT_SECRET_FILE"
# The secret in the body, where curl encodes it as RFC 6749 §2.3.1 wants.
curl -sS -d "grant_type=client_credentials&scope=read+write&client_id=$CLIENT_ID" \
    --data-urlencode "client_secret=$CLIENT_SECRET" "$origin/token?[1-1600]" |
    grep -o '"access_token":"[^"]*"' | cut -d '"' -f 4 >"$TOKENS"
LARGE_TOKEN=$(curl -sS -d "grant_type=client_credentials&scope=read&padding=9000&client_id=$CLIENT_ID" \
    --data-urlencode "client_secret=$CLIENT_SECRET" "$origin/token" | grep -o '"access_token":"[^"]*"' | cut -d '"' -f 4)
export LARGE_TOKEN
# Tokens that are bound: one to a certificate, of which only the digest matters, and one to a key that nobody has.
export CERTIFICATE='what stands for a certificate'
thumbprint=$(printf %s "$CERTIFICATE" | openssl dgst -sha256 -binary | base64 | tr '+/' '-_' | tr -d '=')
bound() {
    curl -sS -d "grant_type=client_credentials&scope=read&client_id=$CLIENT_ID" --data-urlencode "claim.cnf=$1" \
        --data-urlencode "client_secret=$CLIENT_SECRET" "$origin/token" | grep -o '"access_token":"[^"]*"' | cut -d '"' -f 4
}
CERTIFIED_TOKEN=$(bound "{\"x5t#S256\":\"$thumbprint\"}")
KEYED_TOKEN=$(bound '{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}')
export CERTIFIED_TOKEN KEYED_TOKEN
[ "$(wc -l <"$TOKENS")" -eq 1600 ] || { echo "no tokens:" >&2; cat "$work/server.log" >&2; exit 1; }

# --- Programs.

warnings=(-Wall -Wextra -Werror -pedantic)
if [ -n "$asan" ]; then
    CC=${CC:-clang}
    CXX=${CXX:-clang++}
    instrument=(-g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:exitcode=99
else
    CC=${CC:-cc}
    CXX=${CXX:-c++}
    instrument=(-g -O1)
fi
compile_c() {
    "$CC" -std=c11 "${warnings[@]}" "${instrument[@]}" -D_DEFAULT_SOURCE "${flags[@]}" -o "$work/$2" "$1" "${libs[@]}" -pthread
}
compile_cxx() {
    "$CXX" -std=c++17 "${warnings[@]}" "${instrument[@]}" "${flags[@]}" -o "$work/$2" "$1" "${libs[@]}" -pthread
}

printf -- '--- compilers\n'
programs=(basics nulls blocking policy events threads fork stop store zone)
for program in "${programs[@]}"; do
    promise "tests/c/$program.c compiles as C11 without a warning" compile_c "tests/c/$program.c" "$program"
done
promise "tests/c/cxx.cpp compiles as C++17 without a warning" compile_cxx tests/c/cxx.cpp cxx
for example in resolve epoll; do
    promise "examples/c/$example.c compiles as C11 without a warning" compile_c "examples/c/$example.c" "example-$example"
done

if [ -n "$asan" ]; then
    # Of both, or what follows shows nothing.
    instrumented() { nm "$1" | grep '__asan_report_load' && nm "$2" | grep '__asan_report_load'; }
    promise "AddressSanitizer is in the library and in the programs" instrumented "$library" "$work/basics"
    printf '#include <phantom_token.h>\nint main(void) { phantom_config *c = 0; return phantom_config_new("x", 1, &c); }\n' \
        >"$work/leak.c"
    finds_leak() {
        compile_c "$work/leak.c" leak && { "$work/leak" 2>"$work/leaked" && return 1; grep -q 'LeakSanitizer' "$work/leaked"; }
    }
    promise "LeakSanitizer finds a configuration that is not freed" finds_leak
    printf '#include <phantom_token.h>\nint main(void) { phantom_config *c = 0; phantom_status s = phantom_config_new("x", 9, &c); phantom_config_free(c); return s; }\n' \
        >"$work/overread.c"
    finds_overread() {
        compile_c "$work/overread.c" overread && { "$work/overread" 2>"$work/overread.log" && return 1; grep -q 'AddressSanitizer' "$work/overread.log"; }
    }
    promise "AddressSanitizer finds the library reading beyond what it was given" finds_overread
fi

for program in "${programs[@]}"; do
    run "tests/c/$program.c" "$work/$program"
done
run tests/c/cxx.cpp "$work/cxx"

printf -- '--- examples\n'
resolves() {
    "$work/example-resolve" "$ENDPOINT" "$CLIENT_ID" "$CLIENT_SECRET_FILE" <<<"$(head -1 "$TOKENS")" >"$work/verdict" &&
        grep -q '^Authorization: Bearer eyJ' "$work/verdict"
}
promise "examples/c/resolve.c prints the header for an active token" resolves
refuses() {
    local status=0
    "$work/example-resolve" "$ENDPOINT" "$CLIENT_ID" "$CLIENT_SECRET_FILE" <<<unknown >"$work/verdict" || status=$?
    [ "$status" -eq 1 ] && grep -q '^HTTP 401 (inactive)$' "$work/verdict"
}
promise "and says that an unknown one is not active" refuses
needs_proof() {
    local status=0
    "$work/example-resolve" "$ENDPOINT" "$CLIENT_ID" "$CLIENT_SECRET_FILE" <<<"$KEYED_TOKEN" >"$work/verdict" || status=$?
    [ "$status" -eq 1 ] && grep -q '^HTTP 401 (presentation_missing)$' "$work/verdict"
}
promise "and hands out nothing of one that is bound to a key" needs_proof
fails() {
    local status=0
    "$work/example-resolve" "$origin/nowhere" "$CLIENT_ID" "$CLIENT_SECRET_FILE" <<<unknown >"$work/verdict" 2>"$work/why" ||
        status=$?
    [ "$status" -eq 2 ] && [ -s "$work/why" ]
}
promise "and says why there is no verdict" fails
thousand() {
    head -1000 "$TOKENS" | "$work/example-epoll" "$ENDPOINT" "$CLIENT_ID" "$CLIENT_SECRET_FILE" >"$work/verdict" &&
        cat "$work/verdict" && grep -q '1000 tokens.* 1000 active' "$work/verdict"
}
promise "examples/c/epoll.c has a thousand tokens in flight on one thread" thousand

if [ -z "$asan" ]; then
    printf -- '--- linking\n'
    links_statically() {
        "$CC" -std=c11 "${warnings[@]}" "${flags[@]}" -o "$work/static" tests/c/basics.c \
            "$work/root/opt/phantom/lib/libphantom_token.a" "${static_libs[@]}" -pthread &&
            env -u LD_LIBRARY_PATH "$work/static"
    }
    promise "a program that links the static library, with what pkg-config names, runs without the shared one" links_statically
    needs_soname() { readelf -d "$work/basics" | grep 'NEEDED.*libphantom_token\.so\.0'; }
    promise "a program that links the shared library asks for its soname" needs_soname
    valgrind_clean() {
        # One certificate authority: reading all that the system trusts takes valgrind longer than all the rest.
        local authorities=/etc/ssl/certs/ca-certificates.crt
        [ ! -e "$authorities" ] || sed '/^-----END/q' "$authorities" >"$work/authority.pem"
        SSL_CERT_FILE=$work/authority.pem valgrind -q --error-exitcode=9 --leak-check=full \
            --errors-for-leak-kinds=definite --show-leak-kinds=definite "$work/cxx"
    }
    if command -v valgrind >/dev/null; then
        promise "valgrind finds nothing in a program that resolves and submits" valgrind_clean
    else
        echo "        (valgrind is not installed)"
    fi
fi

printf -- '--- uninstall\n'
uninstalls() {
    make --no-print-directory -f mk/install.mk uninstall PREFIX=/opt/phantom DESTDIR="$work/root" &&
        [ -z "$(find "$work/root" ! -type d)" ]
}
promise "make uninstall leaves no file" uninstalls

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
