#!/usr/bin/env bash
# Installs what `make build` made, or removes exactly that:
#
#   scripts/install.sh [--remove] PREFIX
#
# PREFIX/bin/beluga, PREFIX/lib/beluga/{beluga-vmm,vmlinux,initramfs.cpio},
# shell completions under PREFIX/share.
set -euo pipefail
cd "$(dirname "$0")/.."

remove=
if [ "${1:-}" = --remove ]; then remove=yes; shift; fi
prefix=${1:?usage: scripts/install.sh [--remove] PREFIX}

lib=$prefix/lib/beluga
declare -A files=(
    [target/release/beluga]="755 $prefix/bin/beluga"
    [target/release/beluga-vmm]="755 $lib/beluga-vmm"
    [target/guest/vmlinux]="644 $lib/vmlinux"
    [target/guest/initramfs.cpio]="644 $lib/initramfs.cpio"
)
declare -A completions=(
    [bash]=$prefix/share/bash-completion/completions/beluga
    [zsh]=$prefix/share/zsh/site-functions/_beluga
    [fish]=$prefix/share/fish/vendor_completions.d/beluga.fish
)

if [ -n "$remove" ]; then
    for entry in "${files[@]}"; do rm -fv "${entry#* }"; done
    rm -fv "${completions[@]}"
    rmdir "$lib" 2>/dev/null || true
    exit
fi

# Nothing is half installed: look first.
for source in "${!files[@]}"; do
    [ -f "$source" ] || { echo "install: $source is missing; run \`make build\` first" >&2; exit 1; }
done
for source in "${!files[@]}"; do
    read -r mode place <<<"${files[$source]}"
    install -D -m "$mode" "$source" "$place"
    echo "installed $place"
done
for shell in "${!completions[@]}"; do
    mkdir -p "$(dirname "${completions[$shell]}")"
    target/release/beluga completion "$shell" >"${completions[$shell]}"
    echo "installed ${completions[$shell]}"
done
