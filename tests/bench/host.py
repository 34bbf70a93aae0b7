"""What the lab host's kernel tells about processes and virtual machines."""

import glob
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

# Verbs of the processes that `beluga` starts of itself: one a pod, and two a network.
SUPERVISOR, KEEPER, RESOLVER = "supervise", "resolve-names", "answer-names"
WORK = pathlib.Path("/run/bench")
DEBUGFS = "/sys/kernel/debug"
# How often the two ways to count the memory of a process may differ before it is an error.
AGREEMENTS = 10


class BenchError(Exception):
    """A part of the bench cannot be measured; the text says why."""


def say(text):
    """Progress, on standard error."""
    print(f"bench: [{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def mount_debugfs():
    """KVM's counters and the kernel's tracer live there."""
    if not os.path.isdir(DEBUGFS + "/kvm"):
        subprocess.run(["mount", "-t", "debugfs", "debugfs", DEBUGFS], check=False)
    if not os.path.isdir(DEBUGFS + "/tracing/events"):
        subprocess.run(["mount", "-t", "tracefs", "tracefs", DEBUGFS + "/tracing"], check=False)
    if not os.path.isdir(DEBUGFS + "/kvm"):
        raise BenchError("the kernel has no KVM counters in debugfs")


def part(report, name, measure):
    """Measures one part. One that fails says why and does not stop the rest."""
    try:
        report[name] = measure()
    except (BenchError, OSError, LookupError, ValueError, StopIteration, subprocess.SubprocessError) as error:
        say(f"{name} FAILED: {error!r}")
        report[name] = {"failed": f"{type(error).__name__}: {error}"}


def beluga(*arguments):
    """Runs `beluga …`; gives its output."""
    ran = subprocess.run(["beluga", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
                         check=False)
    if ran.returncode:
        raise BenchError(f"beluga {' '.join(arguments)} ended with {ran.returncode}: {ran.stderr.strip()}")
    return ran.stdout


def instance(images, work=WORK):
    """An instance of Beluga in memory with busybox loaded."""
    os.environ["BELUGA_ROOT"], os.environ["BELUGA_STATE"] = str(work / "root"), str(work / "state")
    work.mkdir(parents=True, exist_ok=True)
    beluga("load", "-i", f"{images}/busybox.tar")


def read(path):
    return pathlib.Path(path).read_text()


def summary(values):
    """Median, least and most of a list of numbers."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3),
            "max": round(max(values), 3), "samples": len(values)}


def merge(samples):
    """Dictionaries of the same shape with numbers, as one with summaries."""
    keys = dict.fromkeys(key for sample in samples for key in sample)
    merged = {}
    for key in keys:
        values = [sample[key] for sample in samples if key in sample]
        if isinstance(values[0], dict):
            merged[key] = merge(values)
        elif isinstance(values[0], (int, float)):
            # Absent is none: a kind of exit that did not happen.
            merged[key] = summary(values + [0] * (len(samples) - len(values)))
    return merged


def threads(pid):
    """CPU milliseconds per thread name, from the scheduler's own sum."""
    found = {}
    for task in glob.glob(f"/proc/{pid}/task/*"):
        name = read(task + "/comm").strip()
        found[name] = found.get(name, 0) + int(read(task + "/schedstat").split()[0]) / 1e6
    return found


def kvm_counters(pid):
    """KVM's counters of the virtual machine of a process: all that moved."""
    found = {}
    for folder in glob.glob(f"{DEBUGFS}/kvm/{pid}-*"):
        for file in glob.glob(folder + "/*"):
            try:
                value = int(read(file))
            except (ValueError, OSError):
                continue
            if value:
                found[os.path.basename(file)] = value
    if not found.get("exits"):
        raise BenchError(f"debugfs has no KVM counters of process {pid}")
    return found


def exits(counters):
    """The exits of KVM's counters by kind. `pf_taken` counts those by a page
    that was not there; what no counter names is `other`."""
    total = counters["exits"]
    named = {"page faults": counters.get("pf_taken", 0), "port I/O": counters.get("io_exits", 0),
             "device registers": counters.get("mmio_exits", 0), "halt": counters.get("halt_exits", 0),
             "host interrupts": counters.get("irq_exits", 0), "interrupt window": counters.get("irq_window_exits", 0),
             "signals": counters.get("signal_exits", 0)}
    return {"total": total, "not page faults": total - named["page faults"], **named,
            "other": total - sum(named.values())}


def mappings(pid):
    """(start, end, KiB by name) of each mapping of a process."""
    for text in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", read(f"/proc/{pid}/smaps"), flags=re.M)[1:]:
        start, end = (int(address, 16) for address in text.split()[0].split("-"))
        yield start, end, {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}


def guest_mappings(found, mib):
    """Indices of the neighbours that are together as large as the guest's
    memory: advice about huge pages splits it. What lies before it may make
    another such row with a part of it; the guest's is the one with most in RAM."""
    rows = []
    for first, (start, _, _) in enumerate(found):
        end = start
        for at in range(first, len(found)):
            if found[at][0] != end or end - start >= mib << 20:
                break
            end = found[at][1]
            if end - start == mib << 20:
                rows.append(range(first, at + 1))
    if not rows:
        raise BenchError(f"no mapping of {mib} MiB")
    return set(max(rows, key=lambda row: sum(found[at][2]["Rss"] for at in row)))


def memory(pid, guest_mib):
    """Private KiB of a process: guest memory, and its own; of that, what are
    pages of a file, which a second process of the same program would share."""
    for _ in range(AGREEMENTS):
        found = mapped(pid, guest_mib)
        rollup = read(f"/proc/{pid}/smaps_rollup")
        private = sum(int(kib) for kib in re.findall(r"^Private_(?:Clean|Dirty): +(\d+)", rollup, re.M))
        # A guest that runs on may touch a page between the two.
        if abs(private - found["own"] - found["guest"]) <= 64:
            return found
    raise BenchError(f"smaps and smaps_rollup of process {pid} do not agree, {AGREEMENTS} times")


def mapped(pid, guest_mib):
    """The same by its mappings alone, which nothing has checked."""
    found = {"guest": 0, "own": 0, "own_anonymous": 0, "own_file": 0}
    maps = list(mappings(pid))
    guest = guest_mappings(maps, guest_mib) if guest_mib else set()
    for at, (_, _, kib) in enumerate(maps):
        private = kib["Private_Clean"] + kib["Private_Dirty"]
        if at in guest:
            found["guest"] += private
            continue
        anonymous = min(private, kib["Anonymous"])
        found["own"] += private
        found["own_anonymous"] += anonymous
        found["own_file"] += private - anonymous
    return found


def meminfo():
    """KiB that the host has given away: MemTotal minus MemAvailable."""
    fields = dict(re.findall(r"^(\w+): +(\d+)", read("/proc/meminfo"), re.M))
    return {"used": int(fields["MemTotal"]) - int(fields["MemAvailable"]),
            "slab": int(fields["Slab"]), "page_tables": int(fields["PageTables"]),
            "kernel_stacks": int(fields["KernelStack"]), "shared": int(fields["Shmem"])}


def processes(name, verb=None):
    """The processes whose program is `name`, with that verb."""
    found = []
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            words = read(folder + "/cmdline").split("\0")
            if os.path.basename(os.readlink(folder + "/exe")) == name and verb in (None, *words[1:2]):
                found.append(int(os.path.basename(folder)))
        except OSError:
            continue
    return sorted(found)


def settings():
    """What exit counts and figures depend on."""
    cpu = re.search(r"^model name\s*: (.*)$", read("/proc/cpuinfo"), re.M)
    return {"host_kernel": os.uname().release, "cpu": cpu.group(1) if cpu else "?", "cpus": os.cpu_count(),
            "transparent_hugepage": re.search(r"\[(\w+)\]", read("/sys/kernel/mm/transparent_hugepage/enabled"))[1]}
