"""What a newcomer types first: the demo, the lab, an installation."""

import os
import pathlib
import re
import subprocess
import tempfile
import time

import readme

from .process import run

EXIT_37 = "make lab CMD='beluga run -f tests/pods/exit37.yaml'"
SHELL = "make lab"
# lab.sh's words before it begins a command anew.
ONCE_MORE = "the command is run once more in a new lab host"
# Seconds until a shell in the lab host is given up.
SHELL_LIMIT = 240


def demo(tally, environment, mark):
    """`make demo`, held against the transcript in README.md."""
    began = time.time()
    status, output = run(["make", "demo"], mark=mark, env=environment)
    tally.check("make demo", status == 0, f"exit status {status}")
    tally.notes.append(f"make demo, all built: {time.time() - began:.0f} s")
    # The lab host may have died under it: then what counts is what followed.
    output = output.rpartition(ONCE_MORE)[2]
    seen = [_address(line) for line in output.splitlines() if line.startswith("$ ")]
    shown = [_address(line) for line in readme.demo_commands()]
    differing = next((pair for pair in zip(shown, seen) if pair[0] != pair[1]), (len(shown), len(seen)))
    tally.check("README.md shows the demo as it is", shown == seen, f"{differing[0]} instead of {differing[1]}")
    wrong = readme.demo_differences(output.splitlines())
    tally.check("README.md shows what the demo prints", not wrong, "; ".join(wrong))


def _address(line):
    """The line without the pod's address, which may differ."""
    return re.sub(r"http://[0-9.]+/", "http://IP/", line)


def lab(tally, environment, mark):
    """`make lab`, with a command and as a shell: both end with the status of what ran there."""
    status = run(["bash", "-c", EXIT_37], mark=mark, env={**environment, "LAB_RETRIES": "1"})[0]
    tally.check(EXIT_37, status == 37, f"exit status {status}")
    status, said = readme.on_terminal(SHELL, environment, b"beluga version; exit 5\n", SHELL_LIMIT)
    tally.check(SHELL, status == 5 and "vmm" in said, f"exit status {status}\n{said}")


def installation(tally, mark):
    """`make install` and `make uninstall` with a PREFIX of one's own."""
    with tempfile.TemporaryDirectory(prefix="beluga-install-") as work:
        prefix = pathlib.Path(work) / "prefix"
        variables = ("BELUGA_VMM", "BELUGA_KERNEL", "BELUGA_INITRAMFS")
        clean = {key: value for key, value in os.environ.items() if key not in variables}
        status, _ = run(["make", "install", f"PREFIX={prefix}"], mark=mark)
        tally.check("make install PREFIX=…", status == 0, f"exit status {status}")
        beluga = prefix / "bin/beluga"
        for verb in ("version", "doctor"):
            # Whether pods can run here is not the question: what it finds is.
            said = subprocess.run([beluga, verb], env=clean, capture_output=True, text=True, check=False).stdout
            parts = all(f"{prefix}/bin/../lib/beluga/{part}" in said or f"{prefix}/lib/beluga/{part}" in said
                        for part in ("beluga-vmm", "beluga-share", "vmlinux", "initramfs.cpio"))
            tally.check(f"the installed beluga {verb} finds its parts", parts and "does not run" not in said, said)
        unit = (prefix / "lib/systemd/system/beluga-cri.service").read_text()
        tally.check("the installed unit starts what is installed", f"ExecStart={prefix}/bin/beluga-cri\n" in unit, unit)
        completions = list(prefix.glob("share/*/*/*beluga*"))
        tally.check("completions for bash, zsh and fish", len(completions) == 3 and all(
            "beluga" in path.read_text() for path in completions), str(completions))
        status, _ = run(["make", "install", f"PREFIX={prefix} with a blank"], mark=mark)
        tally.check("make install refuses a PREFIX with a blank", status != 0, "it was installed elsewhere")
        status, _ = run(["make", "uninstall", f"PREFIX={prefix}"], mark=mark)
        left = list(pathlib.Path(work).rglob("*"))
        tally.check("make uninstall PREFIX=…", status == 0 and not left, f"exit status {status}, left: {left}")


def run_all(tally, environment, mark):
    """Every command that README.md leaves to the gate, and that none is forgotten."""
    wrong = readme.faults()
    tally.check("README.md as a text", not wrong, "; ".join(wrong))
    installation(tally, mark)
    demo(tally, environment, mark)
    lab(tally, environment, mark)
    # This very run, when it began as README.md says.
    ran = tally.names | {"make test"}
    for command in readme.commands():
        if command.by_gate:
            tally.check(f"README.md: `{command.line}` is run", command.line in ran, "nothing in the gate runs it")
