"""The stories: chosen here, run in the lab host by tests/stories.sh.

Where the lab host is emulated it has one CPU, and there are two of them side by
side. One may die under its stories. Those that have not
finished are then run in a new one, and the summary says so; the result of a
story that has finished stands, good or bad.
"""

import concurrent.futures
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time

from .process import ROOT, TARGET, children, quiet, run

IMAGES = TARGET / "images"
# A lab host that hangs must not hang the gate.
SECONDS = 45 * 60
# Emulated lab hosts that share the stories.
LABS = 2
# How often each of them is replaced when it has died.
RESTARTS = 2
# The longest story that says nothing takes nine minutes there.
SILENT = 15 * 60
# So many failures may be chance, under an emulator; more are not.
CHANCE = 2
# What a story takes there, in seconds: those worth knowing, and the others.
TAKES = {"shared_image::two_pods_of_one_image_have_it_once": 300,
         "conformance::b01_conformance": 170,
         "readme::every_command_of_readme_does_what_readme_says": 170,
         "restarts::b11_a_container_that_crashes_sixty_times_leaves_nothing_behind": 50,
         "guest::clock::the_clock_is_right_after_ten_seconds_without_a_cpu": 25,
         "patterns::b42_web_app_and_database_are_one_pod": 140,
         "networks::b26_pods_of_two_hosts_reach_each_other_with_their_own_addresses": 100,
         "cni::cards_of_cni_are_the_pods_and_are_taken_back_after_a_crash": 70,
         "verbs::b03_stop_start_and_restart": 70,
         "exec::soak::a_gibibyte_arrives_unchanged": 300,
         "idle::an_idle_pod_gives_half_a_gibibyte_of_page_cache_back_to_the_host": 80}
# The others by module: seconds of the lab host that one of them costs. Those of a pod
# that they share cost little, those that boot pods of their own or load them much.
MODULES = {"change": 12, "cli": 5, "config": 10, "conformance": 1, "cp": 6, "crashes": 20, "cri": 5, "ends": 5,
           "exec": 15, "failing": 60, "fidelity": 30, "guest": 12, "hung": 20, "jobs": 40, "killed": 60, "leftovers": 15,
           "lifecycle": 25, "logical_host": 6, "network": 40, "networks": 30, "patterns": 35, "policy": 45,
           "port_forward": 40, "privilege": 4, "probes": 15, "refusals": 5, "restarts": 20, "rootless": 80, "roots": 20,
           "share": 12, "shim": 60, "storage": 6, "verbs": 6, "workloads": 50}
TAKES_MOSTLY = 10
# Modules that look at a pod of another one, to save a boot.
TOGETHER = {"storage": "logical_host", "privilege": "logical_host", "cp": "logical_host", "verbs": "exec"}
# tests/lab/lab.sh: the lab host did not come up, or died under the command.
LAB_DIED = 125
LAB_GAVE_UP = 124
# libtest: a test has failed.
TEST_FAILED = 101
# How many of the slowest stories the summary names.
SLOWEST = 15


class Log:
    """What the stories of one lab host have printed so far, line by line."""

    def __init__(self, mark=" "):
        # Stands before each of its lines on the screen.
        self.mark = mark
        self.results, self.skipped, self.took = {}, {}, {}
        self.clean = False
        # When it said something last.
        self.heard = time.time()
        # A story of it failed, and passed when it was run again.
        self.unsteady = False
        self.lab = []
        self._started = {}

    def line(self, text):
        """Takes one line of output; a part of some program's line may stand before it."""
        text = text.rstrip("\n")
        self.heard = time.time()
        if found := re.search(r"test (\S+) \.\.\. (ok|FAILED)$", text):
            self._finished(*found.groups())
        elif found := re.search(r"test (\S+)(?: - .*)? \.\.\. ignored(?:, (.*))?$", text):
            self._finished(found[1], "ok")
            self.skipped[found[1]] = found[2] or "ignored"
        elif found := re.search(r"SKIPPED (\S+): (.*)$", text):
            self.skipped[found[1]] = found[2]
        elif (found := re.search(r"STARTED (\S+)$", text)) and found[1] not in self.results:
            self._started[found[1]] = time.time()
        elif text.startswith("lab: "):
            self.lab.append(text.removeprefix("lab: "))
        elif text.endswith("clean: nothing left over"):
            self.clean = True

    def _finished(self, name, result):
        self.results.setdefault(name, result)
        if began := self._started.pop(name, None):
            self.took[name] = time.time() - began

    def new_lab_host(self):
        """Forgets what belonged to a lab host that is gone; gives what ran in it."""
        running = sorted(self._started)
        self._started, self.lab, self.clean = {}, [], False
        return running


