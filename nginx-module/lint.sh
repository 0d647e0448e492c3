#!/usr/bin/env bash
# Runs clippy on the module. It also refuses the accessors that bindgen generates for nginx's bit fields: build.rs lists
# those of this nginx in a clippy.toml.
#
#   build.sh with lint.sh            runs it
#   build.sh with lint.sh --where    prints the folder of that clippy.toml
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
package=ngx_http_phantom_token_module

# Prints the folder in which the build script has written clippy.toml, as cargo reports it.
where() {
    local messages
    messages=$("$cargo" check --package "$package" --message-format json 2>/dev/null) || {
        "$cargo" check --package "$package" >&2
        exit 1
    }
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["reason"] == "build-script-executed" and sys.argv[1] in message["package_id"]:
        print(message["out_dir"])' "$package" <<<"$messages"
}

CLIPPY_CONF_DIR=$(where)
[ -s "$CLIPPY_CONF_DIR/clippy.toml" ] || {
    echo "The build script of $package has not listed nginx's bit fields." >&2
    exit 1
}
if [ "${1:-}" = --where ]; then
    echo "$CLIPPY_CONF_DIR"
    exit
fi
export CLIPPY_CONF_DIR
"$cargo" clippy --package "$package" -- -D warnings
