#!/usr/bin/env bash
# Runs in the lab host: one shared instance with all test images, then the
# stories, then the account of what is left over.
set -uo pipefail
export BELUGA_TEST_ROOT=/run/stories/root BELUGA_TEST_STATE=/run/stories/state
export BELUGA_ROOT=$BELUGA_TEST_ROOT BELUGA_STATE=$BELUGA_TEST_STATE
mkdir -p "$BELUGA_ROOT" "$BELUGA_STATE"
# Loading is done once, natively, by the runner: in an emulated lab it costs minutes.
if [ -d "$WORK/root" ]; then
    cp -a --sparse=always "$WORK/root/." "$BELUGA_ROOT/"
else
    for image in busybox nginx redis postgres debian; do beluga load -q -i "$BELUGA_TEST_IMAGES/$image.tar" || exit 1; done
fi
# Which system calls VMMs make: tests/lab/calls.py.
[ -z "${LAB_CALLS:-}" ] || "${0%/*}/lab/calls.py" begin
cp "$STORIES" /run/stories/stories
# libtest writes a result in three parts; by whole lines it cannot mix with what
# the stories themselves write to standard error.
/run/stories/stories --format=pretty --test-threads="${STORIES_THREADS:-2}" "$@" | grep --line-buffered ''
status=${PIPESTATUS[0]}
[ -z "${LAB_CALLS:-}" ] || "${0%/*}/lab/calls.py" end "$LAB_CALLS"
beluga delete pod --all --grace-period 0 || status=1
beluga gc --check && echo "clean: nothing left over" || status=1
exit $status
