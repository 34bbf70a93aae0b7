#!/usr/bin/env python3
"""The part of the bench that weighs idle pods.

    pods.py OUT.json IMAGES

Runs in the lab host by the clock. Starts 1, 2, 4 and 8 pods of one sleeping
busybox in 128 MiB, waits 30 seconds after the last start, drops the caches and
reads MemTotal - MemAvailable: the slope over the number of pods is what one
more pod costs the host, whoever holds it.
"""

import json
import os
import pathlib
import sys
import time

import host
from host import SUPERVISOR, WORK, BenchError, beluga, part, say

COUNTS = [1, 2, 4, 8]
SETTLE_SECONDS = 30
MEMORY_MIB = 128
# 95 MiB of the container + 32 + 95/64 MiB of the guest's own: 128.
POD = """
apiVersion: v1
kind: Pod
metadata: {name: idle-NUMBER}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox
    command: [sleep, infinity]
    resources: {limits: {memory: 95Mi}}
"""


def slope(points):
    """Least squares over (pods, KiB)."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def start(number):
    path = WORK / f"idle-{number}.yaml"
    path.write_text(POD.replace("NUMBER", str(number)))
    plan = beluga("run", "--dry-run", "-f", str(path))
    if f"memory_mib: {MEMORY_MIB}\n" not in plan:
        raise BenchError(f"the pod's machine has not {MEMORY_MIB} MiB")
    beluga("run", "-d", "-f", str(path))


def weigh(count):
    """What the host has given away now, and to which of the pods' processes."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    point = {"pods": count, **host.meminfo()}
    for name, program, verb, guest in (("vmm", "beluga-vmm", None, MEMORY_MIB), ("supervisor", "beluga", SUPERVISOR, 0)):
        running = host.processes(program, verb)
        if len(running) != count:
            raise BenchError(f"{len(running)} of {name} run, not {count}")
        found = [host.memory(pid, guest) for pid in running]
        # Pages of the program are one copy for all pods: not a pod's cost.
        point[name] = sum(one["own_anonymous"] for one in found)
        point["guest"] = point.get("guest", 0) + sum(one["guest"] for one in found)
    return point


def measure():
    """Points at each count, and slopes in KiB per pod."""
    # One to warm up: bridge, scratch template and the binaries' pages are there.
    start(0)
    beluga("delete", "pod", "idle-0")
    points, running = [], 0
    for count in COUNTS:
        while running < count:
            running += 1
            start(running)
        time.sleep(SETTLE_SECONDS)
        points.append(weigh(count))
        say(f"{count} idle pods: {points[-1]['used'] / 1024:.0f} MiB used")
    slopes = {name: round(slope([(point["pods"], point[name]) for point in points]), 1)
              for name in points[0] if name != "pods"}
    slopes["kernel"] = round(slopes["used"] - slopes["guest"] - slopes["vmm"] - slopes["supervisor"], 1)
    for number in range(1, running + 1):
        beluga("delete", "pod", f"idle-{number}")
    return {"points": points, "slope": slopes, "memory_mib": MEMORY_MIB, "settle_seconds": SETTLE_SECONDS}


def main():
    out, images = sys.argv[1:]
    report = {}
    host.instance(images)
    part(report, "pods", measure)
    pathlib.Path(out).write_text(json.dumps({"settings": host.settings(), **report["pods"]}, indent=1))


if __name__ == "__main__":
    main()
