#!/usr/bin/env python3
"""Prints how fast this machine's time stamp counter runs, in kHz.

The emulated processor of the lab host passes the counter through. Its kernel
would measure the rate against emulated timers, in a few milliseconds of a
processor that others use too, and on a busy machine it has been seen sixteen
times off: every time-out in such a lab host came sixteen times too early.
"""

import ctypes
import mmap
import platform
import sys
import time

# rdtsc; shl rdx, 32; or rax, rdx; ret
READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")
SECONDS = 0.2
# A reading of both clocks counts when nothing came between.
TOGETHER_NS = 20_000


def counter():
    """A function that reads the counter."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(READ_COUNTER)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_uint64)(address), page


def both(read):
    """(nanoseconds, counter) of one moment."""
    while True:
        before = time.monotonic_ns()
        ticks = read()
        after = time.monotonic_ns()
        if after - before < TOGETHER_NS:
            return before, ticks


def main():
    """Measures over a fifth of a second."""
    if platform.machine() != "x86_64":
        sys.exit("not an x86-64 machine")
    read, _page = counter()
    start, first = both(read)
    time.sleep(SECONDS)
    end, last = both(read)
    print(round((last - first) * 1_000_000 / (end - start)))


if __name__ == "__main__":
    main()
