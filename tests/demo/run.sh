#!/usr/bin/env bash
# The demo: where KVM cannot run Linux here, the lab host carries it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
# The emulator itself dies now and then; the demo leaves nothing behind, so it
# may begin anew.
export LAB_RETRIES=1
exec "$repo/tests/lab/lab.sh" -- "$here/demo.sh"
