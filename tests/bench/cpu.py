#!/usr/bin/env python3
"""The part of the bench that counts instructions.

    cpu.py OUT.json GUEST.cpio IMAGES System.map

Runs in the lab host under LAB_ICOUNT=1, where a millisecond of CPU time is a
million instructions. Three kinds of boots, one to warm up and five that count:

  pod      `beluga run -d` of one busybox container: every process and thread
  machine  the VMM alone with every device, stopped at "agent ready": exits
  bare     a trivial init in Beluga's VMM without devices, and in QEMU's
           microvm, with the same kernel, command line and memory
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import host
import qemu
import sampling
import tracing
import vmm
from host import WORK, BenchError, beluga, part, say

SAMPLES = 5
MEMORY_MIB = 256
# The receipt's names of the phases that end with them.
RECEIPT = {"vmm": "kernel_entry", "kernel": "init", "agent": "ready", "container": "first_container"}
PHASES = ["kernel_entry", "init", "ready", "first_container"]
# The guest's stamps up to which exits are told by the processor's reason.
EXIT_PHASES = {0x10: "init", 0x13: "ready", 0x15: "first_container"}
# 221 MiB of the container + 32 + 221/64 MiB of the guest's own: 256.
POD = """
apiVersion: v1
kind: Pod
metadata: {name: bench}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox
    command: [sleep, infinity]
    resources: {limits: {memory: 221Mi}}
"""


def command_line():
    """The kernel command line that the product uses, from its plan."""
    plan = beluga("run", "--dry-run", "-f", str(WORK / "pod.yaml"))
    found = re.search(r"^( +)cmdline: (?:[>|]-?\n)?(.*?)\n(?!\1 )", plan, re.M | re.S)
    if not found:
        raise BenchError("the plan shows no kernel command line")
    if f"memoryMib: {MEMORY_MIB}" not in plan and f"memory_mib: {MEMORY_MIB}" not in plan:
        raise BenchError(f"the pod's machine has not {MEMORY_MIB} MiB, as the others of this part have")
    return " ".join(found[2].split())


def flat(cpu):
    """{phase: {program: {thread: ms}}} keeps its shape; numbers are rounded."""
    return {name: flat(value) if isinstance(value, dict) else round(value, 3) for name, value in cpu.items()}


def pod_sample(tracer):
    """One start of a pod by the command line; what each process used."""
    with tracer:
        process = subprocess.Popen(["beluga", "run", "-d", "-f", str(WORK / "pod.yaml")], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        errors = process.communicate(timeout=600)[1].decode()
    if process.returncode:
        raise BenchError(f"beluga run ended with {process.returncode}: {errors.strip()}")
    try:
        resolvers = [pid for verb in (host.KEEPER, host.RESOLVER) for pid in host.processes("beluga", verb)]
        timeline = tracing.Timeline(process.pid, "beluga", resolvers).add(tracer.events())
        sample = {phase: timeline.cpu(phase) for phase in PHASES}
        sample["memory"] = pod_memory()
        sample["told"] = told()
    finally:
        beluga("delete", "pod", "bench")
    return flat(sample)


def told():
    """The VMM's own CPU clock at its stamps, from the receipt of the start."""
    nanos = {"ns": 1e-6, "µs": 1e-3, "ms": 1, "s": 1e3}
    page = beluga("describe", "pod", "bench")
    lines = re.findall(r"^  (\w+) +\S+ \S+ +([\d.]+) (ns|µs|ms|s)$", page, re.M)
    found, total = {}, 0
    for name, value, unit in lines:
        total += float(value) * nanos[unit]
        found[RECEIPT.get(name, name)] = total
    return found


def must_agree(pod):
    """The VMM's own clock and the tracer measure the same thing. The clock may
    run behind: the scheduler corrects its own where a tick came late."""
    traced, ours = pod[PHASES[-1]]["beluga-vmm"]["all"]["median"], pod["told"][PHASES[-1]]["median"]
    if abs(traced - ours) > 0.05 * traced:
        raise BenchError(f"at the first container the VMM counts {ours:.1f} ms of its own, the tracer {traced:.1f}")
    return {"percent": round(100 * (traced - ours) / traced, 2)}


def pod_memory():
    """Private memory of the VMM and the supervisor of the one pod that runs."""
    # What is only needed for a start goes in the first moments after it.
    time.sleep(5)
    found = {}
    for name, program, verb, guest in (("vmm", "beluga-vmm", None, MEMORY_MIB), ("supervisor", "beluga", host.SUPERVISOR, 0),
                                       ("resolver", "beluga", host.RESOLVER, 0), ("its keeper", "beluga", host.KEEPER, 0)):
        running = host.processes(program, verb)
        if len(running) != 1:
            raise BenchError(f"{len(running)} of {name} run, not one")
        found[name] = host.memory(running[0], guest)
    return found


def disks():
    layers, scratch = WORK / "layers.img", WORK / "scratch.img"
    layers.write_bytes(b"\0" * 4096 * 16)
    with open(scratch, "wb") as file:
        file.truncate(64 << 20)
    return layers, scratch


