#!/bin/bash
# Makes the lab host's kernel, modules and initramfs, once per machine, and
# prints the directory that holds them: tests/lab/prepare.sh
#
#   vmlinux         Debian's kernel, uncompressed (QEMU enters it by PVH, so that
#                   nothing is decompressed under emulation)
#   initramfs.cpio  busybox, ./init, and the modules that reach the root
#   modules/        what modprobe finds in the lab host, uncompressed
#
# Debian's kernel package is downloaded and unpacked, never installed: its hooks
# would touch the boot loader of this machine.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${BELUGA_CACHE:-/var/cache/beluga}/lab
meta=linux-image-6.12-amd64

say() { echo "lab: $*" >&2; }
die() { say "error: $*"; exit 1; }

# In the initramfs, in order of loading: the root file system, then KVM.
early_modules="9pnet_virtio 9p overlay kvm_amd tun vhost_vsock loop"
# Nothing else can matter in a machine with virtio devices only.
kept="kernel/arch kernel/block kernel/crypto kernel/fs kernel/lib kernel/net kernel/virt
    kernel/drivers/block/loop.ko kernel/drivers/block/null_blk kernel/drivers/crypto/ccp
    kernel/drivers/net/tun.ko kernel/drivers/net/veth.ko kernel/drivers/net/dummy.ko
    kernel/drivers/net/macvlan.ko kernel/drivers/net/macvtap.ko kernel/drivers/net/tap.ko
    kernel/drivers/net/ipvlan kernel/drivers/net/vxlan kernel/drivers/net/ifb.ko
    kernel/drivers/net/mdio kernel/drivers/vhost kernel/drivers/virt kernel/drivers/virtio
    kernel/drivers/char/hw_random kernel/drivers/cpufreq kernel/drivers/md/dm-mod.ko"

# The package the meta package asks for, as name=version.
kernel_package() {
    local wanted
    wanted=$(apt-cache show "$meta" 2>/dev/null | sed -n 's/^Depends: .*\(linux-image-[0-9][^ ,]*\) (= \([^)]*\)).*/\1=\2/p' | head -1)
    if [ -z "$wanted" ]; then
        wanted=$(ls "$cache"/source 2>/dev/null | sed -n 's/^\(linux-image-[^_]*\)_\(.*\)_amd64\.deb$/\1=\2/p' | sort -V | tail -1)
    fi
    if [ -z "$wanted" ] && [ "$(id -u)" = 0 ] && [ -z "${refreshed:-}" ]; then
        say "fetching the package lists"
        apt-get update -qq </dev/null >&2 || true
        refreshed=1 wanted=$(refreshed=1 kernel_package)
    fi
    [ -n "$wanted" ] || die "apt knows no package $meta (Debian 12 with its package lists is needed)"
    echo "$wanted"
}

fetch() {
    local package=$1 deb=$2 part
    [ -s "$deb" ] && return
    part=$(mktemp -d "$cache/part.XXXXXX")
    say "downloading ${package%%=*} (105 MB)"
    (cd "$part" && apt-get download -q -o APT::Sandbox::User=root "$package" </dev/null >&2) ||
        die "cannot download $package"
    mkdir -p "$cache/source"
    mv "$part"/*.deb "$deb"
    rmdir "$part"
}

# Only the parts named in `kept`, decompressed: both the emulated decompression
# and the search in a full tree cost seconds in the lab.
unpack_modules() {
    local from=$1 to=$2 part
    mkdir -p "$to"
    cp "$from"/modules.builtin "$from"/modules.builtin.modinfo "$from"/modules.order "$to"/
    for part in $kept; do
        if [ -d "$from/$part" ]; then
            mkdir -p "$to/$part"
            cp -r "$from/$part/." "$to/$part/"
        elif [ -e "$from/$part.xz" ]; then
            mkdir -p "$to/$(dirname "$part")"
            cp "$from/$part.xz" "$to/$part.xz"
        fi
    done
    find "$to" -name '*.ko.xz' -print0 | xargs -0 -r -n 50 -P 2 xz -d
}

# The ELF kernel in a bzImage that is compressed with zstd.
extract_vmlinux() {
    python3 - "$1" <<'PY' | zstd -dcq >"$2" 2>/dev/null || true
import struct, sys
image = open(sys.argv[1], "rb").read()
# Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length.
setup = (image[0x1F1] + 1) * 512
offset, length = struct.unpack_from("<II", image, 0x248)
sys.stdout.buffer.write(image[setup + offset : setup + offset + length - 4])
PY
    [ "$(head -c 4 "$2" | tail -c 3)" = ELF ] || die "no ELF kernel found in $1"
}

make_initramfs() {
    local modules=$1 version=$2 result=$3 tree=$4 name path order=()
    mkdir -p "$tree/bin" "$tree/modules" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/root"
    cp "$(command -v busybox)" "$tree/bin/busybox"
    cp "$here/init" "$tree/init"
    for name in $early_modules; do
        while read -r _ path _; do
            path=${path##*/}
            [[ " ${order[*]} " == *" $path "* ]] || order+=("$path")
            cp -n "$(find "$modules" -name "$path")" "$tree/modules/" 2>/dev/null || true
        done < <(modprobe -d "$modules" -S "$version" --show-depends "$name" | grep '^insmod')
    done
    printf '%s\n' "${order[@]}" >"$tree/modules/order"
    chmod 755 "$tree/init"
    (cd "$tree" && find . -print | LC_ALL=C sort | busybox cpio -o -H newc 2>/dev/null) >"$result"
}

build() {
    local package=$1 key=$2 name version work deb from
    "$here/../../scripts/setup.sh" lab
    name=${package%%=*} version=${name#linux-image-}
    deb=$cache/source/${name}_${package#*=}_amd64.deb
    fetch "$package" "$deb"
    say "preparing the lab host ($name)"
    work=$(mktemp -d "$cache/part.XXXXXX")
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work" --wildcards './boot/vmlinuz-*' './*lib/modules/*/modules.*' \
        $(for p in $kept; do echo "./*lib/modules/*/$p*"; done) 2>/dev/null || true
    from=$(find "$work" -path "*lib/modules/$version" -type d | head -1)
    [ -n "$from" ] || die "no modules in $deb"
    mkdir -p "$work/result/modules/lib/modules"
    unpack_modules "$from" "$work/result/modules/lib/modules/$version"
    depmod -b "$work/result/modules" "$version"
    # Where some distributions keep it: a test boots it as a guest.
    cp "$work/boot/vmlinuz-$version" "$work/result/modules/lib/modules/$version/vmlinuz"
    extract_vmlinux "$work/boot/vmlinuz-$version" "$work/result/vmlinux"
    make_initramfs "$work/result/modules" "$version" "$work/result/initramfs.cpio" "$work/initramfs"
    echo "$package" >"$work/result/package"
    rm -rf "${cache:?}/$key"
    mv "$work/result" "$cache/$key"
    rm -rf "$work"
}

main() {
    local package key
    mkdir -p "$cache"
    package=$(kernel_package)
    key=$(cat <(echo "$package") "$here/prepare.sh" "$here/init" | sha256sum | cut -c1-20)
    if [ ! -s "$cache/$key/initramfs.cpio" ]; then
        exec 8>"$cache/lock"
        flock 8
        [ -s "$cache/$key/initramfs.cpio" ] || build "$package" "$key"
        exec 8>&-
    fi
    echo "$cache/$key"
}

main "$@"
