#!/usr/bin/env bash
# Fuzz targets for a given time each; the gate runs the same for two seconds.
#
#   tests/fuzz.sh [SECONDS]
#
# Once as built for users, and once under the address sanitizer.
set -euo pipefail
cd "$(dirname "$0")/.."
export FUZZ_SECONDS=${1:-60}
crates=(-p beluga-proto -p beluga-image -p beluga-runtime -p beluga-vmm -p beluga-agent -p beluga-share)
cargo test --locked --release -q "${crates[@]}" fuzz -- --nocapture
# Sanitizers are of no released compiler, but its runtime comes with this one.
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --locked -q --target x86_64-unknown-linux-gnu \
    --target-dir target/sanitizer "${crates[@]}" fuzz -- --nocapture
