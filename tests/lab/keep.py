#!/usr/bin/env python3
"""Holds what would make the lab host's kernel patch its own code: keep.py

The first virtual machine and the first CPU quota of a host switch static keys
on, the last ones switch them off: the kernel rewrites instructions that another
CPU may be executing. The emulator now and then executes the half of it, and the
kernel panics. With one machine and one quota that are always there, tests never
are the first or the last. Prints a line when it holds them.
"""

import fcntl
import os
import pathlib
import signal

KVM_CREATE_VM = 0xAE01


def main():
    group = pathlib.Path("/sys/fs/cgroup/lab-keep")
    group.mkdir(exist_ok=True)
    for name, value in (("cpu.max", "50000 100000"), ("memory.max", "1073741824"), ("pids.max", "100")):
        (group / name).write_text(value)
    machine = fcntl.ioctl(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC), KVM_CREATE_VM, 0)
    os.set_inheritable(machine, False)
    print("kept", flush=True)
    signal.pause()


main()
