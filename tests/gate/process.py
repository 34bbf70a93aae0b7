"""Commands of the gate, run in the checkout with no input."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / "target"


def run(command, on_line=None, mark=" ", **options):
    """Runs a command, its output shown as it comes; gives (status, output).

    `mark` is a character that tells its lines from those of another command.
    """
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    lines = []
    for line in process.stdout:
        lines.append(line)
        print(f" {mark}| {line}", end="", flush=True)
        if on_line:
            on_line(line)
    return process.wait(), "".join(lines)


def quiet(command, **options):
    """Runs a command; its output is shown only when it fails."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    if done.returncode != 0:
        print(done.stdout[-20000:], flush=True)
    return done.returncode == 0
