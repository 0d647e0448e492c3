#!/usr/bin/env bash
# Runs scripts in a throw-away copy of a system: what they install, build and change is gone afterwards.
#
#   enter.sh ROOT CHECKOUT SCRIPT [OFFLINE_SCRIPT]
#
# ROOT is the root folder of a system, / for this one. The checkout and Rust are in the copy at the same paths as here.
# OFFLINE_SCRIPT is run afterwards, with no network but a loopback of its own, so that ports are free. The programs in bin/
# stand for what is not there. Needs root, mount namespaces and overlayfs.
#
# RUST_BIN  the folder of cargo, if it is not the system's own
# TARGET    what cargo has compiled already, for the checkout's target/; without it, what is there
# SERVED    a folder with the releases that nginx.org would serve
set -euo pipefail

if [ "${1:-}" != --mounted ]; then
    exec unshare --mount --propagation private "$0" --mounted "$@"
fi
shift
from=$1
checkout=$2
shift 2

# In memory: an overlay's upper folder can't be in its lower one, nor in another overlay.
layer=$(mktemp -d)
trap 'umount -l "$layer" && rmdir "$layer"' EXIT
mount -t tmpfs -o size=80% tmpfs "$layer"

# A copy of a folder, of which only what changes takes space.
layers=0
copy() {
    layers=$((layers + 1))
    mkdir -p "$layer/$layers/upper" "$layer/$layers/work" "$2"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$layer/$layers/upper,workdir=$layer/$layers/work" "$2"
}

root=$layer/root
copy "$from" "$root"
if [ "$from" != / ]; then
    copy "$checkout" "$root$checkout"
    for folder in "${CARGO_HOME:-$HOME/.cargo}" "${RUSTUP_HOME:-$HOME/.rustup}"; do
        [ ! -d "$folder" ] || copy "$folder" "$root$folder"
    done
    # A certificate authority of this network, if there is one, is known to this system alone.
    copy /etc/ssl/certs "$root/etc/ssl/certs"
fi
[ -z "${TARGET:-}" ] || copy "$TARGET" "$root$checkout/target"
for folder in /proc /dev /sys; do
    mount --rbind "$folder" "$root$folder"
done
cp --remove-destination /etc/resolv.conf /etc/hosts "$root/etc/"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
if [ -n "${SERVED:-}" ]; then
    mkdir -p "$root$SERVED"
    mount --bind "$SERVED" "$root$SERVED"
fi

# apt asks nothing, and what it installs is not started.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
printf '%s\n' 'APT::Get::Assume-Yes "true";' 'APT::Install-Recommends "false";' 'Acquire::Check-Valid-Until "false";' \
    'Dpkg::Use-Pty "false";' >"$root/etc/apt/apt.conf.d/99harness"
install -m 755 "$(dirname "$0")"/bin/* "$root/usr/local/bin/"

chroot=$(command -v chroot)
run() {
    # A user's PATH on Debian: nginx is not in it.
    env -i HOME="$HOME" TERM=dumb LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive MAKEFLAGS="-j$(nproc)" \
        PATH="${RUST_BIN:+$RUST_BIN:}/usr/local/bin:/usr/bin:/bin" \
        ${CARGO_HOME:+CARGO_HOME="$CARGO_HOME"} ${RUSTUP_HOME:+RUSTUP_HOME="$RUSTUP_HOME"} \
        ${RUSTUP_TOOLCHAIN:+RUSTUP_TOOLCHAIN="$RUSTUP_TOOLCHAIN"} ${SERVED:+SERVED="$SERVED"} \
        "$chroot" "$root" bash -euo pipefail -c 'cd "$1" && . /dev/stdin' bash "$checkout"
}

run <"$1"
if [ $# -gt 1 ]; then
    export -f run
    export root checkout chroot
    unshare --net bash -euc 'python3 "$1" && run <"$2"' bash "$(dirname "$0")/loopback.py" "$2"
fi
