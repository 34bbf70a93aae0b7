#!/usr/bin/env python3
"""How long an image of 1 GiB in 20 layers takes from a registry to a tree that containers can use.

    pull.py [ROUNDS] [MIB]      3 rounds and 1024 MiB unless told

`beluga pull` (layers to EROFS disks), `skopeo copy` and then `umoci unpack` (the same to an OCI
layout and then to files), and `podman pull` where it is installed, in turns, from one
docker-registry on the loopback. Each begins with nothing. On this machine itself: none of it needs
KVM. Seconds are by the clock, so only the ratio of one run says anything; memory is the most that
one process had, as the kernel counts it.
"""

import concurrent.futures
import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYERS = 20
FILE_SIZES = [200, 3_000, 20_000, 150_000, 2_000_000]
MEMORY_BUDGET_MIB = 100


def contents(source, size):
    """Bytes of which a compressor saves about half."""
    half = source.randbytes(size // 2)
    text = b"%08x the same line again and again\n" % size
    return half + (text * (size // len(text) + 1))[: size - len(half)]


def layer(path, number, size):
    """Writes a layer of about that many bytes; its digests and its length."""
    source = random.Random(number)
    plain, packed = hashlib.sha256(), hashlib.sha256()
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        count = 0
        while raw.tell() < size:
            info = tarfile.TarInfo(f"srv/{number:02}/{count % 16:x}/file{count}")
            info.size = min(FILE_SIZES[count % len(FILE_SIZES)], size)
            info.mode, info.mtime = 0o644, 1_700_000_000 + count
            tar.addfile(info, io.BytesIO(contents(source, info.size)))
            count += 1
    plain.update(raw.getbuffer())
    bytes_ = gzip.compress(raw.getbuffer(), 1, mtime=0)
    packed.update(bytes_)
    (path / packed.hexdigest()).write_bytes(bytes_)
    return packed.hexdigest(), plain.hexdigest(), len(bytes_), raw.getbuffer().nbytes


def blob(path, value):
    """Writes a document; its descriptor without a type."""
    text = json.dumps(value).encode()
    digest = hashlib.sha256(text).hexdigest()
    (path / digest).write_bytes(text)
    return {"digest": f"sha256:{digest}", "size": len(text)}


def image(directory, mib):
    """An OCI layout with the image `latest`; its packed and unpacked size."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)
    made = [layer(blobs, number, mib * (1 << 20) // LAYERS) for number in range(LAYERS)]
    kind = "application/vnd.oci.image"
    config = blob(blobs, {
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{plain}" for _, plain, _, _ in made]},
    })
    manifest = blob(blobs, {
        "schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json",
        "config": {"mediaType": f"{kind}.config.v1+json", **config},
        "layers": [{"mediaType": f"{kind}.layer.v1.tar+gzip", "digest": f"sha256:{packed}", "size": size}
                   for packed, _, size, _ in made],
    })
    named = {"mediaType": f"{kind}.manifest.v1+json", **manifest,
             "annotations": {"org.opencontainers.image.ref.name": "latest"}}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return sum(size for _, _, size, _ in made), sum(size for _, _, _, size in made)


def image_apart(directory, mib):
    """The same in a process of its own: what a child begins with counts for its peak of memory."""
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        return pool.submit(image, directory, mib).result()


def registry(work):
    """Starts docker-registry on a free port; the process and its address."""
    config = work / "registry.yml"
    config.write_text(f"version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {work}/data}}}}\n"
                      "http: {addr: '127.0.0.1:0'}\n")
    log = open(work / "registry.log", "w+")
    process = subprocess.Popen(["docker-registry", "serve", config], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=log)
    for _ in range(600):
        found = re.search(r"listening on [^\s\"]*:(\d+)", (work / "registry.log").read_text())
        if found:
            return process, f"127.0.0.1:{found[1]}"
        time.sleep(0.1)
    process.kill()
    sys.exit("docker-registry does not listen")


def measure(commands, environment):
    """Runs commands one after the other; seconds, and MiB of the largest process."""
    begun, most = time.monotonic(), 0
    for command in commands:
        with tempfile.TemporaryFile() as told:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=told, stderr=told)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                told.seek(0)
                sys.exit(f"{command}: {process.returncode}\n{told.read().decode(errors='replace')}")
        most = max(most, usage.ru_maxrss / 1024)
    return time.monotonic() - begun, most


def ways(name, place):
    """What is compared: the name, and the commands that fill `place`."""
    source = f"docker://{name}"
    yield "beluga pull", [["beluga", "--root", place / "root", "--state", place / "state", "pull", "-q", name]]
    yield "skopeo copy + umoci unpack", [
        ["skopeo", "copy", "-q", "--src-tls-verify=false", source, f"oci:{place}/oci:latest"],
        ["umoci", "unpack", "--image", f"{place}/oci:latest", place / "bundle"],
    ]
    if shutil.which("podman"):
        yield "podman pull", [["podman", "--root", place / "podman", "--runroot", place / "run", "pull", "-q",
                               "--tls-verify=false", name]]


def rounds(name, work, count):
    """Seconds and MiB of every round, by way."""
    environment = {**os.environ, "PATH": f"{ROOT / 'target/release'}:{os.environ['PATH']}"}
    found = {}
    for _ in range(count):
        for way, commands in ways(name, work / "here"):
            (work / "here").mkdir()
            found.setdefault(way, []).append(measure(commands, environment))
            subprocess.run(["chmod", "-R", "u+w", work / "here"], check=False)
            shutil.rmtree(work / "here")
            os.sync()
    return found


def table(found, packed, unpacked, count):
    """Prints the figures; whether the memory budget is held."""
    print(f"From a registry to something to run, {unpacked >> 20} MiB in {LAYERS} layers ({packed >> 20} MiB packed), "
          f"median of {count} (least-most)")
    print(f"  {'':28}{'seconds':>24}{'times':>8}{'peak MiB':>12}")
    base = statistics.median(seconds for seconds, _ in found["beluga pull"])
    for way, figures in found.items():
        seconds = [one for one, _ in figures]
        middle = statistics.median(seconds)
        span = f"{middle:.1f} ({min(seconds):.1f}-{max(seconds):.1f})"
        print(f"  {way:28}{span:>24}{middle / base:>8.2f}{max(most for _, most in figures):>12.0f}")
    if "podman pull" not in found:
        print("  podman pull                 not measured: podman is not installed")
    peak = max(most for _, most in found["beluga pull"])
    print(f"  budget: beluga below {MEMORY_BUDGET_MIB} MiB: {'kept' if peak < MEMORY_BUDGET_MIB else 'MISSED'}")


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    mib = int(sys.argv[2]) if len(sys.argv) > 2 else 1024
    with tempfile.TemporaryDirectory(prefix="beluga-bench-") as name:
        work = pathlib.Path(name)
        packed, unpacked = image_apart(work / "image", mib)
        process, address = registry(work)
        try:
            subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{work}/image:latest",
                            f"docker://{address}/bench:latest"], check=True, stdin=subprocess.DEVNULL)
            shutil.rmtree(work / "image")
            found = rounds(f"{address}/bench:latest", work, count)
        finally:
            process.kill()
            process.wait()
    table(found, packed, unpacked, count)


if __name__ == "__main__":
    main()
