#!/usr/bin/env bash
# Runs end-to-end tests with the module under AddressSanitizer.
#
#   nginx-asan.sh here     in this system's nginx
#   nginx-asan.sh SUITE    in that of a root folder (debian-root.sh)
#
# The module, and all of Rust that is linked into it, is compiled with the sanitizer and with Rust's debug assertions.
# nginx is the release's own binary, which the sanitizer's library is loaded into: it watches what nginx allocates and
# frees too. -Zsanitizer is no stable option of rustc yet; RUSTC_BOOTSTRAP lets a stable compiler take it. Nothing of this
# is shipped.
#
# PHANTOM_TOKEN_AS   the example authorization server
# PYTEST             how tests are run (.venv/bin/python -m pytest)
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
suite=${1:?usage: $0 here|SUITE}
read -ra pytest <<<"${PYTEST:-$checkout/.venv/bin/python -m pytest}"
chosen=(outcomes hostile sources suspension sender taking_over variables forward purge)
module=ngx_http_phantom_token_module
target=$checkout/build/asan/target
place=$checkout/build/asan/$suite
triple=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$place"

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Runs a command where the nginx is.
inside() {
    if [ "$suite" = here ]; then "$@"; else scripts/debian-root.sh inside "$suite" "$@"; fi
}

library=$(inside "${CC:-cc}" -print-file-name=libasan.so)
case $library in
    /*) library=$(inside realpath "$library") ;;
    *) fail "The compiler has no libasan.so: install that of gcc." ;;
esac

# A target is named, so that what is run to build is compiled without the sanitizer.
inside env RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address NGINX_SOURCE_DIR= NGINX_BUILD_DIR= NGINX_BINARY=nginx \
    nginx-module/build.sh with \
    "${CARGO:-cargo}" build --quiet --target "$triple" --target-dir "$target" --package "$module"
cp "$target/$triple/debug/lib$module.so" "$place/$module.so"
inside nm --dynamic --undefined-only "$place/$module.so" | grep -w __asan_init >/dev/null ||
    fail "The module is compiled without the sanitizer."

# It would tell: a byte too many ends the process, with a report.
cat >"$place/canary.rs" <<'END'
#[unsafe(no_mangle)]
pub extern "C" fn overrun(length: usize) -> u8 {
    let bytes = vec![1u8; length];
    unsafe { std::ptr::read_volatile(bytes.as_ptr().add(length)) }
}
END
inside env RUSTC_BOOTSTRAP=1 rustc -Zsanitizer=address --target "$triple" --edition 2024 --crate-type cdylib \
    -o "$place/canary.so" "$place/canary.rs"
if inside env LD_PRELOAD="$library" ASAN_OPTIONS=detect_leaks=0 python3 -c '
import ctypes, sys
ctypes.CDLL(sys.argv[1]).overrun(17)' "$place/canary.so" >"$place/canary.log" 2>&1; then
    fail "AddressSanitizer lets a read beyond the end of an allocation pass."
fi
grep -q 'AddressSanitizer: heap-buffer-overflow' "$place/canary.log" || {
    cat "$place/canary.log" >&2
    fail "AddressSanitizer does not report a read beyond the end of an allocation."
}

# Of the same name when it starts itself again: with the sanitizer.
cat >"$place/nginx" <<END
#!/bin/bash
export LD_PRELOAD=$library ASAN_OPTIONS=detect_leaks=0:abort_on_error=1
exec -a "\$0" "$(inside sh -c 'PATH=$PATH:/usr/sbin command -v nginx')" "\$@"
END
chmod +x "$place/nginx"

export NGINX_BINARY=$place/nginx PHANTOM_TOKEN_MODULE=$place/$module.so
chosen=("${chosen[@]/#/tests/nginx/test_}")
if [ "$suite" = here ]; then
    "${pytest[@]}" "${chosen[@]/%/.py}"
else
    NGINX_ROOT=$(scripts/debian-root.sh path "$suite")
    export NGINX_ROOT
    scripts/debian-root.sh beside "$suite" "${pytest[@]}" "${chosen[@]/%/.py}"
fi
