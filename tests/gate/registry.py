"""The stories of registries: on this machine itself, with a registry on its loopback.

They need neither KVM nor a lab host, and take no boot.
"""

import os

from .process import TARGET, run

IMAGES = TARGET / "images"


def run_all(tally, filters=()):
    """Runs them, or those whose name contains a filter; whether there were any."""
    tally.stage("stories of registries")
    environment = {
        **os.environ,
        "PATH": f"{TARGET / 'release'}:{os.environ['PATH']}",
        "BELUGA_TEST_IMAGES": str(IMAGES),
    }
    status, output = run(
        ["cargo", "test", "--locked", "-p", "beluga-tests", "--test", "registry", "--", *filters],
        env=environment)
    ran = tally.libtest(output)
    enough = ran > 0 or bool(filters)
    tally.check("stories of registries ran and ended well", status == 0 and enough, f"exit status {status}, {ran} ran")
    return ran > 0
