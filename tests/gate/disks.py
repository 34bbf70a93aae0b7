"""The agent's test that needs disks: in the lab host, which has loop devices and quota."""

import os
import pathlib
import tempfile

from . import stories
from .process import TARGET, quiet, run

# What the unit tests say of it where they run: `SKIPPED NAME: …`.
NAME = "spawn::disks"


def layer(work):
    """The disk of the busybox image's layer, made as a pod's is."""
    instance = {**os.environ, "BELUGA_ROOT": f"{work}/root", "BELUGA_STATE": f"{work}/state"}
    loaded = quiet([TARGET / "release/beluga", "load", "-i", stories.IMAGES / "busybox.tar"], env=instance)
    return next(pathlib.Path(work).glob("root/images/layers/*.erofs"), None) if loaded else None


def run_all(tally):
    """Runs it; what was skipped among the unit tests is not, when it passes here."""
    tally.stage("the agent's disks")
    tests = stories.binary("-p", "beluga-agent", "--bin", "beluga-agent")
    with tempfile.TemporaryDirectory(prefix="beluga-disks-", dir=TARGET) as work:
        disk = layer(work)
        command = ["tests/lab/lab.sh", "--", "tests/disks.sh", tests, disk]
        environment = {**os.environ, "LAB_TIMEOUT": "300", "LAB_RETRIES": "1"}
        status, said = run(command, env=environment) if tests and disk else (1, "")
    passed = status == 0 and "1 passed" in said and "SKIPPED" not in said
    if tally.check("layers and quota on real disks", passed, f"exit status {status}"):
        tally.skips = [skip for skip in tally.skips if skip[0] != NAME]
