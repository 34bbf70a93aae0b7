"""Commands of the gate, run in the checkout with no input."""

import contextlib
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / "target"


def run(command, on_line=None, mark=" ", on_start=None, **options):
    """Runs a command, its output shown as it comes; gives (status, output).

    `mark` is a character that tells its lines from those of another command;
    `on_start` is given the process.
    """
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    if on_start:
        on_start(process)
    lines = []
    for line in process.stdout:
        lines.append(line)
        print(f" {mark}| {line}", end="", flush=True)
        if on_line:
            on_line(line)
    return process.wait(), "".join(lines)


def children(pid):
    """The processes that a process has started and not waited for."""
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in brackets, may hold anything.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(stat.parent.name)


def quiet(command, **options):
    """Runs a command; its output is shown only when it fails."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    if done.returncode != 0:
        print(done.stdout[-20000:], flush=True)
    return done.returncode == 0