def machine_sample(cmdline):
    """One machine to "agent ready", stopped there; its counters."""
    machine = vmm.Vmm(WORK / "machine", MEMORY_MIB, os.environ["BELUGA_INITRAMFS"], cmdline)
    machine.add_every_device(*disks())
    try:
        pid = machine.start()
        machine.wait_until_agent_ready()
        machine.call("pause")
        kvm = host.kvm_counters(pid)
        status = machine.call("status")
        ready = next(at for at in status["stamps"] if at["stamp"] == "ready")
        return {"exits": host.exits(kvm), "kvm": kvm, "user_exits": user_exits(status["exits"], ready["exits"]),
                "interrupts": sum(device["interrupts"] for device in status["devices"].values()),
                "device_interrupts": {name: device["interrupts"] for name, device in status["devices"].items()},
                "devices": len(status["devices"]), "queues": sum(device["queues"] for device in status["devices"].values()),
                "cpu": host.threads(pid), "memory": host.memory(pid, MEMORY_MIB)}
    finally:
        machine.close()


def user_exits(kinds, at_ready):
    """Exits to the VMM by kind, without the one that the pause made."""
    kinds = {kind: count for kind, count in kinds.items() if not kind.startswith("kvm_")}
    return {**kinds, "at_ready": at_ready, "all": sum(kinds.values()) - kinds.get("interrupted", 0)}


def bare_beluga(tracer, guest, cmdline):
    """The trivial guest in Beluga's VMM; CPU at its init, exits of all of it."""
    machine = vmm.Vmm(WORK / "bare", MEMORY_MIB, guest, cmdline)
    try:
        with tracer:
            pid = machine.start()
            record = machine.wait_for_end()
        timeline = tracing.Timeline(pid, "beluga-vmm").add(tracer.events())
        kvm = {name[4:]: count for name, count in record["exits"].items() if name.startswith("kvm_")}
        return {"cpu": flat(timeline.cpu("init")), "exits": host.exits(kvm),
                "user_exits": sum(n for name, n in record["exits"].items() if not name.startswith("kvm_"))}
    finally:
        machine.close()


def bare_qemu(tracer, guest, cmdline):
    """The same guest in QEMU's microvm."""
    machine = qemu.Qemu(os.environ["BELUGA_KERNEL"], guest, cmdline, MEMORY_MIB)
    try:
        with tracer:
            pid = machine.start(WORK / "qemu.log")
            machine.wait_for_end()
        timeline = tracing.Timeline(pid, "qemu").add(tracer.events())
        kvm = host.kvm_counters(pid)
        return {"cpu": flat(timeline.cpu("init")), "exits": host.exits(kvm),
                "user_exits": kvm.get("io_exits", 0) + kvm.get("mmio_exits", 0), "memory": host.memory(pid, MEMORY_MIB)}
    finally:
        machine.close()


def profiles(cmdline, guest_map):
    """Where one start of a machine spends its time, and what its exits are."""
    sampler, exits = sampling.Sampler(), tracing.Tracer("exits", sampling.EXIT_EVENTS)

    def start(watch):
        machine = vmm.Vmm(WORK / "machine", MEMORY_MIB, os.environ["BELUGA_INITRAMFS"], cmdline)
        machine.add_every_device(*disks())
        try:
            with watch:
                pid = machine.start()
                machine.wait_until_agent_ready()
            return {int(task): host.read(f"/proc/{pid}/task/{task}/comm").strip()
                    for task in os.listdir(f"/proc/{pid}/task")}
        finally:
            machine.close()

    threads = start(sampler)
    where = sampling.summarise(sampler.samples(), threads, guest_map)
    start(exits)
    found = {"time": where, "exits": sampling.exits_to(exits.events(), 0x13, guest_map)}
    with exits:
        beluga("run", "-d", "-f", str(WORK / "pod.yaml"))
    beluga("delete", "pod", "bench")
    found["phases"] = sampling.exits_by_phase(exits.events(), EXIT_PHASES)
    return found


def repeat(name, sample):
    """One to warm up, then the samples; merged, with the raw ones beside."""
    samples = []
    for number in range(SAMPLES + 1):
        begun = time.monotonic()
        one = sample()
        say(f"{name} {number or 'warm-up'}: {time.monotonic() - begun:.1f} virtual seconds")
        if number:
            samples.append(one)
    return host.merge(samples)


def main():
    out, guest, images, guest_map = sys.argv[1:]
    host.mount_debugfs()
    report = {"settings": host.settings(), "memory_mib": MEMORY_MIB, "qemu_machine": qemu.MACHINE,
              "qemu_version": qemu.version()}
    host.instance(images)
    (WORK / "pod.yaml").write_text(POD)
    local_guest = WORK / "guest.cpio"
    local_guest.write_bytes(pathlib.Path(guest).read_bytes())
    cmdline = command_line()
    report["settings"]["cmdline"] = cmdline
    # The kernel's farewell would go out by the early port, byte by byte.
    bare = cmdline.replace(vmm.EARLY_PORT, "")
    tracer = tracing.Tracer("bench", tracing.SCHED)
    part(report, "pod", lambda: repeat("pod", lambda: pod_sample(tracer)))
    # A part of its own: where the clocks differ, what was measured is shown all the same.
    part(report, "clocks", lambda: must_agree(report["pod"]))
    part(report, "machine", lambda: repeat("machine", lambda: machine_sample(cmdline)))
    part(report, "bare_beluga", lambda: repeat("bare guest, Beluga", lambda: bare_beluga(tracer, local_guest, bare)))
    part(report, "bare_qemu", lambda: repeat("bare guest, QEMU", lambda: bare_qemu(tracer, local_guest, bare)))
    part(report, "profile", lambda: profiles(cmdline, guest_map))
    pathlib.Path(out).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
