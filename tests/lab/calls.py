#!/usr/bin/env python3
"""Which system calls the threads of VMMs make once they are confined.

    calls.py begin          in the lab host: begins to watch all VMMs
    calls.py end FILE       in the lab host: adds what was seen to FILE
    calls.py check FILE     what `beluga-vmm --calls` allows and FILE has not: status 1
                            when a call that is not marked as rare was never made

The kernel's own tracing tells of each call (raw_syscalls), with nothing between it
and the process. A thread counts from its call of seccomp(2) on; KVM_RUN and
epoll_wait are left out, since there would be nothing but them to be seen.
"""

import collections
import json
import os
import pathlib
import re
import subprocess
import sys

TRACING = pathlib.Path("/sys/kernel/tracing")
INSTANCE = TRACING / "instances/beluga"
EVENT = INSTANCE / "events/raw_syscalls/sys_enter"
# What the ring holds: a story makes some ten thousand calls.
RING_KIB = 96 << 10
SECCOMP = 317
# Never looked at: KVM_RUN of vCPUs, epoll_wait.
HOT = {"vcpu": {16}, "main": {232}, "block": {232}}
LINE = re.compile(r"^\s*(.+)-(\d+)\s+\[\d+\].*sys_enter: NR (\d+) ")


def begin():
    """Watches from now on."""
    subprocess.run(["mount", "-t", "tracefs", "none", str(TRACING)], check=False)
    # Names of threads, for all that a run of the stories has.
    (TRACING / "saved_cmdlines_size").write_text("32768")
    INSTANCE.mkdir()
    (INSTANCE / "buffer_size_kb").write_text(str(RING_KIB))
    ours = 'comm == "beluga-vmm" || comm == "block" || comm ~ "vcpu*"'
    (EVENT / "filter").write_text(f"id != 232 && ({ours}) && !(id == 16 && comm ~ \"vcpu*\")")
    (EVENT / "enable").write_text("1")


def kind(comm):
    """A thread's kind by its name."""
    name = comm.rstrip("0123456789")
    return {"beluga-vmm": "main"}.get(name, name)


def seen(lines):
    """How often each kind of thread has made each call since it was confined."""
    confined, counts = set(), collections.defaultdict(collections.Counter)
    for line in lines:
        found = LINE.match(line)
        if not found:
            continue
        comm, thread, number = found[1], int(found[2]), int(found[3])
        if thread in confined:
            counts[kind(comm)][number] += 1
        if number == SECCOMP:
            confined.add(thread)
    return counts


def end(path):
    """Adds what was seen to the file."""
    (EVENT / "enable").write_text("0")
    with open(INSTANCE / "trace", encoding="utf-8", errors="replace") as lines:
        counts = seen(lines)
    before = json.loads(path.read_text()) if path.exists() else {}
    for name, numbers in before.items():
        counts[name].update({int(number): count for number, count in numbers.items()})
    path.write_text(json.dumps(counts, indent=1))


def check(path):
    """Compares the lists with what was seen."""
    vmm = os.environ.get("BELUGA_VMM", "target/release/beluga-vmm")
    lists = json.loads(subprocess.run([vmm, "--calls"], check=True, capture_output=True).stdout)
    made = json.loads(path.read_text())
    everywhere = set.intersection(*({call["number"] for call in calls} for calls in lists.values()))
    anywhere = {int(number) for numbers in made.values() for number in numbers}
    wrong = 0
    for name, calls in lists.items():
        # What all may make, since any may meet the end, one has to have made.
        numbers = {int(number) for number in made.get(name, {})} | HOT[name] | everywhere & anywhere
        unused = [call["name"] for call in calls if call["number"] not in numbers]
        usual = [call["name"] for call in calls if not call["rare"]]
        never = [call for call in unused if call in usual]
        wrong += len(never)
        print(f"{name}: {len(calls)} allowed, {len(numbers)} made; "
              f"never made: {' '.join(never) or 'none'}; "
              f"for accidents, not made: {' '.join(call for call in unused if call not in usual) or 'none'}")
    return 1 if wrong else 0


def main():
    """The command line."""
    if sys.argv[1:] == ["begin"]:
        return begin()
    if len(sys.argv) == 3 and sys.argv[1] in ("end", "check"):
        return {"end": end, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main())
