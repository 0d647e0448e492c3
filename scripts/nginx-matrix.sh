#!/usr/bin/env bash
# Runs the end-to-end tests with the nginx of several releases, each with a module that is built against its own headers.
#
#   nginx-matrix.sh fetch [ENTRY…]   makes everything that needs the network: root folders, nginx
#   nginx-matrix.sh build [ENTRY…]   and their modules
#   nginx-matrix.sh test [ENTRY…]    and runs the tests
#   nginx-matrix.sh own-build        nginx's own build with the module, in the newest's root folder
#   nginx-matrix.sh others           prints the entries that `make test-nginx` does not run here
#
#   bookworm   Debian 12's nginx, 1.22: the whole suite. On Debian 12 it is this system's, as for `make test-nginx`
#   trixie     Debian 13's, 1.26: the tests in `some`
#   1.28       built from the crate nginx-src on this system, as nginx.org configures its packages: the tests in `some`
#   forky      Debian 14's: the whole suite, and nginx's own build with the module in it, static and dynamic
#
# `make test-nginx-matrix` builds everything else that this needs, and calls it.
#
# PHANTOM_TOKEN_AS      the example authorization server
# PHANTOM_TOKEN_CACHE   where root folders, packages and nginx 1.28 are kept ($XDG_CACHE_HOME/phantom-token)
# PYTEST                how tests are run (.venv/bin/python -m pytest)
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
cache=${PHANTOM_TOKEN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/phantom-token}
read -ra pytest <<<"${PYTEST:-$checkout/.venv/bin/python -m pytest}"
# Skipped tests are listed, with the reason.
pytest+=(-rs)
name=ngx_http_phantom_token_module.so

entries=(bookworm trixie 1.28 forky)
newest=forky
suites=(tests/nginx tests/oidc_provider tests/oauth_toolkit tests/token_exchange tests/minted)
some=(outcomes redirects hostile sources suspension sender dpop_uri taking_over zone http3 valgrind)

# As nginx.org's packages are.
configuration=(
    --with-compat --with-file-aio --with-threads
    --with-http_addition_module --with-http_auth_request_module --with-http_dav_module --with-http_flv_module
    --with-http_gunzip_module --with-http_gzip_static_module --with-http_mp4_module --with-http_random_index_module
    --with-http_realip_module --with-http_secure_link_module --with-http_slice_module --with-http_ssl_module
    --with-http_stub_status_module --with-http_sub_module --with-http_v2_module --with-http_v3_module
    --with-mail --with-mail_ssl_module
    --with-stream --with-stream_realip_module --with-stream_ssl_module --with-stream_ssl_preread_module
    "--with-cc-opt=-g -O2 -fstack-protector-strong -Wp,-D_FORTIFY_SOURCE=2 -fPIC"
    "--with-ld-opt=-Wl,-z,relro -Wl,-z,now -Wl,--as-needed -pie"
)

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# How an entry's nginx is had: `here`, in a `root` folder, or `built`.
kind() {
    case $1 in
        bookworm)
            if grep -qs '^VERSION_CODENAME=bookworm$' /etc/os-release; then echo here; else echo root; fi
            ;;
        1.28) echo built ;;
        *) echo root ;;
    esac
}

module() {
    case $(kind "$1") in
        here) echo "build/modules/$name" ;;
        *) echo "build/matrix/$1/$name" ;;
    esac
}

# The nginx of the crate nginx-src, which needs no root folder.
make_nginx() {
    local tree=$cache/nginx/1.28 state source began=$SECONDS
    state=$(printf '%s\n' "${configuration[@]}"; cc --version; openssl version)
    mkdir -p "$cache/nginx"
    exec 8>"$cache/nginx/lock"
    flock 8
    if [ -r "$tree/.made-of" ] && [ "$(cat "$tree/.made-of")" = "$state" ]; then
        return
    fi
    rm -rf "$tree"
    source=$(scripts/nginx-source.sh)
    cp -R "$source" "$tree"
    echo "Building nginx $(sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$tree/src/core/nginx.h")"
    (
        cd "$tree"
        configure=./configure
        [ -e "$configure" ] || configure=auto/configure
        bash "$configure" --prefix="$tree/run" "${configuration[@]}"
        make -j"$(nproc)"
    ) >"$tree.log" 2>&1 8>&- || {
        tail -n 30 "$tree.log" >&2
        fail "nginx can't be built; the whole log is $tree.log"
    }
    printf '%s\n' "$state" >"$tree/.made-of"
    echo "Built it in $((SECONDS - began)) s: $tree"
}

