#!/bin/sh
# Checks the dependencies of both workspaces against deny.toml with cargo-deny, which is installed if it is missing.
#
# Licences, bans and sources are always checked. Advisories are checked where the database of RustSec can be fetched
# (https://github.com/rustsec/advisory-db). Where it can't, a line says so and the check passes; ADVISORIES=required
# makes that a failure, as the workflow does.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

# shellcheck disable=SC2086  # CARGO may have several words.
deny() {
    manifest=$1
    shift
    $cargo deny --manifest-path "$manifest" --config deny.toml --locked "$@"
}

# shellcheck disable=SC2086
$cargo deny --version >/dev/null 2>&1 || {
    echo "Installing cargo-deny"
    # Without optimization it is compiled in half the time, and runs for some seconds only.
    CARGO_PROFILE_DEV_DEBUG=none $cargo install --quiet --debug --locked cargo-deny
}

for manifest in Cargo.toml fuzz/Cargo.toml; do
    echo "$manifest: licences, bans, sources"
    deny "$manifest" check --hide-inclusion-graph licenses bans sources
done

if deny Cargo.toml fetch db >/dev/null 2>&1; then
    for manifest in Cargo.toml fuzz/Cargo.toml; do
        echo "$manifest: advisories"
        deny "$manifest" check advisories
    done
elif [ "${ADVISORIES:-}" = required ]; then
    echo "The advisory database can't be fetched, and ADVISORIES=required." >&2
    exit 1
else
    echo "Advisories are NOT checked: the advisory database can't be fetched from this network."
fi
