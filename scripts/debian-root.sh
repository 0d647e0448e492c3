#!/usr/bin/env bash
# Root folders of Debian releases, with the packages that the module is built and tested with there.
#
#   debian-root.sh possible                says what is missing here for that, and fails
#   debian-root.sh make SUITE              makes the root folder unless it is there, and prints its path
#   debian-root.sh path SUITE              prints its path
#   debian-root.sh inside SUITE COMMAND…   runs a command in it, with this checkout, /tmp and Rust at their own paths
#   debian-root.sh beside SUITE COMMAND…   runs a command of this system; what it starts in the root folder with chroot
#                                          sees the same files
#
# Needs root and debootstrap. Mounts are made in a private mount namespace: they end with the command.
#
# PHANTOM_TOKEN_CACHE    where root folders and packages are kept ($XDG_CACHE_HOME/phantom-token)
# PHANTOM_TOKEN_MIRROR   the Debian mirror (the one that apt uses here)
# PHANTOM_TOKEN_REFRESH  1 makes root folders again, with the packages of today
# PHANTOM_TOKEN_TARGET   a folder that is cargo's target folder for the command, in the place of the real one
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
cache=${PHANTOM_TOKEN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/phantom-token}
cargo=${CARGO:-cargo}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# Changed when roots have to be made again although the packages are the same.
recipe=1

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

requirements() {
    [ "$(id -u)" -eq 0 ] || fail "A root folder of another Debian release is made and entered by root only."
    local program
    for program in debootstrap unshare chroot flock; do
        command -v "$program" >/dev/null || fail "$program is missing: scripts/packages.sh matrix installs it."
    done
    [ -r "$keyring" ] || fail "$keyring is missing: install debian-archive-keyring."
    unshare --mount --propagation private true 2>/dev/null ||
        fail "This system allows no mount namespace (unshare --mount): a container needs CAP_SYS_ADMIN for that."
}

mirror() {
    local found=
    if [ -z "${PHANTOM_TOKEN_MIRROR:-}" ] && command -v apt-get >/dev/null; then
        found=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
            sed -n 's/^Debian //p' | sed 1q) || found=
    fi
    found=${PHANTOM_TOKEN_MIRROR:-$found}
    [ -n "$found" ] || fail "apt knows no Debian mirror here (after apt-get update): name one with PHANTOM_TOKEN_MIRROR."
    printf '%s\n' "$found"
}

# The list of a root folder's ingredients, for its name and stamp.
state() {
    printf '%s\n' "recipe $recipe" "suite $suite"
    "$checkout/scripts/packages.sh" list root | LC_ALL=C sort -u
}

# Root folders for other packages are other folders: checkouts share them, and one that has another list must not take
# a root folder away from tests that run in it.
root_of() {
    printf '%s\n' "$cache/roots/$suite-$(state | cksum | cut -d ' ' -f 1)"
}

# The stamp is written last.
complete() {
    [ -e "$root/.made-of" ]
}

# Root folders that no checkout has used for a month.
forget_old() {
    local stamp
    find "$cache/roots" -mindepth 2 -maxdepth 2 -name .made-of -mtime +30 | while read -r stamp; do
        rm -rf "$(dirname "$stamp")"
    done
}

make_root() {
    requirements
    mkdir -p "$cache/roots" "$cache/debs/$suite"
    exec 8>"$cache/roots/$suite.lock"
    flock 8
    if complete && [ "${PHANTOM_TOKEN_REFRESH:-}" != 1 ]; then
        touch "$root/.made-of"
        return
    fi
    forget_old
    local began=$SECONDS log=$cache/roots/$suite.log
    echo "Making a root folder of Debian $suite" >&2
    rm -rf "$root.new"
    # Child processes don't inherit the lock: they would hold it for as long as they run.
    unshare --mount --propagation private "$0" populate "$suite" 8>&- >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        fail "The root folder of Debian $suite can't be made; the whole log is $log"
    }
    state >"$root.new/.made-of"
    rm -rf "$root"
    mv "$root.new" "$root"
    echo "Made it in $((SECONDS - began)) s: $root" >&2
}

