#!/usr/bin/env bash
# Builds what a pod boots from once more, in another directory and for another
# home, and compares it byte by byte with target/guest:
#
#   tests/reproducible.sh initramfs     agent and initramfs (half a CPU-minute)
#   tests/reproducible.sh kernel        the kernel without its cache (see rootfs/README.md)
#
# Needs `make build` first.
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
cache=${BELUGA_CACHE:-/var/cache/beluga}
built=${CARGO_TARGET_DIR:-$repo/target}/guest

die() { echo "reproducible: $*" >&2; exit 1; }

# Tracked and new files, as they are now.
copy_of_repo() {
    mkdir -p "$1"
    (cd "$repo" && git ls-files -z --cached --others --exclude-standard |
        xargs -0 ls -d 2>/dev/null | tar -cf - -T -) | tar -xf - -C "$1"
}

same() {
    local first second
    first=$(sha256sum <"$built/$1") second=$(sha256sum <"$work/repo/target/guest/$1")
    [ "$first" = "$second" ] || die "$1 differs: ${first%% *} and ${second%% *}"
    echo "reproducible: $1 ${first%% *}"
}

# A home of its own, with the same downloaded crates.
initramfs() {
    mkdir -p "$work/home/registry"
    ln -s "${CARGO_HOME:-$HOME/.cargo}"/registry/* "$work/home/registry/"
    (umask 077 && CARGO_HOME=$work/home CARGO_NET_OFFLINE=true "$work/repo/rootfs/build.sh" agent)
    "$work/repo/rootfs/build.sh" initramfs
    same beluga-agent
    same initramfs.cpio
}

kernel() {
    mkdir -p "$work/cache"
    ln -s "$cache/source" "$work/cache/source"
    BELUGA_CACHE=$work/cache "$work/repo/rootfs/build.sh" kernel
    same vmlinux
}

[ $# -eq 1 ] && [[ $1 =~ ^(initramfs|kernel)$ ]] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ -s "$built/vmlinux" ] && [ -s "$built/initramfs.cpio" ] || die "nothing in $built: make build"
work=$(mktemp -d "${TMPDIR:-/var/tmp}/beluga-reproducible.XXXXXX")
trap 'rm -rf "$work"' EXIT
unset CARGO_TARGET_DIR
copy_of_repo "$work/repo"
"$1"
