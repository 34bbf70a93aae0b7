"""How long the gate may take."""

import contextlib
import os
import time

SECONDS = 45 * 60
# A machine that gives so much of its time to others says nothing about the gate.
BUSY = 0.2


def _machine():
    """(busy, all) CPU seconds of the machine since it was started."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    ticks = os.sysconf("SC_CLK_TCK")
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / ticks, sum(fields) / ticks


def _ours():
    """CPU seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


class Clock:
    """Time since the gate began, and how much of the machine others had."""

    def __init__(self):
        self._began, self._machine, self._ours = time.time(), _machine(), _ours()
        self._apart = 0

    @contextlib.contextmanager
    def apart(self):
        """For what a machine does once and keeps: it does not count."""
        began = time.time()
        yield
        self._apart += time.time() - began

    def others(self):
        """The part of the machine's time that went to others, from 0 to 1."""
        busy, whole = (now - then for now, then in zip(_machine(), self._machine))
        return max(0.0, busy - (_ours() - self._ours)) / max(whole, 1e-9)

    def check(self, tally):
        """Counts whether the gate was fast enough, where that can be said."""
        judge(tally, time.time() - self._began - self._apart, self.others())


def judge(tally, seconds, others):
    """Too slow is a failure, unless the machine was busy with other things."""
    name = f"at most {SECONDS // 60} minutes"
    if seconds > SECONDS and others > BUSY:
        tally.skips.append((name, f"{seconds / 60:.0f} minutes, but others had {others:.0%} of this machine's time"))
        return
    tally.check(name, seconds <= SECONDS, f"{seconds / 60:.0f} minutes")
