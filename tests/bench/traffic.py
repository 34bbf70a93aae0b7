#!/usr/bin/env python3
"""The part of the bench that counts what a MiB of traffic costs.

    traffic.py OUT.json GUEST.cpio

Runs in the lab host. The same guest (guest.c) with the same kernel moves a
little and then a lot, in Beluga's VMM and in QEMU's microvm; the difference of
the two runs is the traffic's, per MiB. Counted are KVM's exits, those that
reach the VMM, its system calls, and the bytes that these copied.
"""

import json
import os
import pathlib
import re
import socket
import sys
import threading

import host
import qemu
import tracing
import vmm
from host import WORK, BenchError, part, say

LITTLE, LOT = 16, 80
MEMORY_MIB = 256
# read write pread pwrite readv writev sendfile sendto recvfrom sendmsg recvmsg
# splice preadv pwritev copy_file_range preadv2 pwritev2: their results are bytes.
COPYING = {0, 1, 17, 18, 19, 20, 40, 44, 45, 46, 47, 275, 295, 296, 326, 327, 328}
RUN = 16  # ioctl: KVM_RUN among others
HIST = re.compile(r"\{ common_pid: +(\d+), id: +(\d+) \} (.*)")
PORT = 1024
# Kinds of traffic that need a stream, not a disk.
VSOCK = ("vsock", "host")


class Syscalls:
    """Counts system calls per thread and number, and sums their results."""

    def __init__(self):
        self.folder = tracing.TRACING + "/instances/syscalls"
        os.makedirs(self.folder, exist_ok=True)

    def trigger(self, sign):
        for event, text in (("sys_enter", "hist:keys=common_pid,id:size=8192"),
                            ("sys_exit", "hist:keys=common_pid,id:vals=ret:size=8192 if ret > 0")):
            tracing.write(f"{self.folder}/events/raw_syscalls/{event}/trigger", sign + text)

    def __enter__(self):
        self.trigger("")
        return self

    def __exit__(self, *_):
        self.found = {event: self.read(event) for event in ("sys_enter", "sys_exit")}
        self.trigger("!")

    def read(self, event):
        text = host.read(f"{self.folder}/events/raw_syscalls/{event}/hist")
        if re.search(r"Dropped: [1-9]", text):
            raise BenchError("the kernel dropped counts of system calls")
        value = r"ret: +(\d+)" if event == "sys_exit" else r"hitcount: +(\d+)"
        return [(int(pid), int(number), int(re.search(value, rest)[1])) for pid, number, rest in HIST.findall(text)]

    def of(self, threads):
        """System calls and bytes copied by these threads."""
        calls = sum(count for pid, _, count in self.found["sys_enter"] if pid in threads)
        ioctls = sum(count for pid, number, count in self.found["sys_enter"] if pid in threads and number == RUN)
        copied = sum(count for pid, number, count in self.found["sys_exit"] if pid in threads and number in COPYING)
        return {"syscalls": calls, "syscalls without ioctl": calls - ioctls, "bytes copied": copied}


def serve(stream, kind, mib, got):
    """The host's end: reads to the end, then closes, for which the guest waits;
    or writes what the guest wants, and waits until it closes."""
    with stream:
        if kind == "host":
            for _ in range(mib):
                stream.sendall(bytes(1 << 20))
                got[0] += 1 << 20
        while data := stream.recv(1 << 20):
            got[0] += len(data)


def beluga(kind, mib, files, cmdline, count):
    machine = vmm.Vmm(WORK / "traffic", MEMORY_MIB, files["guest"], f"{cmdline} bench={kind}:{mib}")
    got = [0]
    if kind in VSOCK:
        machine.config["vsock"] = {"guest_cid": 3}
    else:
        machine.add_disk("data", files["disk"], False)
    try:
        with count:
            pid = machine.start()
            if kind in VSOCK:
                machine.connect()
                serve(machine.opened_stream(), kind, mib, got)
            record = machine.wait_for_end()
    finally:
        machine.close()
    kvm = {name[4:]: n for name, n in record["exits"].items() if name.startswith("kvm_")}
    user = sum(n for name, n in record["exits"].items() if not name.startswith("kvm_"))
    return pid, "beluga-vmm", host.exits(kvm), user, got[0]


