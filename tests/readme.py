#!/usr/bin/env python3
"""README.md, taken at its word.

    readme.py run      runs the commands of README.md in order, as a newcomer on a
                       machine of his own would: installs, uses, removes. For the
                       lab host only, which forgets everything afterwards.

A command stands in a fenced block: in `sh` blocks every line, in `console`
blocks what follows a `$`, with lines of its output below. A comment behind a
command may say `exits N` (0 is meant otherwise) or `Ctrl-C` (it is interrupted
when it has printed something). `make` commands but install and uninstall are
the gate's own: it runs each under the very words of README.md. There is no
third kind, so a command that nobody runs fails.
"""

import dataclasses
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Seconds for one command: in emulation a pod's start takes some.
LIMIT = 150
# Where the lab host keeps the built binaries, and what points at them.
LAB_BINARIES = "/run/lab/bin"
PARTS = ("BELUGA_VMM", "BELUGA_KERNEL", "BELUGA_INITRAMFS", "BELUGA_ROOT", "BELUGA_STATE")


@dataclasses.dataclass
class Command:
    """One command of README.md, and what it says about it."""

    line: str
    comment: str = ""
    output: list = dataclasses.field(default_factory=list)

    @property
    def status(self):
        """The exit status that README.md promises."""
        if "Ctrl-C" in self.comment:
            return 130
        found = re.search(r"exits (\d+)", self.comment)
        return int(found[1]) if found else 0

    @property
    def by_gate(self):
        """Whether the gate itself runs it: what builds, and what has a lab host of its own."""
        return re.match(r"make (?!install|uninstall)", self.line) is not None


def text():
    """README.md."""
    return (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind):
    """The fenced blocks of one kind, each a list of lines."""
    return [found.splitlines() for found in re.findall(rf"^```{kind}\n(.*?)^```$", text(), re.M | re.S)]


def _sh(line):
    """A command of an `sh` block: two spaces and a # begin the comment."""
    command, _, comment = line.partition("  #")
    return Command(command.strip(), comment.strip())


def is_demo(block):
    """The transcript of `make demo`, which the gate compares with a run."""
    return any(line.endswith("beluga run -d -f tests/demo/demo.yaml") for line in block)


def demo_lines():
    """The transcript of `make demo` in README.md."""
    return [line for block in blocks("console") if is_demo(block) for line in block]


def demo_commands():
    """The commands that README.md shows of `make demo`."""
    return [line for line in demo_lines() if line.startswith("$ ")]


# What depends on the machine, or on which of two was quicker.
CHANCE = re.compile(r"ok +kvm |wget: ")


def stable(line):
    """The words of a line of output that every run has; `#` for numbers, units of time and names made by chance."""
    return " ".join("#" if re.search(r"\d|^/tmp/|^m?s$", word) else word for word in line.split())


def outputs(lines):
    """What each command of a transcript has printed, as stable lines: (command, lines) each."""
    found = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line, []))
        elif found and line.strip() and not line.startswith("#") and not CHANCE.match(line):
            found[-1][1].append(stable(line))
    return found


def demo_differences(said):
    """What README.md shows of the demo's outputs and `said`, a run's lines, has not: sentences."""
    pairs = zip(outputs(demo_lines()), outputs(said))
    return [f"`{command}` did not print {line!r}"
            for (command, shown), (_, seen) in pairs for line in dict.fromkeys(shown) if line not in seen]


def commands():
    """Every command but those of the demo's transcript, in the order of README.md."""
    found = []
    for kind, body in re.findall(r"^```(sh|console)\n(.*?)^```$", text(), re.M | re.S):
        lines = [line for line in body.splitlines() if line.strip()]
        if kind == "sh":
            found += [_sh(line) for line in lines if not line.startswith("#")]
        elif not is_demo(lines):
            for line in lines:
                if line.startswith("$ "):
                    found.append(_sh(line[2:]))
                else:
                    found[-1].output.append(line)
    return found


def spoken_commands():
    """Commands in the running text that stand in no block; `…` and capitals are placeholders."""
    known = {command.line for command in commands()}
    prose = re.sub(r"^```.*?^```$", "", text(), flags=re.M | re.S)
    spans = re.findall(r"`((?:make|beluga|tests/|scripts/)[^`]* [^`]*)`", prose)
    return [span for span in spans if not any(line.startswith(span) for line in known) and not re.search(r"…|\b[A-Z]{3,}\b", span)]


