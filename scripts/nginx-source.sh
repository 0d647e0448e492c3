#!/usr/bin/env bash
# Prints the folder of nginx's sources in the crate nginx-src: the newest stable release of nginx that a registry has.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/src"
: >"$scratch/src/lib.rs"
cat >"$scratch/Cargo.toml" <<'END'
[package]
name = "fetch"
version = "0.0.0"
edition = "2024"

[dependencies]
nginx-src = "1.28"

[workspace]
END
# Cargo has the sources of a crate unpacked after a fetch, and says where.
"${CARGO:-cargo}" metadata --quiet --format-version 1 --manifest-path "$scratch/Cargo.toml" |
    python3 -c 'import json, os, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "nginx-src":
        print(os.path.join(os.path.dirname(package["manifest_path"]), "nginx"))'
