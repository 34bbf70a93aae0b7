#!/usr/bin/env python3
"""Boots one Beluga VM with every device to "agent ready", as a supervisor would,
and prints what that took as one JSON object. Runs in the lab host, as root.

    boot.py WORK_DIR [MEMORY_MIB [VCPUS]]

CPU time is the sum over the VMM's threads in /proc/PID/task/*/schedstat: guest
time is in the vCPU thread. Exits are KVM's own counters in debugfs.
"""

import array
import fcntl
import glob
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys

CMDLINE = os.environ.get(
    "BELUGA_CMDLINE",
    "quiet earlyprintk=serial,0x3f8,nocfg,keep console=ttynull panic=-1 reboot=t no_timer_check tsc=reliable "
    "random.trust_cpu=on rcupdate.rcu_expedited=1 cryptomgr.notests noreplace-smp")
CONTROL_PORT = 1024
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x2, 0x1000, 0x4000


def tap():
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"bench%d", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    return fd


def packet(control):
    """One packet of the control socket with its descriptors."""
    fds = array.array("i")
    data, ancillary, _, _ = control.recvmsg(65536, socket.CMSG_SPACE(64 * 4))
    for level, kind, raw in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(raw[:len(raw) - len(raw) % fds.itemsize])
    return json.loads(data), list(fds)


def call(control, number, request):
    control.send(json.dumps({"id": number, "request": request}).encode())
    while True:
        message, fds = packet(control)
        for fd in fds:
            os.close(fd)
        if message["type"] == "reply" and message["id"] == number:
            return message["result"]["Ok"]


def read_frame(stream):
    length = struct.unpack("<I", stream.recv(4, socket.MSG_WAITALL))[0]
    return json.loads(stream.recv(length, socket.MSG_WAITALL))


def write_frame(stream, message):
    data = json.dumps(message).encode()
    stream.sendall(struct.pack("<I", len(data)) + data)


def threads(pid):
    """CPU milliseconds per thread name."""
    found = {}
    for task in glob.glob(f"/proc/{pid}/task/*"):
        name = pathlib.Path(task, "comm").read_text().strip()
        nanos = int(pathlib.Path(task, "schedstat").read_text().split()[0])
        found[name] = found.get(name, 0) + nanos / 1e6
    return found


def kvm_counters(pid):
    found = {}
    for folder in glob.glob(f"/sys/kernel/debug/kvm/{pid}-*"):
        for file in glob.glob(folder + "/*"):
            if os.path.isfile(file):
                try:
                    found[os.path.basename(file)] = int(pathlib.Path(file).read_text())
                except (ValueError, OSError):
                    pass
    return found


def private_kib(pid, guest_mib):
    """Private memory outside guest RAM, and resident guest RAM, in KiB."""
    outside = guest = size = 0
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if words[0] == "Size:":
            size = int(words[1])
        elif words[0] in ("Private_Clean:", "Private_Dirty:"):
            if size >= guest_mib * 1024:
                guest += int(words[1])
            else:
                outside += int(words[1])
    return outside, guest


def main():
    work = pathlib.Path(sys.argv[1])
    memory = int(sys.argv[2]) if len(sys.argv) > 2 else 256
    vcpus = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    work.mkdir(parents=True, exist_ok=True)
    layers, scratch = work / "layers.img", work / "scratch.img"
    layers.write_bytes(b"\0" * 4096 * 16)
    with open(scratch, "wb") as file:
        file.truncate(64 << 20)
    sock = work / "control"
    sock.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(sock))
    listener.listen(4)
    record = os.open(work / "exit.json", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    fds = {
        "kernel": os.open(os.environ["BELUGA_KERNEL"], os.O_RDONLY),
        "initramfs": os.open(os.environ["BELUGA_INITRAMFS"], os.O_RDONLY),
        "control": listener.fileno(), "exit_record": record,
        "layers": os.open(layers, os.O_RDONLY), "scratch": os.open(scratch, os.O_RDWR), "tap": tap(),
    }

    def disk(name, read_only, length):
        return {"id": name, "read_only": read_only, "discard": not read_only, "flush": False,
                "extents": [{"fd": fds[name], "offset": 0, "length": length}]}
    config = {
        "version": 1, "name": "bench", "vcpus": vcpus, "memory_mib": memory, "kernel": fds["kernel"],
        "initramfs": fds["initramfs"], "cmdline": CMDLINE,
        "disks": [disk("layers", True, 4096 * 16), disk("scratch", False, 64 << 20)],
        "nets": [{"id": "eth0", "tap": fds["tap"], "mac": "02:00:00:00:00:01", "mtu": 1500}],
        "vsock": {"guest_cid": 3}, "rng": True, "balloon": True, "control": fds["control"], "exit_record": record,
    }
    memfd = os.memfd_create("config", 0)
    os.write(memfd, json.dumps(config).encode())
    os.lseek(memfd, 0, os.SEEK_SET)
    vmm = subprocess.Popen([os.environ["BELUGA_VMM"], "--config-fd", str(memfd)], stdin=subprocess.DEVNULL,
                           pass_fds=[memfd, *fds.values()])
    signal.alarm(120)
    try:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.connect(str(sock))
        message, passed = packet(control)
        assert message["type"] == "vsock_opened" and message["host_port"] == CONTROL_PORT, message
        agent = socket.socket(fileno=passed[0])
        agent.setblocking(True)
        hello = read_frame(agent)
        assert hello["type"] == "hello", hello
        write_frame(agent, {"type": "welcome", "protocol": 1, "token": "00" * 16, "acked": 0})
        # The reply comes after the handshake: the agent is ready.
        write_frame(agent, {"type": "request", "id": 1, "request": {"type": "list"}})
        assert read_frame(agent)["type"] == "reply"
        call(control, 1, {"type": "pause"})
        outside, guest = private_kib(vmm.pid, memory)
        cpu = threads(vmm.pid)
        kvm = kvm_counters(vmm.pid)
        status = call(control, 2, {"type": "status"})
        print(json.dumps({
            "cpu_ms": round(sum(cpu.values()), 3), "threads_ms": {k: round(v, 3) for k, v in cpu.items()},
            "private_kib": outside, "guest_kib": guest, "kvm": kvm, "stamps": status["stamps"],
            "user_exits": status["exits"], "devices": status["devices"], "console": status["console"],
        }))
    finally:
        vmm.kill()
        vmm.wait()
        if os.path.getsize(work / "exit.json"):
            print((work / "exit.json").read_text(), file=sys.stderr)


if __name__ == "__main__":
    main()
