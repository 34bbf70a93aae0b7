"""Rules of the house that no compiler knows: sources as texts."""

import re

from .process import ROOT

# A story's most lines, without blank ones and comments (CONTRIBUTING.md).
STORY = 15

# Where `unsafe` may stand: modules that say what holds, block by block
# (CONTRIBUTING.md).
SYS = re.compile(r"(^|/)sys(/|\.rs$)")
GUEST_STATE = {"vmm/src/memory.rs", "vmm/src/arch/x86_64/state.rs"}
# Comments, strings and characters: in them a word is only a word.
WORDS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'""", re.S)


def has_unsafe(text):
    """Whether Rust source has an `unsafe` block, function or implementation."""
    return re.search(r"\bunsafe\b", WORDS.sub(" ", text)) is not None


def may_be_unsafe(path):
    """Whether a source, by its path in the repository, may have one."""
    return SYS.search(path) is not None or path in GUEST_STATE


def unsafe_elsewhere():
    """Sources that have `unsafe` and may not."""
    sources = (path for path in ROOT.rglob("*.rs") if "target" not in path.relative_to(ROOT).parts)
    names = ((str(path.relative_to(ROOT)), path) for path in sources)
    return sorted(name for name, path in names
                  if not may_be_unsafe(name) and has_unsafe(path.read_text(encoding="utf-8")))


def long_stories(text):
    """Names and lines of the stories of a source that are too long, as rustfmt has it."""
    for found in re.finditer(r"^( *)#\[test\]\n(?: *#\[.*\n)*\1fn (\w+).*\n((?:.*\n)*?)\1\}$", text, re.M):
        lines = [line.strip() for line in found[3].splitlines()]
        count = sum(1 for line in lines if line and not line.startswith("//"))
        if count > STORY:
            yield found[2], count


def excused():
    """Stories that may be too long: by name, why."""
    lines = (ROOT / "tests/long_stories.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))


def stories():
    """What is wrong with the stories' lengths: there are others than the excused, or no longer all of those."""
    root, long = ROOT / "tests/stories", {}
    for path in sorted(root.rglob("*.rs")):
        module = str(path.relative_to(root).with_suffix("")).replace("/", "::").removesuffix("::mod")
        for name, count in long_stories(path.read_text(encoding="utf-8")):
            long[f"{module}::{name}"] = count
    wrong = [f"{name} has {count} lines" for name, count in long.items() if name not in excused()]
    return wrong + [f"{name} is not too long: tests/long_stories.txt need not name it"
                    for name in excused() if name not in long]


def run_all(tally):
    """Checks them."""
    wrong = stories()
    tally.check(f"a story has at most {STORY} lines", not wrong, "; ".join(wrong))
    wrong = unsafe_elsewhere()
    tally.check("unsafe stands in sys modules only", not wrong, ", ".join(wrong))
