#!/usr/bin/env python3
"""`make bench`: measures, prints one table, writes target/bench.json.

    run.py [cpu] [pods] [reads] [traffic]      all parts, or only those

Each part runs in a lab host of its own and leaves target/bench/PART.json. A
figure that was not measured in this run is not shown. A missed budget is
printed as MISSED with its profile and is no failure; a part that cannot be
measured is, with its reason, and makes the exit status 1.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import budgets
import table
from host import say

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = ROOT / "tests/bench"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
OUT = TARGET / "bench"
IMAGES = TARGET / "images"
GUEST = OUT / "guest.cpio"
# Program and arguments, counted in instructions or by the clock, seconds at most.
PARTS = {
    "cpu": (["cpu.py", OUT / "cpu.json", GUEST, IMAGES, TARGET / "guest/System.map"], True, 1200),
    "pods": (["pods.py", OUT / "pods.json", IMAGES], False, 900),
    "reads": (["reads.py", OUT / "reads.json", IMAGES], False, 900),
    "traffic": (["traffic.py", OUT / "traffic.json", GUEST], False, 900),
}
SIZES = {"beluga": TARGET / "release/beluga", "beluga-vmm": TARGET / "release/beluga-vmm",
         "beluga-agent": TARGET / "guest/beluga-agent", "vmlinux": TARGET / "guest/vmlinux",
         "initramfs.cpio": TARGET / "guest/initramfs.cpio"}


def cpio(name, data):
    """One member of a newc archive."""
    name = name.encode() + b"\0"
    fields = (1, 0o100755, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return header + b"\0" * (-len(header) % 4) + data + b"\0" * (-len(data) % 4)


def build_guest():
    """The bench's own guest: an initramfs of one small program."""
    program = OUT / "guest"
    subprocess.run(["gcc", "-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie",
                    "-Wall", "-Wextra", "-Werror", "-s", "-o", program, HERE / "guest.c"], check=True)
    GUEST.write_bytes(cpio("init", program.read_bytes()) + cpio("TRAILER!!!", b""))


def measure(name):
    """Runs one part in the lab host; its report, or why there is none."""
    command, counted, limit = PARTS[name]
    out = OUT / f"{name}.json"
    out.unlink(missing_ok=True)
    environment = {**os.environ, "LAB_TIMEOUT": str(limit), **({"LAB_ICOUNT": "1"} if counted else {"LAB_FORCE": "1"})}
    say(f"{name}: a lab host {'that counts instructions' if counted else 'by the clock'}")
    begun = time.monotonic()
    ran = subprocess.run([ROOT / "tests/lab/lab.sh", "--", "python3", HERE / command[0], *command[1:]], cwd=ROOT,
                         env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    say(f"{name}: {time.monotonic() - begun:.0f} s")
    try:
        return json.loads(out.read_text())
    except (OSError, ValueError) as error:
        return {"failed": f"the lab run ended with {ran.returncode} and left no report: {error}"}


def commit():
    ran = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "unknown"


def failures(report, path=""):
    """Every part that failed, with its reason."""
    found = []
    for key, value in report.items():
        if isinstance(value, dict):
            name = f"{path}{key}"
            found += [f"{name}: {value['failed']}"] if "failed" in value else failures(value, name + ".")
    return found


def main():
    names = sys.argv[1:] or list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        sys.exit(f"bench: no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    OUT.mkdir(parents=True, exist_ok=True)
    build_guest()
    report = {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": commit(),
              "sizes": {name: path.stat().st_size for name, path in SIZES.items()}}
    for name in names:
        report[name] = measure(name)
    report["budgets"] = [entry for entry in budgets.judge(report) if entry["part"] in [*names, "sizes"]]
    report["failures"] = failures(report)
    (TARGET / "bench.json").write_text(json.dumps(report, indent=1) + "\n")
    print(table.render(report), flush=True)
    sys.exit(1 if report["failures"] or any(entry["verdict"] == "FAILED" for entry in report["budgets"]) else 0)


if __name__ == "__main__":
    main()
