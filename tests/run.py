#!/usr/bin/env python3
"""Every check and every story, in the order in which a failure is cheapest.

    run.py            the gate: what `make test` and CI run
    run.py --soak     the long runs instead
    run.py FILTER     only the stories whose name contains FILTER

The last line reads `N passed, N failed, N skipped`; each skip is named with
its reason above it. Exit status 0 only when nothing failed and something ran.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "target"
IMAGES = TARGET / "images"
CACHE = pathlib.Path(os.environ.get("BELUGA_CACHE", "/var/cache/beluga"))
DENY_VERSION = "0.20.2"
# A lab host that hangs must not hang the gate.
STORIES_LIMIT = 45 * 60

# What each crate may link of ours (docs/architecture.md has the drawing).
MAY_LINK = {
    "beluga-proto": set(),
    "beluga-image": set(),
    "beluga-vmm": {"beluga-proto"},
    "beluga-agent": {"beluga-proto"},
    "beluga-runtime": {"beluga-proto", "beluga-image"},
    "beluga-tests": set(),
}
MUST_NOT_LINK = {
    "beluga-proto": {"tokio", "clap", "libc", "rustix", "nix"},
    "beluga-vmm": {"tokio", "clap", "k8s-openapi", "rtnetlink"},
    "beluga-agent": {"tokio", "clap", "k8s-openapi"},
    "beluga-image": {"tokio"},
    "beluga-tests": {"k8s-openapi"},
}


class Tally:
    """Counts, and what to print at the end."""

    def __init__(self):
        self.passed, self.failures, self.skips = 0, [], []

    def check(self, name, holds, why=""):
        if holds:
            self.passed += 1
        else:
            self.failures.append(name)
        print(f"  {'ok' if holds else 'FAILED':7}{name}{': ' + why if why and not holds else ''}", flush=True)

    def libtest(self, output, name):
        """Adds the results of a libtest or nextest-free `cargo test` run."""
        found = re.findall(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", output)
        skipped = dict(re.findall(r"^SKIPPED (\S+): (.*)$", output, re.M))
        for passed, failed, _ in found:
            self.passed += int(passed)
        self.failures += re.findall(r"^test (\S+) \.\.\. FAILED", output, re.M)
        ignored = re.findall(r"^test (\S+)(?: - .*)? \.\.\. ignored(?:, (.*))?$", output, re.M)
        self.skips += [(test, why or "ignored") for test, why in ignored]
        # A story that says it cannot run here has "passed" for libtest.
        self.skips += list(skipped.items())
        self.passed -= len(skipped)
        return sum(int(passed) + int(failed) for passed, failed, _ in found)


def stage(title):
    print(f"\n== {title} [{time.strftime('%H:%M:%S')}]", flush=True)


def run(command, **options):
    """Runs a command, its output shown as it comes; gives (status, output)."""
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    lines = []
    for line in process.stdout:
        lines.append(line)
        print("  | " + line, end="", flush=True)
    return process.wait(), "".join(lines)


def quiet(command, **options):
    """Runs a command; its output is shown only when it fails."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    if done.returncode != 0:
        print(done.stdout[-20000:], flush=True)
    return done.returncode == 0


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
    stage("static checks")
    tally.check("formatting", quiet(["cargo", "fmt", "--all", "--check"]))
    tally.check("lints", quiet(["cargo", "clippy", "--locked", "-q", "--workspace", "--all-targets", "--", "-D",
                                "warnings"]))
    tally.check("documentation", quiet(
        ["cargo", "doc", "--locked", "-q", "--workspace", "--no-deps", "--document-private-items"],
        env={**os.environ, "RUSTDOCFLAGS": "-D warnings -A rustdoc::private_intra_doc_links"}))
    dependencies(tally)
    deny(tally)


