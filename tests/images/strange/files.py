#!/usr/bin/env python3
"""Puts what images seldom have into an unpacked one: files.py before|after|dated ROOT

`before` for the first layer, `after` for the second, which takes some of it away; `dated` only
gives times with fractions, of which umoci keeps the seconds.
"""

import os
import stat
import struct
import sys


def files():
    """The names and contents of ordinary files, some of them odd."""
    long = "n" * 255
    return {"plain": b"plain\n", "empty": b"", "large": bytes(range(256)) * 2000, "two\nlines": b"x",
            "uml\u00e4ut": b"x", f"{long}": b"long", "page": b"p" * 4096, "page+1": b"p" * 4097,
            "gone": b"x", "dir/gone": b"x", "dir/kept": b"x", "opaque/old": b"x", "becomes-dir": b"x"}


def before(root):
    """The first layer's."""
    for name, data in files().items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(data)
    with open(f"{root}/sparse", "wb") as out:
        for place in (0, 300_000, 1_500_000):
            out.seek(place)
            out.write(b"data" * 500)
        out.truncate(2_000_000)
    os.link(f"{root}/plain", f"{root}/hard")
    os.link(f"{root}/plain", f"{root}/dir/hard-too")
    os.symlink("../plain", f"{root}/dir/link")
    os.symlink("x/" * 1000, f"{root}/long-link")
    os.symlink("/etc/passwd", f"{root}/absolute")
    os.mkfifo(f"{root}/fifo")
    os.mknod(f"{root}/null", stat.S_IFCHR | 0o620, os.makedev(1, 3))
    os.mknod(f"{root}/disk", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    for name, mode in {"plain": 0o4755, "page": 0o2711, "empty": 0o000, "dir": 0o1777, "opaque": 0o2750,
                       "fifo": 0o601}.items():
        os.chmod(f"{root}/{name}", mode)
    for name, owner in {"page": (1, 2), "dir": (70_000, 3_000_000), "dir/link": (5, 6), "null": (0, 5)}.items():
        os.chown(f"{root}/{name}", *owner, follow_symlinks=False)
    os.chmod(f"{root}/page", 0o2711)
    os.setxattr(f"{root}/large", "user.note", b"two\nlines=\0")
    os.setxattr(f"{root}/large", "user.empty", b"")
    os.setxattr(f"{root}/dir", "user.dir", b"of a directory")
    os.setxattr(f"{root}/large", "trusted.secret", bytes(range(40)))
    # VFS_CAP_REVISION_2: cap_net_bind_service, effective.
    os.setxattr(f"{root}/page+1", "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))


def after(root):
    """The second layer's: whiteouts, another kind under a name, other contents and modes."""
    os.unlink(f"{root}/gone")
    os.unlink(f"{root}/dir/gone")
    os.unlink(f"{root}/opaque/old")
    os.rmdir(f"{root}/opaque")
    os.mkdir(f"{root}/opaque")
    os.unlink(f"{root}/becomes-dir")
    os.mkdir(f"{root}/becomes-dir")
    for name in ("opaque/new", "becomes-dir/file"):
        with open(f"{root}/{name}", "w", encoding="ascii") as out:
            out.write(name)
    os.chmod(f"{root}/large", 0o604)
    os.chown(f"{root}/empty", 42, 43)


def date(root):
    """Times with fractions, before 1970 and ahead, the same for whoever asks: that something was changed
    in a directory does not show, and umoci leaves it out of the layer."""
    special = {"plain": -1_500_000_000, "page": 2_000_000_000_500_000_000}
    for here, below, names in os.walk(root, topdown=False):
        for name in names + below:
            path = os.path.join(here, name)
            time = special.get(name, 1_600_000_000_123_456_789 + len(name))
            os.utime(path, ns=(time, time), follow_symlinks=False)
    os.utime(root, ns=(7, 7))


if __name__ == "__main__":
    {"before": before, "after": after, "dated": lambda root: None}[sys.argv[1]](sys.argv[2])
    date(sys.argv[2])
