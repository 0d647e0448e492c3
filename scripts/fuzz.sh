#!/bin/sh
# Runs the fuzz targets one after the other: all of them, or those named. It needs a nightly compiler
# and cargo-fuzz, which is installed if it is missing.
#
#   FUZZ_SECONDS=60 scripts/fuzz.sh introspection
#
# The corpus in fuzz/corpus is read and not changed: new inputs go to fuzz/target/found, and `MERGE=1` moves those
# that reach new code into the corpus. A finding ends the run, with the input in fuzz/artifacts: copy it
# into the corpus under a descriptive name, and `cargo test` replays it from then on.
set -eu
cd "$(dirname "$0")/.."

SECONDS_EACH=${FUZZ_SECONDS:-600}
TOOLCHAIN=${FUZZ_TOOLCHAIN:-nightly}

cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
targets=${*:-$(cargo +"$TOOLCHAIN" fuzz list)}

for target in $targets; do
    case $target in
        config) dictionary=config ;;
        authorization | certificate | purge | source) dictionary=header ;;
        *) dictionary=json ;;
    esac
    corpus=fuzz/corpus/$target
    found=fuzz/target/found/$target
    mkdir -p "$found"
    echo "$target: $SECONDS_EACH s"
    cargo +"$TOOLCHAIN" fuzz run "$target" "$found" "$corpus" -- \
        -dict="fuzz/dictionaries/$dictionary.dict" -max_total_time="$SECONDS_EACH" \
        -rss_limit_mb=2048 -timeout=10 -print_final_stats=1
    if [ -n "${MERGE:-}" ]; then
        cargo +"$TOOLCHAIN" fuzz run "$target" "$corpus" "$found" -- -set_cover_merge=1 -use_counters=0 -max_len=4096
    fi
done
