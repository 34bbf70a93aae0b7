"""Boots one Beluga VM without a supervisor: the bench speaks to the VMM itself.

With the product's initramfs and every device it comes to "agent ready"; with
the bench's own guest (guest.c) and no device or one it moves data.
"""

import array
import fcntl
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess

from host import BenchError

# Kept by the bench's guests from what the product's guests are told; cpu.py
# takes the whole line from the product's plan.
EARLY_PORT = "earlyprintk=serial,0x3f8,nocfg,keep "
CMDLINE = ("quiet " + EARLY_PORT + "console=ttynull panic=-1 reboot=t no_timer_check tsc=reliable random.trust_cpu=on "
           "rcupdate.rcu_expedited=1 cryptomgr.notests noreplace-smp")
CONTROL_PORT = 1024
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x2, 0x1000, 0x4000
LIMIT = 300


def tap():
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"bench%d", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    return fd


def disk(name, fd, length, read_only):
    return {"id": name, "read_only": read_only, "discard": not read_only, "flush": False,
            "extents": [{"fd": fd, "offset": 0, "length": length}]}


class Vmm:
    """A running VMM and its control socket."""

    def __init__(self, work, memory, initramfs, cmdline=CMDLINE):
        self.work = pathlib.Path(work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.fds = []
        self.record = self.keep(os.open(self.work / "exit.json", os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        self.path = self.work / "control"
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.path))
        self.listener.listen(4)
        self.config = {
            "version": 1, "name": "bench", "vcpus": 1, "memory_mib": memory,
            "kernel": self.keep(os.open(os.environ["BELUGA_KERNEL"], os.O_RDONLY)),
            "initramfs": self.keep(os.open(initramfs, os.O_RDONLY)), "cmdline": cmdline,
            "disks": [], "nets": [], "vsock": None, "rng": False, "balloon": False,
            "control": self.keep(self.listener.fileno()), "exit_record": self.record,
        }
        self.process = self.control = None
        self.calls = 0

    def keep(self, fd):
        self.fds.append(fd)
        return fd

    def add_disk(self, name, path, read_only):
        fd = self.keep(os.open(path, os.O_RDONLY if read_only else os.O_RDWR))
        self.config["disks"].append(disk(name, fd, os.path.getsize(path), read_only))

    def add_every_device(self, layers, scratch):
        """What a pod has: layers, scratch, card, vsock, entropy, balloon."""
        self.add_disk("layers", layers, True)
        self.add_disk("scratch", scratch, False)
        self.config["nets"].append({"id": "eth0", "tap": self.keep(tap()), "mac": "02:00:00:00:00:01", "mtu": 1500})
        self.config.update({"vsock": {"guest_cid": 3}, "rng": True, "balloon": True})

    def start(self, prefix=()):
        memfd = os.memfd_create("config", 0)
        os.write(memfd, json.dumps(self.config).encode())
        os.lseek(memfd, 0, os.SEEK_SET)
        with open(self.work / "log", "wb") as log:
            self.process = subprocess.Popen(
                [*prefix, os.environ["BELUGA_VMM"], "--config-fd", str(memfd)], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, pass_fds=[memfd, *self.fds])
        os.close(memfd)
        self.fds.remove(self.listener.fileno())
        for fd in self.fds:
            if fd != self.record:
                os.close(fd)
        return self.process.pid

    def connect(self):
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(LIMIT)
        self.control.connect(str(self.path))

    def packet(self):
        """One packet of the control socket with its descriptors."""
        fds = array.array("i")
        data, ancillary, _, _ = self.control.recvmsg(65536, socket.CMSG_SPACE(64 * 4))
        for level, kind, raw in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(raw[:len(raw) - len(raw) % fds.itemsize])
        if not data:
            raise BenchError(f"the VMM hung up: {self.told()}")
        return json.loads(data), list(fds)

    def call(self, request):
        self.calls += 1
        self.control.send(json.dumps({"id": self.calls, "request": {"type": request}}).encode())
        while True:
            message, fds = self.packet()
            for fd in fds:
                os.close(fd)
            if message["type"] == "reply" and message["id"] == self.calls:
                return message["result"]["Ok"]

    def opened_stream(self):
        """The stream that the guest opens to the host."""
        message, fds = self.packet()
        if message["type"] != "vsock_opened" or message["host_port"] != CONTROL_PORT:
            raise BenchError(f"the VMM said {message} instead of a stream of the guest")
        stream = socket.socket(fileno=fds[0])
        stream.settimeout(LIMIT)
        return stream

    def wait_until_agent_ready(self):
        """Plays the supervisor until the agent answers; keeps the stream."""
        self.connect()
        self.agent = self.opened_stream()
        hello = read_frame(self.agent)
        if hello["type"] != "hello":
            raise BenchError(f"the agent said {hello}")
        write_frame(self.agent, {"type": "welcome", "protocol": 1, "token": "00" * 16, "acked": 0})
        # The reply comes after the handshake: the agent is ready.
        write_frame(self.agent, {"type": "request", "id": 1, "request": {"type": "list"}})
        if read_frame(self.agent)["type"] != "reply":
            raise BenchError("the agent did not answer its first request")

    def wait_for_end(self):
        """Waits until the guest has ended itself; gives the exit record."""
        self.process.wait(LIMIT)
        record = self.told()
        if not isinstance(record, dict) or record["cause"] != "guest_ended" or record["end"] != "end_shutdown":
            raise BenchError(f"the guest did not end well: {record}")
        return record

    def told(self):
        """The exit record, or what the VMM wrote to its log."""
        try:
            return json.loads((self.work / "exit.json").read_text())
        except ValueError:
            return (self.work / "log").read_text().strip() or "nothing"

    def close(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self.control:
            self.control.close()
        self.listener.close()


def read_frame(stream):
    length = struct.unpack("<I", stream.recv(4, socket.MSG_WAITALL))[0]
    return json.loads(stream.recv(length, socket.MSG_WAITALL))


def write_frame(stream, message):
    data = json.dumps(message).encode()
    stream.sendall(struct.pack("<I", len(data)) + data)
