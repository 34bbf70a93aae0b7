"""What the gate has seen, and what it prints at the end."""

import re
import time


class Tally:
    """Counts of checks and stories, times of stages, notes for the summary."""

    def __init__(self):
        self.passed, self.failures, self.skips = 0, [], []
        self.names, self.notes = set(), []
        self._start = time.time()
        self._stages = []

    def stage(self, title):
        """Begins a stage; it ends where the next one begins."""
        self._stages.append((title, time.time()))
        print(f"\n== {title} [{time.strftime('%H:%M:%S')}]", flush=True)

    def check(self, name, holds, why=""):
        """Counts one check; `why` is shown when it does not hold."""
        self.names.add(name)
        if holds:
            self.passed += 1
        else:
            self.failures.append(name)
        print(f"  {'ok' if holds else 'FAILED':7}{name}{': ' + why if why and not holds else ''}", flush=True)
        return holds

    def libtest(self, output):
        """Adds the results of a `cargo test` run; gives how many tests ran."""
        found = re.findall(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", output)
        for passed, _, _ in found:
            self.passed += int(passed)
        self.failures += re.findall(r"^test (\S+) \.\.\. FAILED", output, re.M)
        ignored = re.findall(r"^test (\S+)(?: - .*)? \.\.\. ignored(?:, (.*))?$", output, re.M)
        self.skips += [(test, why or "ignored") for test, why in ignored]
        # A test that says it cannot run here has "passed" for libtest, which may have begun the
        # line with its name.
        skipped = dict(re.findall(r"^(?:test \S+ \.\.\. )?SKIPPED (\S+): (.*)$", output, re.M))
        self.skips += list(skipped.items())
        self.passed -= len(skipped)
        self._fuzzed(output)
        return sum(int(passed) + int(failed) for passed, failed, _ in found)

    def _fuzzed(self, output):
        """Notes what each fuzz target says of itself."""
        fuzzed = re.findall(r"FUZZED (\S+): (\d+) executions$", output, re.M)
        if fuzzed:
            each = ", ".join(f"{name} {count}" for name, count in sorted(fuzzed))
            total = sum(int(count) for _, count in fuzzed)
            self.notes.append(f"fuzzed: {len(fuzzed)} targets, {total} executions ({each})")

    def _stage_times(self):
        """(title, seconds) of every stage that has ended."""
        ends = [start for _, start in self._stages[1:]]
        return [(title, end - start) for (title, start), end in zip(self._stages, ends)]

    def summary(self):
        """Prints everything that a reader must know; the counts come last."""
        self.stage(f"summary after {time.time() - self._start:.0f} s")
        for title, seconds in self._stage_times():
            print(f"{seconds:6.0f} s  {title}")
        for note in self.notes:
            print(note)
        for name, why in self.skips:
            print(f"skipped {name}: {why}")
        for name in self.failures:
            print(f"FAILED  {name}")
        print(f"{self.passed} passed, {len(self.failures)} failed, {len(self.skips)} skipped", flush=True)
        return bool(self.passed) and not self.failures
