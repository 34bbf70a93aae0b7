"""Where a start's CPU time goes: one start, sampled, apart from those that count.

A timer of the kernel's own (`perf_event_open`, clock of the CPU) interrupts
whatever runs every so many microseconds and notes thread and address. It also
interrupts guests, whose address KVM gives. No tool is needed for it.
"""

import bisect
import collections
import ctypes
import mmap
import os
import re
import struct

from host import BenchError

SYS_PERF_EVENT_OPEN = 298
PERF_TYPE_SOFTWARE, CPU_CLOCK = 1, 0
SAMPLE_IP, SAMPLE_TID = 1, 2
RECORD_SAMPLE, RECORD_LOST = 9, 2
MODES = {1: "host kernel", 2: "host program", 4: "guest kernel", 5: "guest program"}
PAGES = 1024
PERIOD_MICROS = 50
ENABLE, DISABLE = 0x2400, 0x2401


class Symbols:
    """Addresses to names, from a table of `address type name` lines."""

    def __init__(self, path):
        found = []
        with open(path, encoding="ascii", errors="replace") as file:
            for line in file:
                words = line.split()
                if len(words) >= 3 and words[1] in "tTwW" and int(words[0], 16):
                    found.append((int(words[0], 16), words[2]))
        found.sort()
        self.addresses = [address for address, _ in found]
        self.names = [name for _, name in found]

    def name(self, address):
        at = bisect.bisect_right(self.addresses, address) - 1
        return self.names[at] if at >= 0 else hex(address)


class Sampler:
    """Samples CPU 0, of the one that a lab host under instruction counting has."""

    def __init__(self):
        libc = ctypes.CDLL(None, use_errno=True)
        attributes = struct.pack("<IIQQQQQIIQQQQIiQIHH", PERF_TYPE_SOFTWARE, 112, CPU_CLOCK, PERIOD_MICROS * 1000,
                                 SAMPLE_IP | SAMPLE_TID, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        buffer = ctypes.create_string_buffer(attributes.ljust(112, b"\0"), 112)
        self.fd = libc.syscall(SYS_PERF_EVENT_OPEN, buffer, -1, 0, -1, 0)
        if self.fd < 0:
            raise BenchError(f"perf_event_open: {os.strerror(ctypes.get_errno())}")
        self.ring = mmap.mmap(self.fd, (PAGES + 1) * mmap.PAGESIZE)
        self.libc = libc

    def __enter__(self):
        self.libc.ioctl(self.fd, ENABLE, 0)
        return self

    def __exit__(self, *_):
        self.libc.ioctl(self.fd, DISABLE, 0)

    def samples(self):
        """(mode, thread id, address) of each sample since the last call."""
        head, tail = struct.unpack_from("<QQ", self.ring, 1024)
        size, data = PAGES * mmap.PAGESIZE, mmap.PAGESIZE
        found = []
        while tail < head:
            header = bytes(self.ring[data + (tail + i) % size] for i in range(8))
            kind, misc, length = struct.unpack("<IHH", header)
            if kind == RECORD_LOST:
                raise BenchError("the sampler lost samples")
            if kind == RECORD_SAMPLE:
                body = bytes(self.ring[data + (tail + 8 + i) % size] for i in range(16))
                address, _, thread = struct.unpack("<QII", body)
                found.append((misc & 7, thread, address))
            tail += length
        struct.pack_into("<Q", self.ring, 1032, tail)
        return found


def summarise(samples, thread_names, guest_map, top=12):
    """Samples as percentages: by thread and mode, and the top functions."""
    guest, kernel = Symbols(guest_map), Symbols("/proc/kallsyms")
    places, functions = collections.Counter(), collections.Counter()
    ours = [sample for sample in samples if sample[1] in thread_names]
    for mode, thread, address in ours:
        where = MODES.get(mode, "?")
        places[f"{thread_names[thread]}: {where}"] += 1
        symbols = {1: kernel, 4: guest}.get(mode)
        name = symbols.name(address) if symbols else ""
        functions[f"{where} {name}".strip()] += 1
    if not ours:
        raise BenchError("no sample hit a thread of the pod")
    share = lambda counter, most: {name: round(100 * count / len(ours), 1) for name, count in counter.most_common(most)}
    return {"samples": len(ours), "percent_by_thread": share(places, 10), "percent_by_function": share(functions, top)}


KVM_EXIT = re.compile(r"reason (\S+) rip 0x([0-9a-f]+)")
ANY_PIO = re.compile(r"pio_(\w+) at 0x([0-9a-f]+)")
STAMP = re.compile(r"pio_write at 0x2be size 1 count 1 val 0x([0-9a-f]+) ")
EXIT_EVENTS = {"kvm/kvm_exit": None, "kvm/kvm_pio": None}


def exits_by_phase(events, stamps):
    """Exits by hardware reason up to each of the guest's stamps, which are
    {value: name}: {name: {reason: count}}."""
    reasons, phases = collections.Counter(), {}
    for _, _, _, event, text in events:
        if event == "kvm_exit" and (match := KVM_EXIT.search(text)):
            reasons[match[1]] += 1
        elif event == "kvm_pio" and (match := STAMP.search(text)):
            name = stamps.get(int(match[1], 16))
            if name:
                phases.setdefault(name, dict(reasons.most_common()))
    missing = set(stamps.values()) - set(phases)
    if missing:
        raise BenchError(f"the trace of exits does not reach {', '.join(sorted(missing))}")
    return phases


def exits_to(events, stamp, guest_map, top=6):
    """Exits up to a stamp by hardware reason, with the functions that cause
    the most of each, and port accesses by port."""
    guest = Symbols(guest_map)
    reasons, functions, ports = collections.Counter(), {}, collections.Counter()
    for _, _, _, event, text in events:
        match = (KVM_EXIT if event == "kvm_exit" else ANY_PIO).search(text)
        if not match:
            continue
        if event == "kvm_exit":
            reasons[match[1]] += 1
            functions.setdefault(match[1], collections.Counter())[guest.name(int(match[2], 16))] += 1
            continue
        ports[f"{match[1]} 0x{match[2]}"] += 1
        if text.startswith(f"pio_write at 0x2be size 1 count 1 val 0x{stamp:x} "):
            return {"reasons": dict(reasons.most_common()), "ports": dict(ports.most_common(12)),
                    "functions": {reason: dict(functions[reason].most_common(top)) for reason in reasons}}
    raise BenchError("the trace of exits does not reach the stamp")
