"""Debian's QEMU with its `microvm` machine, as lean as it can be told to be."""

import json
import os
import signal
import socket
import subprocess

from host import BenchError

PROGRAM = "qemu-system-x86_64"
# No option ROMs, no interrupt controller or timer of the PC, no serial port:
# each costs exits that a guest of today does not need.
MACHINE = "microvm,acpi=off,rtc=off,pit=off,pic=off,isa-serial=off,x-option-roms=off"
LIMIT = 300


class Qemu:
    """A running QEMU and its monitor."""

    def __init__(self, kernel, initramfs, cmdline, memory, devices=()):
        self.arguments = [
            PROGRAM, "-name", "bench,debug-threads=on", "-M", MACHINE, "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", str(memory),
            "-nodefaults", "-no-user-config", "-display", "none", "-kernel", kernel, "-initrd", initramfs,
            "-append", cmdline, "-no-reboot", "-action", "shutdown=pause", *devices,
        ]
        self.process = self.monitor = self.lines = None

    def start(self, log, prefix=()):
        ours, theirs = socket.socketpair()
        self.monitor = ours
        ours.settimeout(LIMIT)
        monitor = ["-chardev", f"socket,id=monitor,fd={theirs.fileno()}", "-mon", "chardev=monitor,mode=control"]
        with open(log, "wb") as file:
            self.process = subprocess.Popen([*prefix, *self.arguments, *monitor], stdin=subprocess.DEVNULL,
                                            stdout=file, stderr=file, pass_fds=[theirs.fileno()])
        theirs.close()
        self.log = log
        self.lines = ours.makefile("r", encoding="utf-8")
        return self.process.pid

    def wait_for_end(self):
        """Waits until the guest has reset itself; QEMU stays, paused."""
        self.monitor.sendall(b'{"execute": "qmp_capabilities"}\n')
        for line in self.lines:
            if json.loads(line).get("event") in ("STOP", "SHUTDOWN"):
                return
        with open(self.log, encoding="utf-8", errors="replace") as file:
            raise BenchError(f"QEMU ended: {file.read().strip() or 'it said nothing'}")

    def close(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self.monitor:
            self.monitor.close()


def version():
    try:
        ran = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"{PROGRAM} cannot be run: {error}") from error
    return ran.stdout.splitlines()[0]
