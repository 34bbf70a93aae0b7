#!/bin/bash
# Builds what a pod boots from, into target/guest/:
#
#   rootfs/build.sh kernel       vmlinux (cached by the hash of its inputs)
#   rootfs/build.sh agent        the static agent, by cargo
#   rootfs/build.sh initramfs    initramfs.cpio from the agent
#   rootfs/build.sh [all]        all three
#   rootfs/build.sh key          prints the kernel's cache key and version
#
# The cache is ${BELUGA_CACHE:-/var/cache/beluga}, outside the checkout, so that
# a fresh clone on the same machine builds no kernel again. See README.md.
#
#   BELUGA_JOBS=N      compile jobs (default: number of CPUs)
#   BELUGA_KEEP=1      keep the source tree and objects and build incrementally
#                      (for work on kernel.config)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repo=$(dirname "$here")
cache=${BELUGA_CACHE:-/var/cache/beluga}
out=${CARGO_TARGET_DIR:-$repo/target}/guest
fragment=$here/kernel.config
package=linux-source-6.12
# Compiled files of the present fragment, for the progress line only.
about_files=1700

say() { echo "rootfs: $*" >&2; }
die() { say "error: $*"; exit 1; }

# The version apt would install, or else the newest source already in the cache
# (a machine without package lists can still use what it has).
source_version() {
    local version
    version=$(apt-cache policy "$package" 2>/dev/null | sed -n 's/^  Candidate: //p')
    if [ -z "$version" ] || [ "$version" = "(none)" ]; then
        version=$(ls "$cache/source" 2>/dev/null | sed -n "s/^${package}_\(.*\)\.deb$/\1/p" | sort -V | tail -1)
    fi
    if [ -z "$version" ] && [ "$(id -u)" = 0 ]; then
        say "fetching the package lists"
        apt-get update -qq </dev/null >&2 || true
        version=$(apt-cache policy "$package" | sed -n 's/^  Candidate: //p')
    fi
    [ -n "$version" ] && [ "$version" != "(none)" ] || die "apt knows no package $package (Debian 12 with its package lists is needed)"
    echo "$version"
}

patches() { find "$here/patches" -name '*.patch' | sort; }
patched_lines() { patches | xargs -r -n1 sed -n '/^--- /,$p'; }

# Everything that can change a byte of vmlinux: options, source, patches, the
# recipe below, and the compiler and linker. Comments of the fragment and the
# reasons at the head of a patch are left out.
kernel_key() {
    {
        echo "$1"
        grep -E '^(CONFIG|# CONFIG)_' "$fragment"
        patched_lines
        sed -n '/^# BEGIN recipe/,/^# END recipe/p' "$here/build.sh"
        cat "$here/pack-kernel.py"
        gcc --version | head -1
        ld --version | head -1
    } | sha256sum | cut -c1-20
}