# Fetches all entries at the same time: they mostly wait for the network.
fetch() {
    local entry failed=0 pid pids=()
    for entry in "$@"; do
        case $(kind "$entry") in
            root) scripts/debian-root.sh make "$entry" >/dev/null & ;;
            built) make_nginx & ;;
            here) continue ;;
        esac
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || failed=1
    done
    return "$failed"
}

# What cargo compiles for an entry has its own folder, so that nothing is compiled again when another entry has been built,
# and build scripts that were linked in a later release are not run in an earlier one. All that does not know nginx is
# taken from what was compiled for this system: cryptography is compiled once.
seed() {
    local from=${CARGO_TARGET_DIR:-$checkout/target}/release to=$1/release
    mkdir -p "$to"/{deps,build,.fingerprint}
    # Libraries are large, and never changed but replaced: they can be the same files. Times are what cargo compares.
    (cd "$from/deps" && find . -type f ! -name '*ngx*' ! -name '*nginx*' -exec cp --archive --update --link --force -t "$to/deps" {} +)
    local part
    for part in build .fingerprint; do
        (cd "$from/$part" && find . -mindepth 1 -maxdepth 1 ! -name '*ngx*' ! -name '*nginx*' \
            -exec cp --archive --update -t "$to/$part" {} +)
    done
}

# Whether programs of this system run in the root folder: its C library is not older.
runs_ours() {
    [ "$(kind "$1")" != root ] || printf '%s\n' "$(getconf GNU_LIBC_VERSION)" \
        "$(scripts/debian-root.sh inside "$1" getconf GNU_LIBC_VERSION)" | sort --check=quiet --version-sort
}

# Runs a command with the target folder of an entry in the place of this system's.
with_target() {
    local entry=$1 target=$checkout/build/matrix/$1/target
    shift
    if [ "$(kind "$entry")" = root ]; then
        PHANTOM_TOKEN_TARGET=$target scripts/debian-root.sh inside "$entry" "$@"
    else
        # shellcheck disable=SC2016
        unshare --mount --propagation private bash -c 'mount --bind "$1" "$2" && shift 2 && exec "$@"' \
            bash "$target" "${CARGO_TARGET_DIR:-$checkout/target}" "$@"
    fi
}

# One after the other: cargo uses all processors.
build() {
    local entry began variables
    began=$SECONDS
    make --no-print-directory module
    echo "this system's: built in $((SECONDS - began)) s"
    for entry in "$@"; do
        began=$SECONDS
        case $(kind "$entry") in
            here) continue ;;
            built) variables=(NGINX_SOURCE_DIR="$cache/nginx/$entry" NGINX_BINARY="$cache/nginx/$entry/objs/nginx") ;;
            root) variables=(NGINX_SOURCE_DIR= NGINX_BINARY=nginx) ;;
        esac
        mkdir -p "build/matrix/$entry/target"
        ! runs_ours "$entry" || seed "$checkout/build/matrix/$entry/target"
        with_target "$entry" make --no-print-directory module MODULE="$(module "$entry")" NGINX_BUILD_DIR= \
            "${variables[@]}" || fail "$entry: the module can't be built"
        echo "$entry: built in $((SECONDS - began)) s"
    done
}

whole() {
    [ "$1" = bookworm ] || [ "$1" = "$newest" ]
}

