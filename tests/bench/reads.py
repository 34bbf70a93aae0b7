#!/usr/bin/env python3
"""The part of the bench that reads a file in a container for the first time.

    reads.py OUT.json IMAGES

Runs in the lab host by the clock. The instance lies on a disk, ext4 on a loop device: in
the lab host's memory every image would be warm. Each round drops the host's caches and
starts a pod: its first read of the file is that of a cold image. A second pod finds the
image in the host's page cache; read once more, the file is in the guest's own.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import host
from host import WORK, BenchError, beluga, merge, part, say

ROUNDS = 3
FILE = "/usr/bin/python3.11"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: debian
    command: [sleep, infinity]
    resources: {limits: {memory: 95Mi}}
"""
# The shell and its tools are read before the clock starts.
READ = f"cat /bin/true > /dev/null; date +%s%N; cat {FILE} > /dev/null; date +%s%N; stat -c %s {FILE}"


def disk():
    """Puts an ext4 on a loop device where the instance will be."""
    WORK.mkdir(parents=True, exist_ok=True)
    file = WORK / "disk.img"
    for command in (["truncate", "-s", "1G", file], ["mkfs.ext4", "-q", file], ["mkdir", "-p", WORK / "disk"],
                    ["mount", "-o", "loop", file, WORK / "disk"]):
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def start(name):
    """Starts a pod."""
    path = WORK / f"{name}.yaml"
    path.write_text(POD.replace("NAME", name))
    beluga("run", "-d", "-f", str(path))


def read(name):
    """Milliseconds that reading the file took in the pod, by the guest's clock, and its size."""
    lines = beluga("exec", name, "--", "sh", "-c", READ).split()
    if len(lines) != 3:
        raise BenchError(f"reading {FILE} said {lines}")
    begun, ended, size = map(int, lines)
    return (ended - begun) / 1e6, size


def measure():
    """Median, least and most of each kind of read."""
    samples, size = [], 0
    for number in range(ROUNDS):
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        start("cold")
        cold, size = read("cold")
        start("warm")
        warm, _ = read("warm")
        again, _ = read("warm")
        beluga("delete", "pod", "cold", "warm")
        samples.append({"cold": cold, "warm": warm, "again": again})
        say(f"first reads, round {number + 1}: cold {cold:.0f} ms, warm {warm:.0f} ms, again {again:.0f} ms")
        time.sleep(1)
    return {**merge(samples), "bytes": size}


def main():
    out, images = sys.argv[1:]
    report = {}
    disk()
    host.instance(images, WORK / "disk")
    beluga("load", "-i", f"{images}/debian.tar")
    part(report, "reads", measure)
    pathlib.Path(out).write_text(json.dumps({"settings": host.settings(), **report["reads"]}, indent=1))


if __name__ == "__main__":
    main()