fetch_source() {
    local version=$1 deb=$cache/source/${package}_$1.deb part
    [ -s "$deb" ] && return
    mkdir -p "$cache/source"
    part=$(mktemp -d "$cache/source/part.XXXXXX")
    say "downloading $package $version (150 MB)"
    # apt's own sandbox user cannot write here; the warning it gives is noise.
    (cd "$part" && apt-get download -q -o APT::Sandbox::User=root "$package=$version" </dev/null >&2) ||
        die "cannot download $package $version"
    mv "$part"/*.deb "$deb"
    rmdir "$part"
}

# BEGIN recipe
# The parts of the source that the build never reads are not unpacked.
unpack_source() {
    local deb=$1 tree=$2
    mkdir -p "$tree"
    dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$package.tar.xz" |
        tar -xJ -C "$tree" --strip-components=1 \
            --exclude='*/arch/[a-tv-wyz]*/*.[chS]' --exclude='*/arch/[a-tv-wyz]*/*.dts*' \
            --exclude='*/arch/um/*.[chS]' --exclude='*/arch/xtensa/*.[chS]' \
            --exclude='*/drivers/gpu/*.[ch]' --exclude='*/drivers/media/*.[ch]' \
            --exclude='*/drivers/net/ethernet/*.[ch]' --exclude='*/drivers/net/wireless/*.[ch]' \
            --exclude='*/drivers/infiniband/*.[ch]' --exclude='*/drivers/scsi/*.[ch]' \
            --exclude='*/drivers/staging/*.[ch]' --exclude='*/sound/*.[ch]' \
            --exclude='*/Documentation/*.rst' --exclude='*/Documentation/*.txt' \
            --exclude='*/Documentation/*.yaml' --exclude='*/Documentation/*.svg' \
            --exclude='*/tools/testing/*' --exclude='*/tools/perf/*'
}

# Notes in $work/patches what became of each. A patch saves time and adds
# nothing: where a newer source has changed under it, the kernel is built
# without. No fuzz, so that it goes to the very lines it was written for.
apply_patches() {
    local change name
    : >"$work/patches"
    while read -r change; do
        name=$(basename "$change" .patch)
        if patch -s -F0 -p1 --dry-run -d "$tree" <"$change" >/dev/null 2>&1; then
            patch -s -F0 -p1 -d "$tree" <"$change" >/dev/null
            echo "patch $name applied" >>"$work/patches"
        else
            echo "patch $name left out" >>"$work/patches"
            say "warning: $name does not apply to this source and is left out"
        fi
    done < <(patches)
}

# Nothing of the machine, the user, the caller's environment or the time gets
# into the image. Kconfig would note the versions of tools that this kernel is
# not built with, and /proc/config.gz carries what it notes.
kernel_make() {
    env -i PATH="$PATH" HOME="$objects" LC_ALL=C TZ=UTC \
        KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_USER=beluga \
        KBUILD_BUILD_HOST=beluga KBUILD_BUILD_VERSION=1 \
        make -C "$tree" O="$objects" ARCH=x86_64 \
        RUSTC=none BINDGEN=none PAHOLE=none "$@" </dev/null
}

configure() {
    kernel_make -s KCONFIG_ALLCONFIG="$fragment" allnoconfig >&2
    kernel_make -s olddefconfig >&2
}

# END recipe

# Kconfig drops an option whose dependencies are not met without a word.
verify_config() {
    local config=$1 line name bad=()
    while read -r line; do
        grep -qxF -- "$line" "$config" || bad+=("$line")
    done < <(grep -E '^CONFIG_[A-Z0-9_]+=' "$fragment")
    while read -r name; do
        ! grep -q "^$name=" "$config" || bad+=("$name is set, should not be")
    done < <(sed -n 's/^# \(CONFIG_[A-Z0-9_]*\) is not set$/\1/p' "$fragment")
    [ ${#bad[@]} -eq 0 ] || {
        say "error: these options of kernel.config did not survive:"
        printf '  %s\n' "${bad[@]}" >&2
        exit 1
    }
}

progress() {
    awk -v about="$about_files" '
        /^  (CC|AS|AR) / { n++; if (n % 100 == 0) { printf "rootfs: kernel: %d of about %d files\n", n, about; fflush() } next }
        /^  (LD|MODPOST|KSYMS|NM|SORTTAB|OBJCOPY) .*vmlinux/ { printf "rootfs: kernel: linking\n"; fflush(); next }
        /rror|arning/ { print; fflush() }' >&2
}

# Sets `cpu` to the user + system seconds of the children so far. `times` counts
# for the shell that runs it, so not in a substitution.
count_cpu() {
    times >"$work/times"
    cpu=$(tail -1 "$work/times" |
        awk '{ for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); s += t[1] * 60 + t[2] } printf "%d", s }')
}

build_kernel() {
    local version=$1 key=$2 tree objects work began cpu source
    local result=$cache/kernel/$key.part
    # What lies under this key is not what a build left there.
    rm -rf "${cache:?}/kernel/$key" "$result"
    "$repo/scripts/setup.sh" kernel
    fetch_source "$version"
    if [ -n "${BELUGA_KEEP:-}" ]; then work=$cache/work/$version; else work=$cache/work/$key; fi
    tree=$work/source objects=$work/objects
    [ -n "${BELUGA_KEEP:-}" ] || rm -rf "$work"
    mkdir -p "$objects"
    source=$(patched_lines | sha256sum)
    if [ "$(cat "$work/unpacked" 2>/dev/null)" != "$source" ]; then
        say "unpacking the kernel source"
        rm -rf "$tree"
        unpack_source "$cache/source/${package}_$version.deb" "$tree"
        apply_patches
        echo "$source" >"$work/unpacked"
    fi
    say "configuring"
    configure
    verify_config "$objects/.config"
    say "compiling the guest kernel $version, once per machine (log: $work/build.log)"
    began=$SECONDS
    kernel_make -j"${BELUGA_JOBS:-$(nproc)}" vmlinux 2>&1 | tee "$work/build.log" | progress ||
        { grep -E -B2 -A8 'rror' "$work/build.log" | tail -40 >&2; die "the kernel did not compile"; }
    count_cpu

    mkdir -p "$result"
    "$here/pack-kernel.py" "$objects/vmlinux" "$result/vmlinux"
    cp "$objects/.config" "$result/config"
    cp "$objects/System.map" "$result/System.map"
    {
        echo "source $package $version"
        cat "$work/patches"
        echo "sha256 $(sha256sum <"$result/vmlinux" | cut -d' ' -f1)"
        echo "bytes $(stat -c %s "$result/vmlinux")"
        echo "build_cpu_seconds $cpu"
        echo "build_wall_seconds $((SECONDS - began))"
    } >"$result/info"
    mv "$result" "$cache/kernel/$key"
    [ -n "${BELUGA_KEEP:-}" ] || rm -rf "$work"
    say "kernel built: $((cpu / 60)) CPU-minutes, $(stat -c %s "$cache/kernel/$key/vmlinux") bytes"
}

# Whether the cache's entry is what a build left there.
cached() {
    local entry=$cache/kernel/$1
    [ -s "$entry/vmlinux" ] &&
        grep -qx "sha256 $(sha256sum <"$entry/vmlinux" | cut -d' ' -f1)" "$entry/info" 2>/dev/null
}

# Replaces a file only when its content changes, and never half.
publish() {
    cmp -s "$1" "$2" && return
    cp --reflink=auto "$1" "$2.part.$$"
    mv "$2.part.$$" "$2"
}

# Notes beside a file of which version of Beluga it is: `beluga doctor` compares.
note() {
    local name=$1 version
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$repo/Cargo.toml" | head -1)
    {
        grep -v "^$name " "$out/guest.built" 2>/dev/null || true
        echo "$name $version $(sha256sum <"$out/$name" | cut -d' ' -f1)"
    } | sort >"$out/guest.built.part.$$"
    mv -f "$out/guest.built.part.$$" "$out/guest.built"
}

kernel() {
    local version key
    version=$(source_version)
    key=$(kernel_key "$version")
    mkdir -p "$out" "$cache/kernel"
    if ! cached "$key"; then
        exec 8>"$cache/kernel/lock"
        until flock -n 8; do
            say "another build compiles the kernel since $(($(date +%s) - $(stat -c %Y "$cache/kernel/lock"))) s: waiting for it (logs: $cache/work/*/build.log)"
            flock -w 15 8 && break
        done
        touch "$cache/kernel/lock"
        cached "$key" || build_kernel "$version" "$key"
        exec 8>&-
    fi
    publish "$cache/kernel/$key/vmlinux" "$out/vmlinux"
    publish "$cache/kernel/$key/config" "$out/kernel.config"
    publish "$cache/kernel/$key/System.map" "$out/System.map"
    publish "$cache/kernel/$key/info" "$out/kernel.info"
    note vmlinux
}

