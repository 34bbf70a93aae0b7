"""How many virtual machines the gate's lab hosts have made."""

import contextlib
import os
import tempfile

from .process import TARGET

# A nested boot costs seconds; what needs more of them belongs to `make soak`.
MOST = 120


@contextlib.contextmanager
def counted(tally, limited):
    """Gives an environment in which lab hosts count, and counts the sum at the end."""
    TARGET.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix="beluga-boots-", dir=TARGET) as file:
        yield {**os.environ, "LAB_BOOTS": file.name}
        count = len(file.read().splitlines())
    tally.notes.append(f"{count} nested boots" + (f" of at most {MOST}" if limited else ""))
    if limited:
        tally.check(f"at most {MOST} nested boots", count <= MOST, f"{count} of them")
