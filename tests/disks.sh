#!/usr/bin/env bash
# Runs in the lab host: the agent's own test of layers and quota, on real disks.
#
#   tests/disks.sh AGENT_TESTS LAYER     the agent's test program; an EROFS disk of busybox
set -euo pipefail
work=$(mktemp -d /run/beluga-disks.XXXXXX)
# On a machine whose KVM is able this is no lab host: it stays as it was.
tidy() {
    losetup -j "$work/layer" -O NAME -n | xargs -r losetup -d
    losetup -j "$work/scratch" -O NAME -n | xargs -r losetup -d
    rm -rf "$work"
}
trap tidy EXIT
cp "$2" "$work/layer"
truncate -s 64M "$work/scratch"
mke2fs -q -F -t ext4 -O quota,project "$work/scratch"
BELUGA_TEST_LAYER=$(losetup -r -f --show "$work/layer")
BELUGA_TEST_SCRATCH=$(losetup -f --show "$work/scratch")
export BELUGA_TEST_LAYER BELUGA_TEST_SCRATCH
cp "$1" "$work/tests"
"$work/tests" layers_are_mounted_once_and_the_writable_layer_has_a_limit
