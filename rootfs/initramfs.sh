#!/bin/bash
# Packs the guest's initramfs: rootfs/initramfs.sh AGENT OUT
#
# An uncompressed newc archive (Documentation/driver-api/early-userspace,
# "initramfs buffer format") whose only program is the agent as /init. The
# kernel brings /dev, /dev/console and /root itself; the agent makes what else it
# mounts on. Same agent, same bytes: no times, no owners, no inode numbers of
# the machine. Needs no rights.
set -euo pipefail

[ $# -eq 2 ] || { echo "usage: $0 AGENT OUT" >&2; exit 2; }
agent=$1 out=$2
[ -s "$agent" ] || { echo "initramfs: no agent at '$agent'" >&2; exit 1; }

inode=0
zeros() { head -c "$1" /dev/zero; }

# entry NAME MODE SIZE: a header of 110 bytes, the name, and zeros up to a
# multiple of four. The fields: inode, mode, uid, gid, links, mtime, size, device
# major and minor, those of a device node, length of the name, checksum.
entry() {
    local name=$1 mode=$2 size=$3 links=1
    inode=$((inode + 1))
    [ "$name" != TRAILER!!! ] || inode=0
    printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\0' \
        "$inode" "$mode" 0 0 "$links" 0 "$size" 0 0 0 0 $((${#name} + 1)) 0 "$name"
    zeros $(((4 - (110 + ${#name} + 1) % 4) % 4))
}

archive() {
    local size
    size=$(stat -c %s "$agent")
    entry init $((0100755)) "$size"
    cat "$agent"
    zeros $(((4 - size % 4) % 4))
    entry TRAILER!!! 0 0
}

part=$out.part.$$
trap 'rm -f "$part"' EXIT
archive >"$part"
cmp -s "$part" "$out" || mv "$part" "$out"
