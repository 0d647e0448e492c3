#!/usr/bin/env bash
# The build must end where the C compiler and the Rust bindings differ about a structure of nginx's, and lint must refuse
# what reads or writes a bit field in another way than src/nginx/bits.c. Each case is a copy of the headers, or of a piece of code,
# with one thing wrong.
#
#   build.sh with tests/layout.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
cargo=${CARGO:-cargo}
package=ngx_http_phantom_token_module
work=$root/build/layout
version=$(sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$NGINX_SOURCE_DIR/src/core/nginx.h")
rm -rf "$work"
mkdir -p "$work"

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Makes a copy of the headers: $1 is its name.
copy() {
    tree=$work/$1
    mkdir -p "$tree"
    cp -R "$NGINX_SOURCE_DIR/src" "$tree/src"
    cp -R "$NGINX_BUILD_DIR" "$tree/objs"
}

# Changes a file of the copy with a script for sed.
doctor() {
    local before
    before=$(cksum <"$tree/$1")
    sed -i "$2" "$tree/$1"
    [ "$(cksum <"$tree/$1")" != "$before" ] || fail "$1 is as it was: the nginx of this version is written in another way"
}

# Builds against the copy: the build must end, and say each of these.
refused() {
    local log=$tree.log wanted
    if NGINX_SOURCE_DIR=$tree NGINX_BUILD_DIR=$tree/objs "$cargo" check --package "$package" >"$log" 2>&1; then
        fail "$tree: the build did not notice"
    fi
    for wanted in "$@"; do
        grep -qF "nginx $version: $wanted" "$log" || {
            grep '^error' "$log" | head -n 20 >&2 || tail -n 20 "$log" >&2
            fail "$tree: the build does not say: nginx $version: $wanted"
        }
        echo "refused: nginx $version: $wanted"
    done
}

# bindgen reads headers with clang's library: what it does not see there, and the C compiler does, is a difference.
copy fields
doctor src/http/ngx_http_request.h 's/^    ngx_pool_t  *\*pool;/#ifndef __clang__\n    ngx_uint_t doctored;\n#endif\n&/'
doctor src/core/ngx_file.h 's/^    off_t  *offset;/#ifndef __clang__\n    unsigned short offset;\n#else\n&\n#endif/'
doctor src/core/ngx_array.h 's/^    ngx_pool_t  *\*pool;/&\n#ifndef __clang__\n    ngx_uint_t doctored;\n#endif/'
refused 'ngx_http_request_s.pool is at byte ' 'ngx_file_s.offset is at byte ' 'ngx_array_t has 48 bytes for the C compiler and 40 in'

# An argument of nginx's own Makefile that bindgen is not told.
copy arguments
doctor objs/Makefile 's/^CFLAGS = /&-fpack-struct=4 /'
refused 'ngx_http_upstream_s.conf is at byte '

# A bit field that is read by a generated accessor.
mkdir -p "$work/accessor/src"
cat >"$work/accessor/Cargo.toml" <<'MANIFEST'
[package]
name = "accessor"
version = "0.0.0"
edition = "2024"

[dependencies]
nginx-sys = "0.5.0"

[workspace]
MANIFEST
cp Cargo.lock "$work/accessor/"
cat >"$work/accessor/src/lib.rs" <<'CODE'
pub unsafe fn sent(r: *const nginx_sys::ngx_http_request_t) -> bool {
    unsafe { (*r).header_sent() != 0 }
}
CODE
CLIPPY_CONF_DIR=$(nginx-module/lint.sh --where)
export CLIPPY_CONF_DIR
if CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target} "$cargo" clippy --offline \
    --manifest-path "$work/accessor/Cargo.toml" -- -D warnings >"$work/accessor.log" 2>&1; then
    fail "lint lets a generated accessor of a bit field pass"
fi
grep -q 'disallowed method .nginx_sys::ngx_http_request_s::header_sent' "$work/accessor.log" || {
    tail -n 30 "$work/accessor.log" >&2
    fail "lint does not name the accessor"
}
echo "refused: a generated accessor of a bit field"
