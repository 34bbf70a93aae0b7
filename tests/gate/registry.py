"""The stories of registries: on this machine itself, with a registry on a loopback of their own.

They need neither KVM nor a lab host, and take no boot.
"""

import os

from .process import ROOT, TARGET, run

IMAGES = TARGET / "images"


def run_all(tally, filters=()):
    """Runs them, or those whose name contains a filter; whether there were any."""
    tally.stage("stories of registries")
    environment = {
        **os.environ,
        "PATH": f"{TARGET / 'release'}:{os.environ['PATH']}",
        "BELUGA_TEST_IMAGES": str(IMAGES),
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER": str(ROOT / "tests/gate/alone.sh"),
    }
    status, output = run(
        ["cargo", "test", "--locked", "-p", "beluga-tests", "--test", "registry", "--", *filters],
        env=environment)
    ran = tally.libtest(output)
    enough = ran > 0 or bool(filters)
    tally.check("stories of registries ran and ended well", status == 0 and enough, f"exit status {status}, {ran} ran")
    return ran > 0
