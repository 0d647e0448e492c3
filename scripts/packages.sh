#!/usr/bin/env bash
# Installs the Debian packages that a purpose needs and that are missing, after one line that names them. When all are
# there, it does nothing and prints nothing. `make deps` calls it.
#
#   scripts/packages.sh PURPOSE        build, module, demo, test, bench, matrix, root
#   scripts/packages.sh list PURPOSE   prints their names
set -euo pipefail

build=(build-essential pkg-config)
module=("${build[@]}" libclang-dev libpcre2-dev zlib1g-dev libssl-dev)
# A named source tree replaces Debian's nginx and its headers, which would be in the way of another nginx.
[ -n "${NGINX_SOURCE_DIR:-}${NGINX_BUILD_DIR:-}" ] || module+=(nginx nginx-dev)
demo=("${module[@]}" python3 curl)
test=("${demo[@]}" python3-venv clang libclang-rt-14-dev valgrind gdb nodejs npm procps
      chromium prometheus)
bench=("${demo[@]}" python3-venv wrk)
# For tests with other releases' nginx; and for the root folder of such a release.
matrix=("${test[@]}" debootstrap debian-archive-keyring mount util-linux)
root=("${module[@]}" nginx nginx-dev ca-certificates curl dpkg-dev python3-minimal valgrind)

list=
if [ "${1:-}" = list ]; then
    list=1
    shift
fi
case "${1:-}" in
    build | module | demo | test | bench | matrix | root) ;;
    *) echo "usage: $0 [list] build|module|demo|test|bench|matrix|root" >&2; exit 2 ;;
esac
purpose=$1
declare -n wanted="$purpose"
if [ -n "$list" ]; then
    printf '%s\n' "${wanted[@]}"
    exit
fi

# A program that was installed in another way (Node from upstream, say) is as good as its package.
provided() {
    case "$1" in
        nodejs) command -v node ;;
        prometheus) command -v promtool ;;
        npm | chromium | valgrind | gdb | clang | wrk | curl | python3 | nginx) command -v "$1" ;;
        python3-venv) python3 -c 'import ensurepip, venv' ;;
        *) dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii' ;;
    esac >/dev/null 2>&1
}

missing=()
for package in "${wanted[@]}"; do
    provided "$package" || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "Missing: ${missing[*]} (names of Debian). Install the packages of your system that provide them, then run this again." >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Missing packages. As root: apt-get update && apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "Installing Debian packages that $purpose needs (apt-get install${as_root:+, with sudo}): ${missing[*]}"
"${as_root[@]}" apt-get update -qq
# nginx's package would start it on port 80: a policy keeps services from being started.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
