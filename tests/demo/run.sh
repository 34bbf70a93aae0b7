#!/usr/bin/env bash
# The demo: where KVM cannot run Linux here, the lab host carries it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
exec "$repo/tests/lab/lab.sh" -- "$here/demo.sh"
