"""Tests of single crates that need the lab host."""

import os
import pathlib
import tempfile

from . import stories
from .process import TARGET, quiet, run

# Their names as the unit tests say them where they cannot run: `SKIPPED NAME: …`.
DISKS, BZIMAGE = "spawn::disks", "the_bzimage_of_a_distribution_boots"
MSRS = "a_storm_of_model_specific_registers_harms_nobody"
FLUSHED = "a_tenants_rules_come_back"
GUARDED = "a_tap_lets_nobody_speak_for_others"
TOLD = "who_has_a_table_is_told"


def layer(work):
    """The disk of the busybox image's layer, made as a pod's is."""
    instance = {**os.environ, "BELUGA_ROOT": f"{work}/root", "BELUGA_STATE": f"{work}/state"}
    loaded = quiet([TARGET / "release/beluga", "load", "-i", stories.IMAGES / "busybox.tar"], env=instance)
    return next(pathlib.Path(work).glob("root/images/layers/*.erofs"), None) if loaded else None


def check(tally, mark, tests, what, command):
    """Runs tests there; what was skipped among the unit tests is not, when it passes here."""
    status, said = 1, "it was not built"
    if all(command):
        environment = {**os.environ, "LAB_TIMEOUT": "300", "LAB_RETRIES": "1"}
        status, said = run(["tests/lab/lab.sh", "--", *command], mark=mark, env=environment)
    passed = status == 0 and f"{len(tests)} passed" in said and "SKIPPED" not in said
    if tally.check(what, passed, f"exit status {status}\n{said[-2000:]}"):
        tally.skips = [skip for skip in tally.skips if skip[0] not in tests]


def run_all(tally, mark):
    """The agent's layers and quota on real disks; the VMM with a distribution's kernel
    and with a guest whose kernel handles faults; rules of the packet filter,
    on frames of a guest that lies, and when somebody has flushed them."""
    agent = stories.binary("-p", "beluga-agent", "--bin", "beluga-agent")
    with tempfile.TemporaryDirectory(prefix="beluga-disks-", dir=TARGET) as work:
        check(tally, mark, [DISKS], "layers and quota on real disks", ["tests/disks.sh", agent, layer(work)])
    vmm = stories.binary("-p", "beluga-vmm", "--test", "tiny")
    kvm = [BZIMAGE, MSRS]
    check(tally, mark, kvm, "a distribution's bzImage boots, a storm of MSRs is weathered", [vmm, *kvm])
    plans = stories.binary("-p", "beluga-runtime", "--test", "plan")
    rules = [FLUSHED, GUARDED, TOLD]
    check(tally, mark, rules, "taps are guarded, a tenant's rules come back", [plans, *rules])
