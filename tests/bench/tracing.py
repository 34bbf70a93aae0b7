"""The kernel's tracer: who ran when, and the guest's boot stamps.

CPU time at the moment of a stamp cannot be read from outside: the guest goes
on. So the tracer notes every switch of tasks and every write to the stamp port,
and the sums are made afterwards. A task's time is what lies between its switch
in and its switch out, which is also what the scheduler's own sum counts.
"""

import os
import re

from host import DEBUGFS, BenchError

TRACING = DEBUGFS + "/tracing"
STAMPS = {0x10: "init", 0x12: "connected", 0x13: "ready", 0x14: "pod_ready", 0x15: "first_container",
          0x80: "end", 0x81: "fault"}
STAMP_FILTER = "port == 0x2be"
LINE = re.compile(r"\s*(.+)-(\d+)\s+\[\d+\]\s+\S+\s+([\d.]+): (\w+): (.*)")
SWITCH = re.compile(r"prev_comm=(.*) prev_pid=(\d+) .*next_comm=(.*) next_pid=(\d+) ")
FORK = re.compile(r"comm=.* pid=(\d+) child_comm=.* child_pid=(\d+)")
EXEC = re.compile(r"filename=(\S+) pid=(\d+)")
PIO = re.compile(r"pio_write at 0x2be size 1 count 1 val 0x([0-9a-f]+)")
SCHED = {"sched/sched_switch": None, "sched/sched_process_fork": None, "sched/sched_process_exec": None,
         "kvm/kvm_pio": STAMP_FILTER}


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


class Tracer:
    """One buffer of the tracer with the events that it notes."""

    def __init__(self, name, events, kib=8192):
        self.folder = f"{TRACING}/instances/{name}"
        os.makedirs(self.folder, exist_ok=True)
        write(self.folder + "/tracing_on", "0")
        # The scheduler's clock, so that sums agree with its own.
        write(self.folder + "/trace_clock", "local")
        write(self.folder + "/buffer_size_kb", str(kib))
        for event, condition in events.items():
            base = f"{self.folder}/events/{event}"
            if not os.path.isdir(base):
                raise BenchError(f"the kernel cannot trace {event}")
            if condition:
                write(base + "/filter", condition)
            write(base + "/enable", "1")

    def __enter__(self):
        write(self.folder + "/trace", "")
        write(self.folder + "/tracing_on", "1")
        return self

    def __exit__(self, *_):
        write(self.folder + "/tracing_on", "0")

    def events(self):
        """(seconds, task, pid, event, text) in order."""
        with open(self.folder + "/trace", encoding="utf-8", errors="replace") as file:
            text = file.read()
        lost = re.search(r"entries-in-buffer/entries-written: (\d+)/(\d+)", text)
        if lost and lost[1] != lost[2]:
            raise BenchError(f"the tracer lost {int(lost[2]) - int(lost[1])} events")
        for line in text.splitlines():
            match = LINE.match(line)
            if match:
                yield float(match[3]), match[1], int(match[2]), match[4], match[5]

    def close(self):
        os.rmdir(self.folder)


class Timeline:
    """CPU time by program and thread at each stamp, below one first process."""

    def __init__(self, first, name, resolvers=()):
        self.first, self.name, self.resolvers = first, name, resolvers
        self.program = {first: name}
        self.names, self.spent, self.running, self.stamps = {}, {}, {}, {}
        self.vcpu = None

    def add(self, events):
        """Takes all events of a run; gives itself."""
        events = list(events)
        # A thread names itself only after it was switched to.
        self.vcpu = next((pid for _, task, pid, _, _ in events if task == "vcpu0"), None)
        for time, _, pid, event, text in events:
            getattr(self, "on_" + event, lambda *_: None)(time, pid, text)
        return self

    def on_sched_process_fork(self, _time, _pid, text):
        parent, child = map(int, FORK.match(text).groups())
        if parent in self.program:
            self.program[child] = self.program[parent]

    def on_sched_process_exec(self, _time, _pid, text):
        path, pid = EXEC.match(text).groups()
        if int(pid) in self.program and int(pid) != self.first:
            name = os.path.basename(path)
            # The supervisor is another process of the same program; so is the resolver.
            ours = "resolver" if int(pid) in self.resolvers else "supervisor"
            self.program[int(pid)] = ours if name == self.name else name

    def on_sched_switch(self, time, _task, text):
        comm, out, next_comm, into = SWITCH.match(text).groups()
        out, into = int(out), int(into)
        if out in self.program:
            begun = self.running.pop(out, None)
            if begun is not None:
                self.spent[out] = self.spent.get(out, 0) + time - begun
            self.names[out] = comm
        if into in self.program:
            self.running[into] = time
            self.names[into] = next_comm
            if into == self.vcpu:
                self.note("kernel_entry", time)

    def on_kvm_pio(self, time, task, text):
        match = PIO.match(text)
        if match and task in self.program:
            self.note(STAMPS.get(int(match[1], 16), match[1]), time)

    def note(self, stamp, time):
        if stamp in self.stamps:
            return
        spent = dict(self.spent)
        for task, begun in self.running.items():
            spent[task] = spent.get(task, 0) + time - begun
        self.stamps[stamp] = (time, spent)

    def cpu(self, stamp):
        """{program: {thread: ms, "all": ms}, "all": ms} at a stamp."""
        if stamp not in self.stamps:
            raise BenchError(f"the guest never said {stamp!r}, only {', '.join(self.stamps) or 'nothing'}")
        found = {}
        for task, seconds in self.stamps[stamp][1].items():
            threads = found.setdefault(self.program[task], {"all": 0})
            name = self.names.get(task, "?")
            threads[name] = threads.get(name, 0) + seconds * 1000
            threads["all"] += seconds * 1000
        found["all"] = sum(threads["all"] for threads in found.values())
        return found

    def finish(self, time, name="done"):
        """Notes the end of the run as a stamp of its own."""
        self.note(name, time)
