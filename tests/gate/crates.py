"""Crates of others as cargo built them, kept outside the checkout.

A fresh clone on the same machine would compile some three hundred of them
again, for six profiles and purposes: minutes that say nothing about a change.
Ours are never kept. What is restored is as cargo left it, times and all, and
cargo itself decides whether it is still good.
"""

import hashlib
import pathlib
import shutil
import subprocess
import tempfile

from .process import ROOT, TARGET

# Sets that are kept: one for main, one for what is being tried.
SETS = 2


def _key():
    """Hash of what decides which crates are built, and by what."""
    lists = sorted(path for path in ROOT.glob("**/Cargo.toml") if TARGET not in path.parents)
    key = hashlib.sha256(subprocess.run(["rustc", "-vV"], check=True, capture_output=True).stdout)
    # The last two say how they are compiled.
    for path in [ROOT / "Cargo.lock", *lists, ROOT / "Makefile", ROOT / "rootfs/build.sh"]:
        key.update(path.read_bytes())
    return key.hexdigest()[:20]


def _not_ours(directory, names):
    """For shutil.copytree: what is ours, or can be done without."""
    kind = pathlib.Path(directory).name
    if kind == "deps":
        return [name for name in names if not name.startswith("lib") or name.startswith("libbeluga")
                or not name.endswith((".rlib", ".rmeta", ".so"))]
    return [name for name in names if kind in (".fingerprint", "build") and name.startswith("beluga")]


def _copy(origin, target):
    """Copies what cargo keeps of each profile, with the times by which it knows it."""
    for kept in [*origin.glob("*/.fingerprint"), *origin.glob("*/*/.fingerprint")]:
        for name in (".fingerprint", "build", "deps"):
            directory = kept.parent / name
            if directory.is_dir():
                shutil.copytree(directory, target / directory.relative_to(origin), symlinks=True, ignore=_not_ours,
                                dirs_exist_ok=True)


class Crates:
    """Those of one run of the gate: taken from the cache before it, or put there after it."""

    def __init__(self, cache):
        self._place = cache / "crates"
        self._kept = self._place / _key()
        # What a developer's checkout has gathered over weeks is not for others.
        self._fresh = not any(TARGET.glob("**/.fingerprint"))

    def restore(self):
        kept = self._kept if self._kept.is_dir() else self._latest()
        if self._fresh and kept:
            print("  crates of others: as built before on this machine", flush=True)
            _copy(kept, TARGET)

    def _latest(self):
        """What another state of the lists was built with: most of it is good, as cargo will find."""
        sets = self._place.iterdir() if self._place.is_dir() else []
        sets = [path for path in sets if not path.name.startswith("new-")]
        return max(sets, key=lambda path: path.stat().st_ctime, default=None)

    def keep(self):
        if not self._fresh or self._kept.is_dir():
            return
        self._place.mkdir(parents=True, exist_ok=True)
        new = pathlib.Path(tempfile.mkdtemp(prefix="new-", dir=self._place))
        _copy(TARGET, new)
        try:
            new.rename(self._kept)
        except OSError:
            # Another run of the gate was faster.
            shutil.rmtree(new)
        # Those that a run left behind that was killed are among the oldest.
        sets = sorted(self._place.iterdir(), key=lambda path: path.stat().st_ctime, reverse=True)
        for old in sets[SETS:]:
            shutil.rmtree(old, ignore_errors=True)
