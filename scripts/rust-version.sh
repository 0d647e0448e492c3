#!/bin/sh
# Checks that cargo and rustc are as new as Cargo.toml asks for, and says what to do if they are not. An older cargo can't
# read that file, and complains of its syntax instead.
#
# CARGO and RUSTC name other programs than the ones in PATH. The check is run where cargo will be: rustup chooses by directory.
manifest=$(dirname "$0")/../Cargo.toml
minimum=$(sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' "$manifest")
advice='install it with rustup (https://rustup.rs; "rustup update stable" updates it), or name another with CARGO=… and RUSTC=…'

fail() {
    echo "Phantom Token needs Rust $minimum or newer, $1: $advice." >&2
    # Under sudo, PATH is root's, while rustup installs for one user.
    [ -z "${SUDO_USER:-}" ] || echo "Build without sudo: only \"make install\" needs it." >&2
    echo "docs/install.md names the packages of Debian that are new enough." >&2
    exit 1
}

check() {
    # CARGO may have several words.
    # shellcheck disable=SC2086
    said=$($1 --version 2>/dev/null) || fail "and \"$1\" $(missing "$1")"
    version=${said#* }
    version=${version%%[!0-9.]*}
    major=${version%%.*}
    minor=${version#*.}
    minor=${minor%%.*}
    case "$major:$minor" in
        :* | *: | *[!0-9:]*) fail "and \"$1 --version\" does not say which it is" ;;
    esac
    if [ "$major" -lt "${minimum%%.*}" ] ||
        { [ "$major" -eq "${minimum%%.*}" ] && [ "$minor" -lt "${minimum#*.}" ]; }; then
        fail "but \"$1\" is $version"
    fi
}

missing() {
    if command -v "${1%% *}" >/dev/null; then
        echo "does not run"
    else
        echo "is not there"
    fi
}

check "${CARGO:-cargo}"
check "${RUSTC:-rustc}"