def vsock_listener(kind, mib, got):
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, PORT))
    listener.listen(1)
    thread = threading.Thread(target=lambda: serve(listener.accept()[0], kind, mib, got), daemon=True)
    thread.start()
    return listener, thread


def qemu_run(kind, mib, files, cmdline, count):
    got, listener, devices = [0], None, []
    if kind in VSOCK:
        devices = ["-device", "vhost-vsock-device,guest-cid=3"]
        listener, thread = vsock_listener(kind, mib, got)
    else:
        # Beluga's scratch disks offer no flush either.
        devices = ["-drive", f"file={files['disk']},if=none,id=data,format=raw,cache=unsafe",
                   "-device", "virtio-blk-device,drive=data"]
    machine = qemu.Qemu(os.environ["BELUGA_KERNEL"], files["guest"], f"{cmdline} bench={kind}:{mib}", MEMORY_MIB, devices)
    try:
        with count:
            pid = machine.start(WORK / "qemu.log")
            machine.wait_for_end()
        kvm = host.kvm_counters(pid)
        if listener:
            thread.join(60)
    finally:
        machine.close()
        if listener:
            listener.close()
    return pid, "qemu", host.exits(kvm), kvm.get("io_exits", 0) + kvm.get("mmio_exits", 0), got[0]


class Counting:
    """Tasks, stamps and system calls of one run."""

    def __init__(self):
        self.tasks, self.calls = tracing.Tracer("traffic", tracing.SCHED, 32768), Syscalls()

    def __enter__(self):
        self.calls.__enter__()
        self.tasks.__enter__()

    def __exit__(self, *error):
        self.tasks.__exit__(*error)
        self.calls.__exit__(*error)


def run(machine, kind, mib, files, cmdline, counting):
    """One run's counts, after a check that the guest moved what it was told."""
    pid, name, exits, user, got = machine(kind, mib, files, cmdline, counting)
    timeline = tracing.Timeline(pid, name).add(counting.tasks.events())
    if "end" not in timeline.stamps:
        raise BenchError(f"the guest did not end well after {mib} MiB of {kind}: it said {', '.join(timeline.stamps)}")
    if kind in VSOCK and got != mib << 20:
        raise BenchError(f"{got} bytes of {mib << 20} went over the stream")
    return {"exits": exits["total"], "exits without page faults": exits["not page faults"], "exits to userspace": user,
            **counting.calls.of(set(timeline.program))}


def per_mib(machine, kind, files, cmdline, counting):
    """The difference between much and little, per MiB."""
    little, lot = (run(machine, kind, mib, files, cmdline, counting) for mib in (LITTLE, LOT))
    counts = {name: round((lot[name] - little[name]) / (LOT - LITTLE), 2) for name in lot}
    counts["bytes copied"] = round(counts["bytes copied"] / 2**20, 3)
    say(f"{machine.__name__} {kind}: {counts}")
    return counts


def main():
    out, guest = sys.argv[1:]
    host.mount_debugfs()
    WORK.mkdir(parents=True, exist_ok=True)
    files = {"guest": WORK / "guest.cpio", "disk": WORK / "disk.img"}
    files["guest"].write_bytes(pathlib.Path(guest).read_bytes())
    with open(files["disk"], "wb") as disk:
        for _ in range(LOT + 16):
            disk.write(os.urandom(1 << 20))
    cmdline = vmm.CMDLINE.replace(vmm.EARLY_PORT, "")
    counting, report = Counting(), {"settings": host.settings(), "little_mib": LITTLE, "lot_mib": LOT}
    for kind in ("read", "write", *VSOCK):
        report[kind] = {}
        for name, machine in (("beluga", beluga), ("qemu", qemu_run)):
            part(report[kind], name, lambda: per_mib(machine, kind, files, cmdline, counting))
    pathlib.Path(out).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
