"""The runner against lab hosts that die, with the lab itself left out."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from unittest import mock

import readme

from . import source, stories, time_limit, units
from .process import children
from .tally import Tally

NAMES = ["a::one", "a::two", "a::three"]
DIED = "lab: the lab host died under the command (QEMU ended with status 139); its console:"


def play(*labs):
    """Runs NAMES in lab hosts that print what `labs` say: (lines, status) each.

    Gives the tally and the names that each lab host was asked for.
    """
    tally, log, asked, left = Tally(), stories.Log(), [], list(labs)

    def attempt(_stories, _work, names, log, _seconds, _environment):
        asked.append(names)
        lines, status = left.pop(0)
        for line in lines:
            log.line(line + "\n")
        return status

    with mock.patch.object(stories, "attempt", attempt), contextlib.redirect_stdout(io.StringIO()):
        status = stories.attempts(tally, None, None, NAMES, log, {})
        stories.report(tally, [(NAMES, log, status)])
    return tally, asked


def finished(*names, result="ok"):
    """What the stories print when they end."""
    return [line for name in names for line in (f"STARTED {name}", f"test {name} ... {result}")]


CLEAN = ["clean: nothing left over"]


class Restarts(unittest.TestCase):
    """What counts, and what is run again."""

    def test_all_pass_at_once(self):
        tally, asked = play((finished(*NAMES) + CLEAN, 0))
        self.assertEqual((tally.failures, asked), ([], [NAMES]))
        self.assertEqual(tally.passed, len(NAMES) + 3)

    def test_a_dead_lab_host_is_replaced_for_what_has_not_finished(self):
        first = finished("a::one") + ["STARTED a::two", DIED]
        tally, asked = play((first, 125), (finished("a::two", "a::three") + CLEAN, 0))
        self.assertEqual((tally.failures, asked), ([], [NAMES, ["a::two", "a::three"]]))
        self.assertIn("lab restart 1 of at most 2: the lab host died under the command (QEMU ended with status 139)",
                      tally.notes[0])
        self.assertIn("while a::two ran", tally.notes[0])

    def test_a_failed_story_is_not_run_again(self):
        first = finished("a::one", result="FAILED") + [DIED]
        tally, asked = play((first, 125), (finished("a::two", "a::three") + CLEAN, 0))
        self.assertEqual((tally.failures, asked[1]), (["a::one"], ["a::two", "a::three"]))

    def test_after_so_many_restarts_it_is_over(self):
        tally, asked = play(*[([DIED], 125)] * (stories.RESTARTS + 1))
        self.assertEqual(len(asked), stories.RESTARTS + 1)
        self.assertEqual(tally.passed, 0)
        self.assertIn("every story gave its result", tally.failures)
        self.assertIn("the stories ended well", tally.failures)

    def test_a_time_out_is_no_reason_to_run_again(self):
        tally, asked = play((finished("a::one"), 124))
        self.assertEqual((len(asked), tally.passed), (1, 1))
        self.assertIn("every story gave its result", tally.failures)

    def test_a_silent_end_is_no_success(self):
        tally, _ = play((finished("a::one", "a::two") + CLEAN, 0))
        self.assertEqual(tally.failures, ["every story gave its result"])

    def test_a_lab_host_that_dies_before_the_account_fails_the_gate(self):
        tally, asked = play((finished(*NAMES) + [DIED], 125))
        self.assertEqual(len(asked), 1)
        self.assertEqual(tally.failures, ["the stories left nothing over", "the stories ended well"])

    def test_a_line_begun_by_another_program_hides_no_result(self):
        lines = finished(*NAMES[:2]) + ["  host   79.1 mstest a::three ... FAILED"] + CLEAN
        tally, _ = play((lines, 101))
        self.assertEqual(tally.failures, ["a::three"])

    def test_a_skipped_story_is_not_a_passed_one(self):
        lines = ["SKIPPED a::two: no such device"] + finished(*NAMES) + CLEAN
        tally, _ = play((lines, 0))
        self.assertEqual((tally.skips, tally.passed), ([("a::two", "no such device")], len(NAMES) - 1 + 3))


class OnceMore(unittest.TestCase):
    """What becomes of a story that has failed."""

    def play(self, failed, again):
        """`failed` of NAMES fail at first; the second run prints `again`."""
        tally, log = Tally(), stories.Log()
        for name in NAMES:
            for line in finished(name, result="FAILED" if name in failed else "ok"):
                log.line(line)
        log.clean = True
        runs, asked = [(NAMES, log, 101)], []

        def attempt(_stories, _work, names, log, _seconds, _environment):
            asked.append(names)
            for line in again:
                log.line(line)

        with mock.patch.object(stories, "attempt", attempt), contextlib.redirect_stdout(io.StringIO()):
            stories.once_more(tally, None, None, runs, {})
            stories.report(tally, runs)
        return tally, asked

    def test_one_that_passes_alone_is_named_as_unsteady(self):
        tally, asked = self.play(["a::two"], finished("a::two") + CLEAN)
        self.assertEqual((tally.failures, asked), ([], [["a::two"]]))
        self.assertTrue(tally.notes[0].startswith("UNSTEADY a::two"))

    def test_one_that_fails_twice_has_failed(self):
        tally, _ = self.play(["a::two"], finished("a::two", result="FAILED") + CLEAN)
        self.assertEqual(tally.failures, ["a::two"])

    def test_one_that_leaves_something_over_has_failed(self):
        tally, _ = self.play(["a::two"], finished("a::two"))
        self.assertEqual(tally.failures, ["a::two"])

    def test_many_failures_are_no_chance(self):
        tally, asked = self.play(NAMES, [])
        self.assertEqual((tally.failures, asked), (NAMES, []))


class Rules(unittest.TestCase):
    """What is no story."""

    def test_unsafe_is_a_word_in_words_and_a_block_in_code(self):
        for text in ('// unsafe', '"unsafe { }"', 'r#"unsafe "x" {}"#', "forbid(unsafe_code)", "let c = '\\''; // unsafe"):
            self.assertFalse(source.has_unsafe(text), text)
        for text in ("unsafe { f() }", "'\"'; unsafe fn f()", "/* a */ unsafe impl Send for A {}", "&'a str; unsafe {}"):
            self.assertTrue(source.has_unsafe(text), text)
        self.assertTrue(source.may_be_unsafe("agent/src/sys/mod.rs") and source.may_be_unsafe("share/src/sys.rs"))
        self.assertFalse(source.may_be_unsafe("vmm/src/vcpu.rs") or source.may_be_unsafe("runtime/src/system.rs"))

    def test_too_slow_is_a_failure_on_a_machine_of_ones_own(self):
        for seconds, others, failures, skips in ((60, 0.9, 0, 0), (2701, 0.05, 1, 0), (2701, 0.5, 0, 1)):
            tally = Tally()
            with contextlib.redirect_stdout(io.StringIO()):
                time_limit.judge(tally, seconds, others)
            self.assertEqual((len(tally.failures), len(tally.skips)), (failures, skips))

    def test_what_a_machine_does_once_is_not_counted(self):
        clock, tally = time_limit.Clock(), Tally()
        with mock.patch.object(time_limit.time, "time", side_effect=[1000, 1600, clock._began + 2900]), \
                contextlib.redirect_stdout(io.StringIO()):
            with clock.apart():
                pass
            clock.check(tally)
        self.assertEqual((tally.passed, tally.failures), (1, []))

    def test_a_unit_test_that_fails_by_chance_is_run_alone_and_named(self):
        output = ("test a::b ... ok\ntest a::c ... FAILED\ntest result: FAILED. 1 passed; 1 failed; 0 ignored;\n"
                  "error: test failed, to rerun pass `-p x --lib`\n")
        for alone, status, unsteady in (("test a::c ... ok\n", 0, 1), ("test a::c ... FAILED\n", 101, 0), ("", 0, 0)):
            tally, asked = Tally(), []
            tally.libtest(output)
            run = lambda command, alone=alone, status=status: asked.append(command) or (status, alone)
            with mock.patch.object(units, "run", run), contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(units.once_more(tally, output), bool(unsteady))
            self.assertEqual(asked[0][3:], ["-p", "x", "--lib", "--", "--exact", "--test-threads=1", "a::c"])
            self.assertEqual((tally.passed, len(tally.failures), len(tally.notes)), (1 + unsteady, 1 - unsteady, unsteady))

    def test_many_failures_or_a_crash_are_no_chance(self):
        crash = "running 3 tests\nerror: test failed, to rerun pass `-p x --lib`\n"
        many = "".join(f"test t{n} ... FAILED\n" for n in range(4)) + crash
        for output in (crash, many):
            with mock.patch.object(units, "run", side_effect=AssertionError):
                self.assertFalse(units.once_more(Tally(), output))

    def test_a_transcript_is_compared_by_the_words_that_every_run_has(self):
        shown = ["# a title", "$ look", "ok  kvm  nested", "disk  44 MiB free", "$ go", "done in 3 s"]
        with mock.patch.object(readme, "demo_lines", lambda: shown):
            same = ["$ look", "ok  kvm  hardware", "disk  7 MiB free", "more", "$ go", "done in 12 s"]
            self.assertEqual(readme.demo_differences(same), [])
            other = ["$ look", "disk  7 MiB", "$ go", "done in 12 s"]
            self.assertEqual(readme.demo_differences(other), ["`$ look` did not print 'disk # MiB free'"])

    def test_what_cannot_run_here_has_not_passed(self):
        tally = Tally()
        tally.libtest("SKIPPED a::part_of_it: not root\ntest b ... SKIPPED b: no fsck.erofs\nok\n"
                      "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured\n")
        self.assertEqual(tally.skips, [("a::part_of_it", "not root"), ("b", "no fsck.erofs")])
        self.assertEqual(tally.passed, 1)

    def test_what_was_fuzzed_is_noted(self):
        tally = Tally()
        tally.libtest("test b ... FUZZED a::b: 300 executions\nok\nFUZZED c: 7 executions\n")
        self.assertEqual(tally.notes, ["fuzzed: 2 targets, 307 executions (a::b 300, c 7)"])


class Lengths(unittest.TestCase):
    """Which stories are too long."""

    @staticmethod
    def story(name, lines, indent=""):
        body = "".join(f"{indent}    line({n}, {{\n{indent}    }});\n" for n in range(lines // 2)) + lines % 2 * "    one();\n"
        return f"{indent}#[test]\n{indent}fn {name}() {{\n{body}{indent}}}\n\n"

    def test_a_story_of_sixteen_lines_is_too_long(self):
        text = self.story("fits", 15) + self.story("long", 16) + self.story("in_a_module", 17, "    ")
        self.assertEqual(list(source.long_stories(text)), [("long", 16), ("in_a_module", 17)])

    def test_comments_and_blank_lines_are_no_lines(self):
        text = self.story("fits", 15).replace("    one();", "    // Why.\n\n    one();")
        self.assertEqual(list(source.long_stories(text)), [])

    def test_what_is_no_story_is_left_alone(self):
        self.assertEqual(list(source.long_stories(self.story("fixture", 40).replace("#[test]\n", ""))), [])

    def test_the_list_names_those_that_are_too_long_and_no_others(self):
        with mock.patch.object(source, "excused", lambda: {"smoke::the_version_is_printed": "why"}):
            self.assertIn("smoke::the_version_is_printed is not too long: tests/long_stories.txt need not name it",
                          source.stories())
        with mock.patch.object(source, "STORY", 0):
            self.assertIn("smoke::the_version_is_printed has 1 lines", source.stories())


class Shares(unittest.TestCase):
    """Which lab host runs what."""

    def share(self, names, able=False):
        with mock.patch.object(stories, "quiet", lambda _: able):
            return stories.shares(names)

    def test_a_module_stays_together_and_all_are_run_once(self):
        names = [f"{module}::{i}" for module, count in (("a", 9), ("b", 4), ("c", 3)) for i in range(count)]
        parts = self.share(names)
        self.assertEqual(sorted(sum(parts, [])), sorted(names))
        self.assertEqual([{name[0] for name in part} for part in parts], [{"a"}, {"b", "c"}])

    def test_modules_that_share_a_pod_stay_together(self):
        names = ["logical_host::1", "cp::1", "a::1", "a::2", "a::3", "storage::1"]
        with mock.patch.object(stories, "MODULES", {}):
            self.assertEqual(self.share(names), [["logical_host::1", "cp::1", "storage::1"], ["a::1", "a::2", "a::3"]])

    def test_a_long_story_weighs_more(self):
        long = "exec::soak::a_gibibyte_arrives_unchanged"
        self.assertEqual(self.share(["a::1", "a::2", "b::1", long]), [[long], ["a::1", "a::2", "b::1"]])

    def test_one_module_needs_one_lab_host(self):
        self.assertEqual(self.share(NAMES), [NAMES])

    def test_on_hardware_all_run_in_one_place(self):
        self.assertEqual(self.share(["a::1", "b::1"], able=True), [["a::1", "b::1"]])

    def test_what_one_lab_host_fails_the_other_does_not_hide(self):
        tally, logs = Tally(), [stories.Log("a"), stories.Log("b")]
        for log, lines in zip(logs, (finished("a::one") + CLEAN, finished("b::one", result="FAILED"))):
            for line in lines:
                log.line(line)
        with contextlib.redirect_stdout(io.StringIO()):
            stories.report(tally, [(["a::one"], logs[0], 0), (["b::one"], logs[1], 101)])
        self.assertEqual((tally.passed, tally.failures), (1 + 2, ["b::one", "the stories left nothing over"]))

    def test_a_lab_host_that_says_nothing_is_ended(self):
        with tempfile.TemporaryDirectory() as place:
            emulator = shutil.copy(shutil.which("sleep"), f"{place}/qemu-system-x")
            log = stories.Log()
            log.heard = time.time() - 60
            for silent, ends in ((3600, False), (59, True)):
                with subprocess.Popen(["bash", "-c", f"{emulator} 30; exit 125"]) as process:
                    watcher = threading.Thread(target=stories.watch, args=(process, log, silent, 0.05))
                    watcher.start()
                    watcher.join(1)
                    self.assertEqual(process.poll() == 125, ends)
                    if not ends:
                        for child in (*children(process.pid), process.pid):
                            os.kill(child, signal.SIGKILL)
                    watcher.join()
            self.assertEqual(log.lab, ["the lab host said nothing for 59 s"])


if __name__ == "__main__":
    unittest.main()
