#!/usr/bin/env bash
# Builds the module against the headers of the nginx that will load it.
#
#   build.sh headers         prepares and checks the headers
#   build.sh with COMMAND…   the same, then runs the command with NGINX_SOURCE_DIR and NGINX_BUILD_DIR set
#   build.sh module FILE     the same, then builds the module into FILE and has nginx load it once
#
# NGINX_BINARY      the nginx binary (nginx)
# NGINX_SOURCE_DIR  a configured nginx source tree; without it, the one of Debian's nginx-dev is used
# NGINX_BUILD_DIR   its build directory, if that is not objs/ in it
set -euo pipefail
cd "$(dirname "$0")/.."

distribution=/usr/share/nginx/src
name=ngx_http_phantom_token_module
nginx=$(command -v "${NGINX_BINARY:-nginx}" || true)

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

version_of_tree() {
    sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$1/src/core/nginx.h"
}

# Debian's tree belongs to root and is not configured: a copy of it is.
prepare_distribution() {
    [ -r "$distribution/conf_flags" ] || fail \
        "There are no nginx headers: install Debian's nginx-dev, or name a configured nginx source tree with" \
        "NGINX_SOURCE_DIR (and its build directory with NGINX_BUILD_DIR)."
    NGINX_SOURCE_DIR=$PWD/build/nginx-src
    NGINX_BUILD_DIR=$NGINX_SOURCE_DIR/objs
    local stamp="$NGINX_SOURCE_DIR/.prepared-from"
    local state
    state=$(cat "$distribution/conf_flags" "$distribution/src/core/nginx.h" | cksum)
    if [ -r "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; then
        return
    fi
    echo "Preparing the headers of nginx $(version_of_tree "$distribution")"
    rm -rf "$NGINX_SOURCE_DIR"
    mkdir -p build
    cp -R "$distribution" "$NGINX_SOURCE_DIR"
    (
        cd "$NGINX_SOURCE_DIR"
        # shellcheck source=/dev/null
        . ./conf_flags
        ./configure "${NGX_CONF_FLAGS[@]}" >configure.log 2>&1 || {
            tail -n 15 configure.log >&2
            fail "nginx's configure failed; the whole log is $NGINX_SOURCE_DIR/configure.log"
        }
    )
    printf '%s\n' "$state" >"$stamp"
}

prepare_named() {
    if [ -z "${NGINX_SOURCE_DIR:-}" ]; then
        NGINX_SOURCE_DIR=$(dirname "$NGINX_BUILD_DIR")
    fi
    NGINX_BUILD_DIR=${NGINX_BUILD_DIR:-$NGINX_SOURCE_DIR/objs}
    [ -r "$NGINX_SOURCE_DIR/src/core/nginx.h" ] || fail \
        "NGINX_SOURCE_DIR=$NGINX_SOURCE_DIR is no nginx source tree: src/core/nginx.h is not there."
    [ -r "$NGINX_BUILD_DIR/ngx_auto_config.h" ] || fail \
        "NGINX_BUILD_DIR=$NGINX_BUILD_DIR is not configured: run ./configure in $NGINX_SOURCE_DIR, with the" \
        "arguments that \"nginx -V\" shows."
    NGINX_SOURCE_DIR=$(realpath "$NGINX_SOURCE_DIR")
    NGINX_BUILD_DIR=$(realpath "$NGINX_BUILD_DIR")
}

# nginx refuses a module of another version or another signature. It can't tell headers that a distribution has
# patched from those of the original with the same signature: such a module loads, and then corrupts memory.
check() {
    if [ -z "$nginx" ]; then
        echo "There is no nginx binary here (NGINX_BINARY=${NGINX_BINARY:-nginx}): whether it fits these headers is not checked." >&2
        return
    fi
    local built running
    built=$(version_of_tree "$NGINX_SOURCE_DIR")
    running=$("$nginx" -v 2>&1 | sed -n 's|^nginx version: [^/]*/\([0-9.]*\).*|\1|p')
    [ "$built" = "$running" ] || fail \
        "The headers are of nginx $built, but $nginx is $running: it would not load the module." \
        "Name the source tree of nginx $running with NGINX_SOURCE_DIR, or the right binary with NGINX_BINARY."

    local signature
    signature=$(printf '#include <ngx_config.h>\n#include <ngx_core.h>\nsignature NGX_MODULE_SIGNATURE\n' |
        "${CC:-cc}" -E -P -I "$NGINX_SOURCE_DIR/src/core" -I "$NGINX_SOURCE_DIR/src/event" \
            -I "$NGINX_SOURCE_DIR/src/event/modules" -I "$NGINX_SOURCE_DIR/src/event/quic" \
            -I "$NGINX_SOURCE_DIR/src/os/unix" -I "$NGINX_BUILD_DIR" - |
        sed -n 's/^signature//p' | tr -d '" \n') || fail "The headers in $NGINX_SOURCE_DIR can't be compiled."
    grep -aqF "$signature" "$(realpath "$nginx")" || fail \
        "The headers in $NGINX_SOURCE_DIR are configured in another way than $nginx was, so that it would not load" \
        "the module. Configure them with the arguments that \"$nginx -V\" shows."

    local owner=
    if command -v dpkg-query >/dev/null; then
        owner=$(dpkg-query -S "$(realpath "$nginx")" 2>/dev/null | cut -d: -f1) || owner=
    fi
    if [ -n "$owner" ] && [ -d "$distribution/src" ] &&
        [ "$(version_of_tree "$distribution")" = "$built" ]; then
        local header
        while read -r header; do
            cmp -s "$distribution/$header" "$NGINX_SOURCE_DIR/$header" || fail \
                "$nginx is of the package \"$owner\", and $header in $NGINX_SOURCE_DIR is not the one of that package:" \
                "the module would load and then corrupt memory. Build against $distribution: unset NGINX_SOURCE_DIR."
        done < <(cd "$distribution" && find src/core src/event src/http src/os/unix -name '*.h')
    fi
}

build() {
    local output=$1
    "${CARGO:-cargo}" build --release --package "$name"
    mkdir -p "$(dirname "$output")"
    # Under another name first: an nginx that runs may have the old one mapped.
    cp "${CARGO_TARGET_DIR:-target}/release/lib$name.so" "$output.new"
    mv "$output.new" "$output"
    [ -n "$nginx" ] || return 0

    local trial
    trial=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$trial'" EXIT
    cat >"$trial/nginx.conf" <<EOF
load_module $output;
pid $trial/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path $trial/body;
    proxy_temp_path $trial/proxy;
    fastcgi_temp_path $trial/fastcgi;
    uwsgi_temp_path $trial/uwsgi;
    scgi_temp_path $trial/scgi;
}
EOF
    "$nginx" -t -q -p "$trial" -c "$trial/nginx.conf" >"$trial/log" 2>&1 || {
        cat "$trial/log" >&2
        fail "$nginx does not load the module: build it against the headers of that very nginx."
    }
    echo "Built ${output#"$PWD"/} for $("$nginx" -v 2>&1 | sed 's/^nginx version: //')"
}

command=${1:-}
[ $# -eq 0 ] || shift
case "$command" in
    headers | with | module) ;;
    *) fail "usage: $0 headers | with COMMAND… | module FILE" ;;
esac
if [ -n "${NGINX_SOURCE_DIR:-}${NGINX_BUILD_DIR:-}" ]; then
    prepare_named
else
    prepare_distribution
fi
check
export NGINX_SOURCE_DIR NGINX_BUILD_DIR
case "$command" in
    with) exec "$@" ;;
    module) build "${1:?usage: $0 module FILE}" ;;
esac