# Static on the gnu target: no other toolchain, no interpreter in the guest.
agent_triple=x86_64-unknown-linux-gnu
# No relocation at every start, no unwind tables (a panic ends the guest): a
# tenth of the size, and of what each container's start has to touch. Messages of
# a panic name source files, but not the home of who built them.
agent() {
    # Optimized across crates: every pod has it in its memory.
    (cd "$repo" && CARGO_PROFILE_RELEASE_LTO=thin CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static \
        -C force-unwind-tables=no \
        --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=crates" \
        cargo build --locked --release -p beluga-agent --target "$agent_triple")
    mkdir -p "$out"
    publish "${CARGO_TARGET_DIR:-$repo/target}/$agent_triple/release/beluga-agent" "$out/beluga-agent"
}

initramfs() {
    [ -x "$out/beluga-agent" ] || agent
    "$here/initramfs.sh" "$out/beluga-agent" "$out/initramfs.cpio"
    note initramfs.cpio
}

# Read whole before anything runs: the file may change under a long build.
main() {
    local version
    case ${1:-all} in
    kernel) kernel ;;
    agent) agent ;;
    initramfs) initramfs ;;
    all) kernel; agent; initramfs ;;
    key) version=$(source_version); echo "$(kernel_key "$version") $version" ;;
    *) sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
}

main "$@"
exit
