#!/usr/bin/env bash
# Fuzz targets for a given time each; the gate runs the same for two seconds.
#
#   tests/fuzz.sh [SECONDS]
#
# Once as built by the pinned toolchain, and once under the address sanitizer
# where a nightly toolchain is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
export FUZZ_SECONDS=${1:-60}
crates=(-p beluga-proto -p beluga-image -p beluga-runtime -p beluga-vmm -p beluga-agent -p beluga-share)
cargo test --locked --release -q "${crates[@]}" fuzz -- --nocapture
if cargo +nightly --version >/dev/null 2>&1; then
    RUSTFLAGS=-Zsanitizer=address cargo +nightly test --locked -q --target x86_64-unknown-linux-gnu \
        --target-dir target/sanitizer "${crates[@]}" fuzz -- --nocapture
else
    echo "fuzz: no nightly toolchain: the run under the address sanitizer is skipped" >&2
fi