def deny(tally):
    """Licences, duplicates and sources; the advisory database needs the internet."""
    tools = CACHE / "tools"
    if not (tools / "bin/cargo-deny").exists():
        print("  building cargo-deny once, for the cache (about 5 minutes)", flush=True)
        if not quiet(["cargo", "install", "cargo-deny", "--version", DENY_VERSION, "--locked", "-q", "--root", tools]):
            tally.skips.append(("licences, sources and bans", "cargo-deny could not be built here"))
            return
    tally.check("licences, sources and bans", quiet(
        [tools / "bin/cargo-deny", "--offline", "-L", "error", "check", "licenses", "bans", "sources"]))
    tally.skips.append(("advisories", "the advisory database is fetched from the internet: `cargo deny check`"))


def unit_tests(tally):
    stage("unit, property and bounded fuzz tests")
    status, output = run(["cargo", "test", "--locked", "--workspace", "--no-fail-fast"])
    ran = tally.libtest(output, "unit tests")
    tally.check("unit tests ran and ended well", status == 0 and ran > 0, f"exit status {status}, {ran} tests")


def build(tally):
    stage("what ships")
    tally.check("guest kernel, initramfs, binaries", run(["make", "build"])[0] == 0)
    tally.check("test images", run(["make", "images"])[0] == 0)


def stories_binary():
    """Builds the stories and gives the path of their test binary."""
    done = subprocess.run(
        ["cargo", "test", "--locked", "-p", "beluga-tests", "--test", "stories", "--no-run", "--message-format", "short"],
        cwd=ROOT, capture_output=True, text=True)
    found = re.search(r"Executable .*\((.*)\)", done.stderr)
    if done.returncode != 0 or not found:
        print(done.stderr[-20000:])
        return None
    return ROOT / found.group(1)


def unproven():
    """Stories that the gate leaves out, each with its reason; run.py NAME runs one all the same."""
    for line in (ROOT / "tests/unproven.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, why = line.partition(": ")
            yield name, why


def stories(tally, soak, filters):
    stage("stories on real pods" + (" (soak)" if soak else ""))
    binary = stories_binary()
    if binary is None:
        tally.check("stories build", False)
        return
    with tempfile.TemporaryDirectory(prefix="beluga-stories-", dir=TARGET) as work:
        # Natively: in an emulated lab the conversion of layers costs minutes.
        root = {**os.environ, "BELUGA_ROOT": f"{work}/root", "BELUGA_STATE": f"{work}/state"}
        for image in sorted(IMAGES.glob("*.tar")):
            tally.check(f"beluga load {image.name}", quiet([TARGET / "release/beluga", "load", "-i", image], env=root))
        chosen = ["soak::"] if soak else (filters or ["--skip", "soak::"])
        if not (soak or filters):
            for name, why in unproven():
                tally.skips.append((name, why))
                chosen += ["--skip", name]
        environment = {**os.environ, "LAB_TIMEOUT": str(STORIES_LIMIT), "STORIES": str(binary), "WORK": work,
                       "BELUGA_TEST_IMAGES": str(IMAGES)}
        status, output = run(["tests/lab/lab.sh", "--", "tests/stories.sh", *chosen], env=environment)
    ran = tally.libtest(output, "stories")
    tally.check("stories ran and ended well", status == 0 and ran > 0, f"exit status {status}, {ran} stories")


def main():
    arguments = sys.argv[1:]
    soak = "--soak" in arguments
    filters = [a for a in arguments if a != "--soak"]
    tally, start = Tally(), time.time()
    if not quiet(["scripts/setup.sh"]):
        tally.check("set-up of this machine", False)
    if not soak and not filters:
        static_checks(tally)
        unit_tests(tally)
    build(tally)
    if tally.failures and not (soak or filters):
        print("\nstories run all the same: a broken check does not hide a broken pod")
    stories(tally, soak, filters)

    stage(f"summary after {time.time() - start:.0f} s")
    for name, why in tally.skips:
        print(f"skipped {name}: {why}")
    for name in tally.failures:
        print(f"FAILED  {name}")
    print(f"{tally.passed} passed, {len(tally.failures)} failed, {len(tally.skips)} skipped", flush=True)
    sys.exit(0 if not tally.failures and tally.passed else 1)


if __name__ == "__main__":
    main()