# The tests of one entry, by as many processes as are said.
run_tests() {
    local entry=$1 processes=$2 chosen=() one
    if whole "$entry"; then
        chosen=("${suites[@]}")
    else
        for one in "${some[@]}"; do
            [ ! -e "tests/nginx/test_$one.py" ] || chosen+=("tests/nginx/test_$one.py")
        done
    fi
    export PHANTOM_TOKEN_MODULE=$checkout/$(module "$entry") PHANTOM_LOG_LEVEL=${PHANTOM_LOG_LEVEL:-debug}
    case $(kind "$entry") in
        here) "${pytest[@]}" -n "$processes" "${chosen[@]}" ;;
        built) NGINX_BINARY=$cache/nginx/$entry/objs/nginx "${pytest[@]}" -n "$processes" "${chosen[@]}" ;;
        root)
            NGINX_BINARY=nginx NGINX_ROOT=$(scripts/debian-root.sh path "$entry") \
                scripts/debian-root.sh beside "$entry" "${pytest[@]}" -n "$processes" "${chosen[@]}"
            ;;
    esac
}

# nginx's own build, in the newest's root folder: of its own sources or, where the mirror has none of that version, of
# those in the crate.
own_build() {
    local source=/usr/src/nginx
    if [ "$(kind "$newest")" != root ]; then
        fail "$newest is no root folder"
    fi
    # shellcheck disable=SC2016
    scripts/debian-root.sh inside "$newest" bash -c '
        [ ! -e "$1/src/core/nginx.c" ] || exit 0
        rm -rf "$1" && mkdir -p "$1.deb" && cd "$1.deb" &&
            apt-get source -qq -o APT::Sandbox::User=root --download-only nginx &&
            dpkg-source --no-check --extract nginx_*.dsc "$1"' bash "$source" || {
        source=$(scripts/nginx-source.sh)
        echo "The mirror has no sources of $newest's nginx: those of the crate nginx-src are built there."
    }
    with_target "$newest" nginx-module/tests/configure.sh "$source"
}

# Runs a function, and prints its output when it has ended, not mixed with that of others.
step() {
    local what=$1 began=$SECONDS log
    shift
    mkdir -p build/matrix
    log=build/matrix/${what// /-}.log
    if "$@" >"$log" 2>&1; then
        printf '== %s: passed in %s s. %s\n' "$what" $((SECONDS - began)) "$(tail -n 1 "$log")"
    else
        printf '== %s: FAILED after %s s\n' "$what" $((SECONDS - began))
        cat "$log"
        return 1
    fi
}

part_lane() {
    local entry failed=0
    for entry in "${parts[@]}"; do
        step "$entry" run_tests "$entry" "$processes" || failed=1
    done
    return "$failed"
}

whole_lane() {
    local entry failed=0
    for entry in "${wholes[@]}"; do
        step "$entry" run_tests "$entry" "$processes" || failed=1
        if [ "$entry" = "$newest" ]; then
            step "$entry own build" own_build || failed=1
        fi
    done
    return "$failed"
}

# Two at a time: whole suites, and beside them what takes a part of it.
run_all() {
    local entry failed=0 parts=() wholes=() processes first
    for entry in "$@"; do
        if whole "$entry"; then wholes+=("$entry"); else parts+=("$entry"); fi
    done
    processes=$(nproc)
    if [ "${#parts[@]}" -eq 0 ] || [ "${#wholes[@]}" -eq 0 ]; then
        processes=$((2 * processes))
    fi
    part_lane &
    first=$!
    whole_lane || failed=1
    wait "$first" || failed=1
    return "$failed"
}

command=${1:-}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- "${entries[@]}"
for entry in "$@"; do
    case " ${entries[*]} " in
        *" $entry "*) ;;
        *) fail "There is no entry $entry in the matrix: ${entries[*]}" ;;
    esac
done
began=$SECONDS
case "$command" in
    others)
        for entry in "${entries[@]}"; do
            [ "$(kind "$entry")" = here ] || echo "$entry"
        done
        ;;
    fetch) fetch "$@" ;;
    own-build)
        fetch "$newest"
        own_build
        ;;
    build)
        fetch "$@"
        build "$@"
        ;;
    test)
        fetch "$@"
        build "$@"
        run_all "$@" || fail "The matrix has failed: see above."
        echo "The matrix took $((SECONDS - began)) s: $*"
        ;;
    *) fail "usage: $0 fetch|build|test|own-build|others [ENTRY…]" ;;
esac