def faults():
    """What is wrong with README.md as a text: sentences."""
    found = [f"`{span}` stands in no block that is run" for span in spoken_commands()]
    hello = (ROOT / "tests/pods/hello.yaml").read_text(encoding="utf-8").splitlines()
    if hello not in blocks("yaml"):
        found.append("the pod in five lines is not tests/pods/hello.yaml")
    if not demo_commands():
        found.append("there is no transcript of the demo")
    places = re.findall(r"\]\(([^)#:]+)\)", text()) + re.findall(r"^\| `([a-z]+/)` \|", text(), re.M)
    return found + [f"{place} does not exist" for place in places if not (ROOT / place).exists()]


def on_terminal(line, environment, typed, limit, at_once=False):
    """Runs a command with a terminal; gives (status, output).

    Types `typed` at its first prompt, or, `at_once`, when it has printed anything.
    """
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execvpe("bash", ["bash", "-c", line], environment)
    said, end = b"", time.time() + limit
    while time.time() < end:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                said += os.read(terminal, 65536)
            except OSError:
                break
            # A line editor may ask for the cursor's place behind its prompt.
            plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", said).rstrip()
            if typed and (at_once or plain.endswith((b"#", b"$"))):
                os.write(terminal, typed)
                typed = None
    # The end of a terminal hangs up what still runs on it.
    os.close(terminal)
    status = _status(process)
    # As a shell tells it.
    return status if status >= 0 else 128 - status, said.decode(errors="replace").replace("\r", "")


def _status(process):
    """The exit status of a child; one that does not end within 20 s is killed."""
    end = time.time() + 20
    while time.time() < end:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run(command, environment):
    """Runs one command; gives what is wrong, or nothing."""
    if "Ctrl-C" in command.comment:
        status, said = on_terminal(command.line, environment, b"\x03", LIMIT, at_once=True)
    elif " -it " in command.line:
        status, said = on_terminal(command.line, environment, b"exit\n", LIMIT)
    else:
        done = subprocess.run(["bash", "-c", command.line], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT, check=False)
        status, said = done.returncode, done.stdout.decode(errors="replace")
    print(f"$ {command.line}\n{said}", flush=True)
    # Times and addresses are others each time.
    lines = iter(stable(line) for line in said.splitlines())
    absent = [wanted for wanted in command.output if not any(stable(wanted) in line for line in lines)]
    if status != command.status:
        return f"`{command.line}` ended with {status}, not {command.status}"
    return f"`{command.line}` did not print {absent[0]!r}" if absent else None


def installed_environment():
    """The environment of a machine on which Beluga is installed and nothing else is known of it."""
    path = ":".join(part for part in os.environ["PATH"].split(":") if part != LAB_BINARIES)
    return {**{key: value for key, value in os.environ.items() if key not in PARTS}, "PATH": path}


def exit_codes(environment):
    """What README.md and `beluga --help` do not say alike of exit codes: sentences."""
    shown = subprocess.run(["beluga", "--help"], env=environment, capture_output=True, text=True, check=True).stdout
    told = re.findall(r"^  (\d+|other)  +(.*)$", shown.partition("Exit codes:")[2], re.M)
    here = re.findall(r"^\| (\d+|other) \| (.*) \|$", text().replace("`", ""), re.M)
    return [] if told and told == here else [f"exit codes: README.md says {here}, --help {told}"]


def run_all():
    """Runs what a newcomer would; gives every fault."""
    # The lab host offers test images there; a newcomer has none.
    subprocess.run(["umount", "/var/lib/beluga"], stderr=subprocess.DEVNULL, check=False)
    # In the lab host buildah's storage lies on an overlay, which takes no other on top.
    storage = pathlib.Path("/run/readme-storage.conf")
    storage.write_text('[storage]\ndriver = "vfs"\ngraphroot = "/run/readme-storage"\nrunroot = "/run/readme-storage-run"\n')
    os.environ["CONTAINERS_STORAGE_CONF"] = str(storage)
    environment = {key: value for key, value in os.environ.items() if key not in PARTS[-2:]}
    found = []
    for command in commands():
        if command.by_gate:
            continue
        if wrong := run(command, environment):
            found.append(wrong)
        if command.line.startswith("make install"):
            environment = installed_environment()
    places = ("/var/lib/beluga", "/run/beluga", "/usr/local/lib/beluga", "/usr/local/bin/beluga")
    left = [place for place in places if os.path.exists(place)]
    return found + exit_codes(environment | {"PATH": f"{LAB_BINARIES}:{environment['PATH']}"}) + [
        f"{place} is left over" for place in left]


def main():
    """Does what the command line says."""
    if sys.argv[1:] != ["run"]:
        sys.exit(__doc__)
    if "BELUGA_LAB" not in os.environ:
        sys.exit("readme.py run: for the lab host only (it installs to /usr/local and removes what is there)")
    found = faults() + run_all()
    print("\n".join(found), file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
