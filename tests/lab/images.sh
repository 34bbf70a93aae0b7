#!/usr/bin/env bash
# Loads the test images for the lab host, whose /var/lib/beluga is target/lab/root
# under an overlay. Done here and not there: in emulation it takes minutes.
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}
beluga=$target/release/beluga
work=$target/lab

# What is loaded is of these archives, by this program.
key=$(stat -c '%n %s %Y' "$beluga" "$target"/images/*.tar)
[ "$key" != "$(cat "$work/loaded" 2>/dev/null)" ] || exit 0
rm -rf "$work"
mkdir -p "$work"
for image in "$target"/images/*.tar; do
    "$beluga" --root "$work/root" --state "$work/state" load -q -i "$image" >/dev/null
done
echo "$key" >"$work/loaded"
