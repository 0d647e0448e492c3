#!/usr/bin/env bash
# Makes the targets that are named one after the other, and says how long each took.
#
#   parts.sh TARGET…
set -euo pipefail
took=()
report() {
    [ "${#took[@]}" -eq 0 ] || printf '%s\n' "${took[@]}"
}
trap report EXIT
for part in "$@"; do
    began=$SECONDS
    "${MAKE:-make}" --no-print-directory "$part" || {
        took+=("$(printf '%6d s  %s  FAILED' $((SECONDS - began)) "$part")")
        exit 1
    }
    took+=("$(printf '%6d s  %s' $((SECONDS - began)) "$part")")
done
