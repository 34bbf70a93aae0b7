#!/usr/bin/env bash
# The demo: where KVM cannot run Linux here, the lab host carries it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
# The emulator itself dies now and then; the demo leaves nothing behind, so it
# may begin anew.
export LAB_RETRIES=1
# Only here is it known who reads: in the lab host nothing is a terminal.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then export DEMO_BOLD=1; else export DEMO_BOLD=; fi
exec "$repo/tests/lab/lab.sh" -- "$here/demo.sh"
