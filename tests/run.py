#!/usr/bin/env python3
"""Every check and every story, in the order in which a failure is cheapest.

    run.py            the gate: what `make test` and CI run
    run.py --soak     the long runs instead
    run.py FILTER     only the stories whose name contains FILTER

The last line reads `N passed, N failed, N skipped`; each skip is named with
its reason above it. Exit status 0 only when nothing failed and something ran.
"""

import concurrent.futures
import os
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True

from gate import boots, crates, front, inside, registry, source, stories, time_limit, units
from gate.process import ROOT, quiet, run
from gate.tally import Tally

CACHE = pathlib.Path(os.environ.get("BELUGA_CACHE", "/var/cache/beluga"))
DENY_VERSION = "0.20.2"

# What each crate may link of ours (docs/architecture.md has the drawing).
MAY_LINK = {
    "beluga-proto": set(),
    "beluga-image": set(),
    "beluga-vmm": {"beluga-proto"},
    "beluga-agent": {"beluga-proto"},
    "beluga-runtime": {"beluga-proto", "beluga-image"},
    "beluga-share": set(),
    "beluga-cri": {"beluga-proto", "beluga-image", "beluga-runtime"},
    "beluga-shim": {"beluga-proto", "beluga-image", "beluga-runtime"},
    "beluga-tests": set(),
}
MUST_NOT_LINK = {
    "beluga-proto": {"tokio", "clap", "libc", "rustix", "nix"},
    "beluga-vmm": {"tokio", "clap", "k8s-openapi", "netlink-packet-core", "netlink-packet-route", "rtnetlink",
                   "virtio-vsock"},
    "beluga-agent": {"tokio", "clap", "k8s-openapi", "netlink-packet-core", "netlink-packet-route", "rtnetlink"},
    "beluga-image": {"tokio"},
    "beluga-share": {"tokio", "clap", "kvm-ioctls", "vm-memory", "serde", "serde_json"},
    "beluga-cri": {"kvm-ioctls", "vm-memory"},
    "beluga-shim": {"kvm-ioctls", "vm-memory"},
    "beluga-tests": {"k8s-openapi"},
}


def caches(tally):
    """What a machine is to have before its first gate, and keeps for the next."""
    tally.stage("set-up and caches")
    if not quiet(["scripts/setup.sh"]):
        tally.check("set-up of this machine", False)
    if not (CACHE / "tools/bin/cargo-deny").exists():
        print("  building cargo-deny once, for the cache (about 5 minutes)", flush=True)
        quiet(["cargo", "install", "cargo-deny", "--version", DENY_VERSION, "--locked", "-q", "--root",
               CACHE / "tools"])
    tally.check("the guest kernel", run(["rootfs/build.sh", "kernel"])[0] == 0)
    tally.check("containerd 1.7 and 2.x", run(["tests/containerds.sh"])[0] == 0)
    if not quiet(["tests/lab/lab.sh", "--able"]):
        tally.check("the lab host", run(["tests/lab/prepare.sh"])[0] == 0)


def dependencies(tally):
    """The direction of dependencies, from what cargo itself resolves."""
    for crate, allowed in MAY_LINK.items():
        tree = subprocess.run(
            ["cargo", "tree", "--locked", "-p", crate, "-e", "normal", "--prefix", "none", "-f", "{p}"],
            cwd=ROOT, check=True, capture_output=True, text=True).stdout
        linked = {line.split()[0] for line in tree.splitlines() if line.strip()} - {crate}
        wrong = {name for name in linked if name.startswith("beluga-")} - allowed
        wrong |= linked & MUST_NOT_LINK.get(crate, set())
        tally.check(f"dependencies of {crate}", not wrong, f"links {', '.join(sorted(wrong))}")


def static_checks(tally):
    tally.stage("static checks")
    tally.check("formatting", quiet(["cargo", "fmt", "--all", "--check"]))
    tally.check("lints", quiet(["cargo", "clippy", "--locked", "-q", "--workspace", "--all-targets", "--", "-D",
                                "warnings"]))
    # Those with `test = false` are not among all targets.
    tally.check("lints of the stories", quiet(["cargo", "clippy", "--locked", "-q", "-p", "beluga-tests",
                                               "--test", "*", "--", "-D", "warnings"]))
    tally.check("documentation", quiet(
        ["cargo", "doc", "--locked", "-q", "--workspace", "--no-deps", "--document-private-items"],
        env={**os.environ, "RUSTDOCFLAGS": "-D warnings -A rustdoc::private_intra_doc_links"}))
    tally.check("the gate's own rules", quiet([sys.executable, "-m", "unittest", "-q", "gate.test_stories"],
                                              env={**os.environ, "PYTHONPATH": str(ROOT / "tests")}))
    source.run_all(tally)
    dependencies(tally)
    deny(tally)


def deny(tally):
    """Licences, duplicates and sources; the advisory database needs the internet."""
    tools = CACHE / "tools"
    if not (tools / "bin/cargo-deny").exists():
        tally.skips.append(("licences, sources and bans", "cargo-deny could not be built here"))
        return
    tally.check("licences, sources and bans", quiet(
        [tools / "bin/cargo-deny", "--offline", "-L", "error", "check", "licenses", "bans", "sources"]))
    tally.skips.append(("advisories", "the advisory database is fetched from the internet: `cargo deny check`"))


def build(tally):
    tally.stage("what ships")
    tally.check("make build", run(["make", "build"])[0] == 0)
    tally.check("make images", run(["make", "images"])[0] == 0)


def reproducible(tally, what):
    """The guest's files once more, from another directory and another home."""
    tally.check(f"the same {what} when built elsewhere", run(["tests/reproducible.sh", what])[0] == 0)


def beside(tally, environment):
    """What waits for an emulated lab host most of the time, side by side."""
    tally.stage("tests that need the lab host, what a newcomer types")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(inside.run_all, tally, "i"), pool.submit(front.run_all, tally, environment, "n")]:
            done.result()


def main():
    arguments = sys.argv[1:]
    soak = "--soak" in arguments
    filters = [a for a in arguments if a != "--soak"]
    tally, clock = Tally(), time_limit.Clock()
    built = crates.Crates(CACHE)
    with clock.apart():
        caches(tally)
    built.restore()
    if not soak and not filters:
        static_checks(tally)
        units.run_all(tally)
    build(tally)
    if not filters:
        # The kernel costs 12 CPU-minutes.
        reproducible(tally, "kernel" if soak else "initramfs")
    if not soak and not filters:
        built.keep()
    if tally.failures and not (soak or filters):
        print("\nstories run all the same: a broken check does not hide a broken pod")
    elsewhere = not soak and registry.run_all(tally, filters)
    with boots.counted(tally, limited=not soak) as environment:
        if not soak and not filters:
            beside(tally, environment)
        stories.run_all(tally, soak, filters, environment, elsewhere)
    if not soak and not filters:
        clock.check(tally)
    sys.exit(0 if tally.summary() else 1)


if __name__ == "__main__":
    main()
