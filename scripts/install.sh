#!/usr/bin/env bash
# Installs what `make build` made, or removes exactly that:
#
#   scripts/install.sh [--remove] PREFIX [RUNS_FROM]
#
# RUNS_FROM is where PREFIX will be when it runs, if not there (a DESTDIR).
# PREFIX/bin/beluga, PREFIX/bin/beluga-cri with its systemd unit, PREFIX/bin/containerd-shim-beluga-v2, PREFIX/lib/beluga/{beluga-vmm,beluga-share,vmlinux,initramfs.cpio,guest.built,conformance.tar},
# shell completions under PREFIX/share. PREFIX/lib/beluga/installed lists the
# files and the directories that were made for them: what lay there before stays.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

remove=
if [ "${1:-}" = --remove ]; then remove=yes; shift; fi
prefix=${1:?usage: scripts/install.sh [--remove] PREFIX}
runs_from=${2:-$prefix}
list=$prefix/lib/beluga/installed

# Where each part goes: source, mode, place below PREFIX.
parts=(
    "$target/release/beluga 755 /bin/beluga"
    "$target/release/beluga-cri 755 /bin/beluga-cri"
    "$target/release/containerd-shim-beluga-v2 755 /bin/containerd-shim-beluga-v2"
    "dist/beluga-cri.service 644 /lib/systemd/system/beluga-cri.service"
    "$target/release/beluga-vmm 755 /lib/beluga/beluga-vmm"
    "$target/release/beluga-share 755 /lib/beluga/beluga-share"
    "$target/guest/vmlinux 644 /lib/beluga/vmlinux"
    "$target/guest/initramfs.cpio 644 /lib/beluga/initramfs.cpio"
    "$target/guest/guest.built 644 /lib/beluga/guest.built"
    "$target/guest/conformance.tar 644 /lib/beluga/conformance.tar"
)
completions=(
    "bash /share/bash-completion/completions/beluga"
    "zsh /share/zsh/site-functions/_beluga"
    "fish /share/fish/vendor_completions.d/beluga.fish"
)

# Files first, then directories from the innermost outwards; only empty ones go.
remove_all() {
    # Done already: to remove twice is no error.
    [ -f "$list" ] || { echo "nothing of beluga is installed in $prefix"; return; }
    local kind place places
    mapfile -t places < <(tac "$list")
    for kind in file directory; do
        for place in "${places[@]}"; do
            [ "${place%% *}" = $kind ] || continue
            place=$prefix${place#* }
            if [ $kind = file ]; then rm -fv "$place"; else rmdir "$place" 2>/dev/null || true; fi
        done
    done
}

# Makes the directory of a place below PREFIX and notes what was not there.
make_directory() {
    local path=$1
    [ ! -d "$prefix$path" ] || return 0
    [ "$path" = / ] || make_directory "$(dirname "$path")"
    mkdir "$prefix$path"
    made+=("directory $path")
}

# A second installation keeps the notes of the first.
install_all() {
    local part source mode place made=()
    [ ! -f "$list" ] || mapfile -t made <"$list"
    mkdir -p "$(dirname "$prefix")"
    for part in "${parts[@]}"; do
        read -r source mode place <<<"$part"
        make_directory "$(dirname "$place")"
        install -m "$mode" "$source" "$prefix$place"
        made+=("file $place")
    done
    sed -i "s|/usr/local/bin/|$runs_from/bin/|" "$prefix/lib/systemd/system/beluga-cri.service"
    for part in "${completions[@]}"; do
        read -r source place <<<"$part"
        make_directory "$(dirname "$place")"
        "$target/release/beluga" completion "$source" >"$prefix$place"
        made+=("file $place")
    done
    made+=("file /lib/beluga/installed")
    printf '%s\n' "${made[@]}" | awk '!seen[$0]++' >"$list.new"
    mv "$list.new" "$list"
    sed -n "s|^file |installed $prefix|p" "$list"
}

if [ -n "$remove" ]; then
    remove_all
    exit
fi
# Nothing is half installed: look first.
for part in "${parts[@]}"; do
    [ -f "${part%% *}" ] || { echo "install: ${part%% *} is missing; run \`make build\` first" >&2; exit 1; }
done
install_all
