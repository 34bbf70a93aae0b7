"""Rules of the house that no compiler knows: sources as texts."""

import re

from .process import ROOT

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


def run_all(tally):
    """Checks them."""
    wrong = unsafe_elsewhere()
    tally.check("unsafe stands in sys modules only", not wrong, ", ".join(wrong))
