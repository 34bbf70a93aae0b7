"""Unit, property and bounded fuzz tests: every crate's own."""

import re

from .process import run

# More failures than these are no chance.
CHANCE = 3


def run_all(tally):
    """Runs them all; what fails by chance is run once more, alone, and named."""
    tally.stage("unit, property and bounded fuzz tests")
    status, output = run(["cargo", "test", "--locked", "--workspace", "--no-fail-fast"])
    ran = tally.libtest(output)
    if status and once_more(tally, output):
        status = 0
    tally.check("unit tests ran and ended well", status == 0 and ran > 0, f"exit status {status}, {ran} tests")


def failed(output):
    """The failed tests by what cargo says is to be passed to run their binary again."""
    parts = re.split(r"^error: test failed, to rerun pass `(.*)`$", output, flags=re.M)
    # One that crashed has no result, and none of its tests failed by chance.
    return {target: re.findall(r"^test (\S+) \.\.\. FAILED$", text, re.M) if "test result: FAILED" in text else []
            for text, target in zip(parts[::2], parts[1::2])}


def once_more(tally, output):
    """Runs the failed tests alone; whether all passed. The summary names them: one
    that fails beside others waits for something that it does not wait for."""
    tests = failed(output)
    count = sum(map(len, tests.values()))
    # A binary without a failed test was ended by something else.
    if not 0 < count <= CHANCE or not all(tests.values()):
        return False
    print(f"\n!! failed: {', '.join(name for names in tests.values() for name in names)}; run once more, alone", flush=True)
    for target, names in tests.items():
        command = ["cargo", "test", "--locked", *target.split(), "--", "--exact", "--test-threads=1", *names]
        status, again = run(command)
        if status or len(re.findall(r"^test \S+ \.\.\. ok$", again, re.M)) != len(names):
            return False
    for name in (name for names in tests.values() for name in names):
        tally.failures.remove(name)
        tally.passed += 1
        tally.notes.append(f"UNSTEADY {name}: failed beside others, passed alone")
    return True