def binary(*which):
    """Builds tests, the stories or those of `which`, and gives the path of their program."""
    which = which or ("-p", "beluga-tests", "--test", "stories")
    done = subprocess.run(
        ["cargo", "test", "--locked", *which, "--no-run", "--message-format", "short"],
        cwd=ROOT, capture_output=True, text=True)
    found = re.search(r"Executable .*\((.*)\)", done.stderr)
    if done.returncode != 0 or not found:
        print(done.stderr[-20000:])
        return None
    return ROOT / found.group(1)


def unproven():
    """Stories that the gate leaves out, each with its reason; run.py NAME runs one all the same."""
    for line in (ROOT / "tests/unproven.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, why = line.partition(": ")
            yield name, why


def chosen(stories, soak, filters):
    """The full names of the stories to run, as the test binary lists them."""
    listed = subprocess.run([stories, "--list", "--format", "terse"], check=True, capture_output=True, text=True).stdout
    names = [line.removesuffix(": test") for line in listed.splitlines() if line.endswith(": test")]
    if soak or filters:
        wanted = ["soak::"] if soak else filters
        return [name for name in names if any(part in name for part in wanted)]
    left_out = {name for name, _ in unproven()}
    return [name for name in names if not name.startswith("soak::") and name not in left_out]


def strange_images(tally, work):
    """Makes the images of odd files natively: in an emulated lab umoci costs minutes."""
    if os.geteuid() == 0:
        out = pathlib.Path(work, "strange")
        out.mkdir()
        path = {**os.environ, "PATH": f"{TARGET / 'release'}:{os.environ['PATH']}"}
        tally.check("images of odd files", quiet(["tests/images/strange/make.sh", out, IMAGES / "busybox.tar"], env=path))


def load_images(tally, work):
    """Loads the test images natively: in an emulated lab the conversion costs minutes."""
    instance = {**os.environ, "BELUGA_ROOT": f"{work}/root", "BELUGA_STATE": f"{work}/state"}
    for image in sorted(IMAGES.glob("*.tar")):
        tally.check(f"beluga load {image.name}",
                    quiet([TARGET / "release/beluga", "load", "-i", image], env=instance))


def shares(names):
    """The stories of each lab host; those of one module, or of several that share pods, stay together."""
    if quiet(["tests/lab/lab.sh", "--able"]):
        return [names]
    modules = {}
    for name in names:
        module = name.partition("::")[0]
        modules.setdefault(TOGETHER.get(module, module), []).append(name)

    def takes(some):
        return sum(TAKES.get(name, MODULES.get(name.partition("::")[0], TAKES_MOSTLY)) for name in some)

    parts = [[] for _ in range(LABS)]
    for module in sorted(modules.values(), key=takes, reverse=True):
        min(parts, key=takes).extend(module)
    return [part for part in parts if part]


def watch(process, log, silent=SILENT, pause=5):
    """Ends the lab host of a lab.sh that has said nothing for so long: an emulator
    that turns in circles neither ends nor idles."""
    while process.poll() is None:
        if time.time() - log.heard > silent:
            why = f"the lab host said nothing for {silent} s"
            log.lab += [] if why in log.lab else [why]
            for child in children(process.pid):
                with contextlib.suppress(OSError):
                    if "qemu-system" in os.readlink(f"/proc/{child}/exe"):
                        os.kill(child, signal.SIGKILL)
        time.sleep(pause)


def attempt(stories, work, names, log, seconds, environment):
    """Runs the named stories in one lab host; gives lab.sh's status."""
    environment = {**environment, "LAB_TIMEOUT": str(max(60, int(seconds))), "STORIES": str(stories),
                   "WORK": str(work), "BELUGA_TEST_IMAGES": str(IMAGES)}
    command = ["tests/lab/lab.sh", "--", "tests/stories.sh", "--exact", *names]
    log.heard = time.time()

    def begin(process):
        threading.Thread(target=watch, args=(process, log), daemon=True).start()

    return run(command, on_line=log.line, mark=log.mark, on_start=begin, env=environment)[0]


def attempts(tally, stories, work, names, log, environment):
    """Runs the stories, in a new lab host where one dies under them; gives the last status."""
    deadline, restarts = time.time() + SECONDS, 0
    while True:
        left = [name for name in names if name not in log.results]
        status = attempt(stories, work, left, log, deadline - time.time(), environment)
        # Where all have finished, only the account of what is left over is missing,
        # and nobody can give it any more.
        if status != LAB_DIED or restarts == RESTARTS or len(log.results) == len(names):
            return status
        restarts += 1
        why = next((line for line in log.lab if line.startswith("the lab host")), "the lab host ended")
        running = ", ".join(log.new_lab_host()) or "no story"
        note = f"lab restart {restarts} of at most {RESTARTS}: {why} while {running} ran"
        tally.notes.append(note)
        print(f"\n!! {note}; {len(names) - len(log.results)} stories are run in a new one", flush=True)


def side_by_side(tally, stories, work, names, environment):
    """Runs the stories in as many lab hosts as fit; gives (names, log, status) of each."""
    parts = shares(names)
    logs = [Log(chr(ord("a") + i) if len(parts) > 1 else " ") for i in range(len(parts))]
    with concurrent.futures.ThreadPoolExecutor(len(parts)) as pool:
        statuses = pool.map(lambda part, log: attempts(tally, stories, work, part, log, environment), parts, logs)
        return list(zip(parts, logs, statuses))


def once_more(tally, stories, work, runs, environment):
    """Runs what has failed once more, alone: an emulated host is slow by fits. A
    story that passes then is not steady, and the summary names it."""
    failed = [name for names, log, _ in runs for name in names if log.results.get(name) == "FAILED"]
    if not 0 < len(failed) <= CHANCE:
        return
    print(f"\n!! failed: {', '.join(failed)}; run once more, alone", flush=True)
    again = Log()
    attempt(stories, work, failed, again, SECONDS, environment)
    for _, log, _ in runs:
        for name in failed:
            if name in log.results and again.results.get(name) == "ok" and again.clean:
                log.results[name] = "ok"
                log.unsteady = True
                tally.notes.append(f"UNSTEADY {name}: failed beside others, passed alone")


def report(tally, runs):
    """Counts the results; a story that did not print `ok` has not passed."""
    missing, took = [], {}
    for names, log, _ in runs:
        tally.skips += sorted(log.skipped.items())
        tally.passed += sum(log.results.get(name) == "ok" and name not in log.skipped for name in names)
        tally.failures += [name for name in names if log.results.get(name) == "FAILED"]
        missing += [name for name in names if name not in log.results]
        took |= log.took
    tally.check("every story gave its result", runs and not missing, f"no result of {', '.join(missing) or 'any'}")
    tally.check("the stories left nothing over", all(log.clean for _, log, _ in runs), "see the end of their output")
    why = {LAB_DIED: "the lab host died too often", LAB_GAVE_UP: f"not done within {SECONDS} s"}
    wrong = [status for _, log, status in runs
             if status not in ({0, TEST_FAILED} if log.unsteady or "FAILED" in log.results.values() else {0})]
    tally.check("the stories ended well", not wrong,
                ", ".join(why.get(status, f"exit status {status}") for status in wrong))
    if took:
        slowest = sorted(took.items(), key=lambda item: -item[1])[:SLOWEST]
        tally.notes.append("slowest stories: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in slowest))


def run_all(tally, soak, filters, environment, elsewhere=False):
    """Every story that the gate proves, the soak runs, or those that a filter names.

    A filter may mean stories that were run `elsewhere` and none here.
    """
    tally.stage("stories on real pods" + (" (soak)" if soak else ""))
    stories = binary()
    if not tally.check("stories build", stories is not None):
        return
    if not (soak or filters):
        tally.skips += list(unproven())
    names = chosen(stories, soak, filters)
    if filters and elsewhere and not names:
        return
    if not tally.check("there are stories to run", names, f"none is named like {' or '.join(filters) or 'soak::'}"):
        return
    with tempfile.TemporaryDirectory(prefix="beluga-stories-", dir=TARGET) as work:
        load_images(tally, work)
        if any(name.startswith("fidelity::") for name in names):
            strange_images(tally, work)
        runs = side_by_side(tally, stories, pathlib.Path(work), names, environment)
        if not (soak or filters):
            once_more(tally, stories, pathlib.Path(work), runs, environment)
    report(tally, runs)