# In the namespace.
populate() {
    local new=$root.new script=/usr/share/debootstrap/scripts/$suite from proxy
    # debootstrap knows the releases of its day; those of later days are made as unstable is.
    [ -e "$script" ] || script=sid
    from=$(mirror)
    # debootstrap does not read apt's settings.
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "${proxy:-}" ] || export http_proxy=$proxy
    debootstrap --variant=minbase --keyring="$keyring" --cache-dir="$cache/debs/$suite" \
        "$suite" "$new" "$from" "$script"

    # Nothing is started, synced to disk or installed to be read. A mirror may lag behind, or be a snapshot: what
    # counts is that it is signed.
    printf '#!/bin/sh\nexit 101\n' >"$new/usr/sbin/policy-rc.d"
    chmod +x "$new/usr/sbin/policy-rc.d"
    cat >"$new/etc/dpkg/dpkg.cfg.d/matrix" <<'END'
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
END
    cat >"$new/etc/apt/apt.conf.d/matrix" <<'END'
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
Acquire::Languages "none";
APT::Keep-Downloaded-Packages "true";
APT::Install-Recommends "false";
END
    printf 'deb %s %s main\ndeb-src %s %s main\n' "$from" "$suite" "$from" "$suite" >"$new/etc/apt/sources.list"
    mounts "$new"
    mount --bind "$cache/debs/$suite" "$new/var/cache/apt/archives"
    mkdir -p "$new/var/cache/apt/archives/partial"
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
    chroot "$new" "$checkout/scripts/packages.sh" root
    chroot "$new" apt-get autoclean -qq
}

# Mounts that the root folder and this system share, at the same paths: a process sees the same files in both.
mounts() {
    local into=$1 folder
    for folder in /proc /dev; do
        mount --rbind "$folder" "$into$folder"
    done
    for folder in /etc/hosts /etc/resolv.conf; do
        [ -e "$folder" ] || continue
        [ -e "$into$folder" ] || : >"$into$folder"
        mount --bind "$(realpath "$folder")" "$into$folder"
    done
    for folder in /tmp "${TMPDIR:-/tmp}" "$checkout" "${CARGO_TARGET_DIR:-$checkout}" $(rust); do
        [ -d "$folder" ] || continue
        mkdir -p "$into$folder"
        mount --bind "$folder" "$into$folder"
    done
    if [ -n "${PHANTOM_TOKEN_TARGET:-}" ]; then
        mount --bind "$PHANTOM_TOKEN_TARGET" "${into%/}${CARGO_TARGET_DIR:-$checkout/target}"
    fi
}

# The folders that Rust is in.
rust() {
    local program
    program=$(command -v "$cargo") || fail "There is no cargo here (CARGO=$cargo)."
    case $(rustc --print sysroot) in
        /usr) fail "Rust is a package of this system, and would not run in another: rustup's is needed." ;;
    esac
    {
        printf '%s\n' "${CARGO_HOME:-$HOME/.cargo}" "${RUSTUP_HOME:-$HOME/.rustup}"
        rustc --print sysroot
        dirname "$(realpath "$program")"
    } | sort -u | awk 'NR == 1 || index($0, last "/") != 1 { print; last = $0 }'
}

command=${1:-}
suite=${2:-}
if [ "$command" = possible ]; then
    requirements
    exit
fi
[ -n "$suite" ] || fail "usage: $0 make|path|inside|beside SUITE [COMMAND…]"
shift 2
root=$(root_of)
case "$command" in
    path) printf '%s\n' "$root" ;;
    make)
        make_root
        printf '%s\n' "$root"
        ;;
    inside | beside)
        requirements
        complete || fail "There is no root folder of Debian $suite, or an outdated one: $0 make $suite"
        exec unshare --mount --propagation private "$0" "mounted-$command" "$suite" "$@"
        ;;
    populate) populate ;;
    mounted-inside)
        mounts "$root"
        # shellcheck disable=SC2016
        exec chroot "$root" /bin/bash -c 'cd "$1" && shift && exec "$@"' bash "$PWD" "$@"
        ;;
    mounted-beside)
        mounts "$root"
        exec "$@"
        ;;
    *) fail "usage: $0 make|path|inside|beside SUITE [COMMAND…]" ;;
esac
