#!/usr/bin/env bash
# The build must end where the C compiler and the Rust bindings differ about a structure of nginx's, and lint must refuse
# what reads or writes a bit field in another way than src/bits.c. Each case is a copy of the headers, or of a piece of code,
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

# Builds against a doctored copy of the headers: $1 is its name, $2 the file, $3 a script for sed, $4 what the build must say.
# bindgen reads headers with clang's library: what it does not see there, and the C compiler does, is a difference.
doctored() {
    local name=$1 file=$2 script=$3 wanted=$4
    local tree=$work/$name
    mkdir -p "$tree"
    cp -R "$NGINX_SOURCE_DIR/src" "$tree/src"
    cp -R "$NGINX_BUILD_DIR" "$tree/objs"
    sed -i "$script" "$tree/$file"
    ! cmp -s "$tree/$file" "$NGINX_SOURCE_DIR/$file" && ! cmp -s "$tree/$file" "$NGINX_BUILD_DIR/${file#objs/}" ||
        fail "$name: the headers are as they were"
    if NGINX_SOURCE_DIR=$tree NGINX_BUILD_DIR=$tree/objs "$cargo" check --package "$package" >"$work/$name.log" 2>&1; then
        fail "$name: the build did not notice"
    fi
    grep -qF "nginx $version: $wanted" "$work/$name.log" || {
        grep '^error' "$work/$name.log" >&2 || tail -n 20 "$work/$name.log" >&2
        fail "$name: the build does not say: nginx $version: $wanted"
    }
    echo "refused: $name"
}

doctored one-field-more src/http/ngx_http_request.h \
    's/^    ngx_pool_t  *\*pool;/#ifndef __clang__\n    ngx_uint_t doctored;\n#endif\n&/' \
    'ngx_http_request_s.pool is at byte '
doctored another-size src/core/ngx_string.h \
    's/^    size_t  *len;/#ifndef __clang__\n    unsigned short len;\n#else\n&\n#endif/' \
    'ngx_str_t.len is at byte 0 with 2 bytes for the C compiler, and at byte 0 with 8 bytes in the Rust bindings'
doctored one-field-more-at-the-end src/core/ngx_array.h \
    's/^    ngx_pool_t  *\*pool;/&\n#ifndef __clang__\n    ngx_uint_t doctored;\n#endif/' \
    'ngx_array_t has '
# So is an argument of nginx's own Makefile that bindgen is not told.
doctored packed-structures objs/Makefile 's/^CFLAGS = /&-fpack-struct=4 /' 'ngx_http_upstream_s.conf is at byte '

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
