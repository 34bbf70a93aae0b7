#!/usr/bin/env python3
"""Writes a small bootable ELF from a built vmlinux: pack-kernel.py VMLINUX OUT

Keeps what a loader of a kernel reads: the entry point, the LOAD segments and
the note that holds the PVH entry. Symbols and section headers go. The linker
aligns parts of the kernel to 2 MiB in the file as well as in memory, and fills
the text up to such borders with no-op bytes that are never executed; here the
segments lie page by page in the file, and runs of filling are left out (memory
reads as zero there). That is a third of the file, and of what a VMM must copy.
"""

import struct
import sys

PAGE = 4096
# Shorter runs of filling are kept: each hole costs a program header.
MIN_HOLE = 64 * 1024
FILLING = (b"\x00" * PAGE, b"\xcc" * PAGE, b"\x90" * PAGE)
PT_LOAD, PT_NOTE = 1, 4
EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")


def pieces(data):
    """Splits a segment's bytes into (offset, bytes) without long filling."""
    start = hole = None
    for at in range(0, len(data), PAGE):
        page = data[at : at + PAGE]
        if page in FILLING:
            if hole is None:
                hole = at
            continue
        if start is None:
            start = at
        elif hole is not None and at - hole >= MIN_HOLE:
            yield start, data[start:hole]
            start = at
        hole = None
    if start is not None:
        yield start, data[start:]


def main(source, target):
    image = open(source, "rb").read()
    head = EHDR.unpack_from(image)
    ident, kind, machine, version, entry, phoff = head[:6]
    phentsize, phnum = head[9], head[10]
    if ident[:6] != b"\x7fELF\x02\x01" or phentsize != PHDR.size:
        sys.exit(f"{source}: not a 64-bit little-endian ELF file")

    segments, notes = [], []
    for n in range(phnum):
        kind_, flags, offset, vaddr, paddr, filesz, memsz, _ = PHDR.unpack_from(
            image, phoff + n * PHDR.size
        )
        if kind_ == PT_LOAD:
            data = image[offset : offset + filesz]
            parts = list(pieces(data)) or [(0, b"")]
            for i, (at, part) in enumerate(parts):
                # A hole belongs to the memory of the piece before it.
                end = memsz if i == len(parts) - 1 else parts[i + 1][0]
                size = end - at
                # vaddr of the per-CPU segment is zero and stays so.
                segments.append((flags, vaddr + at, paddr + at, part, size))
        elif kind_ == PT_NOTE:
            notes.append((flags, vaddr, paddr, filesz))

    headers, body = [], []
    position = PAGE
    where = []
    for flags, vaddr, paddr, part, memsz in segments:
        headers.append(
            PHDR.pack(PT_LOAD, flags, position, vaddr, paddr, len(part), memsz, PAGE)
        )
        where.append((paddr, len(part), position))
        padded = -len(part) % PAGE
        body.append(part + b"\x00" * padded)
        position += len(part) + padded
    for flags, vaddr, paddr, size in notes:
        for base, length, position in where:
            if base <= paddr and paddr + size <= base + length:
                offset = position + paddr - base
                headers.append(
                    PHDR.pack(PT_NOTE, flags, offset, vaddr, paddr, size, size, 4)
                )
                break
        else:
            sys.exit(f"{source}: a note lies in no segment: no PVH entry")

    out = EHDR.pack(
        ident, kind, machine, version, entry, EHDR.size, 0, head[7],
        EHDR.size, PHDR.size, len(headers), 0, 0, 0,
    ) + b"".join(headers)
    with open(target, "wb") as file:
        file.write(out + b"\x00" * (PAGE - len(out)))
        file.write(b"".join(body))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
