#!/bin/bash
# Installs the Debian packages that a group of tasks needs, if they are absent.
#
#   scripts/setup.sh [GROUP…]      groups: kernel lab images product registry (default: all)
#
# Says nothing and touches no network when everything is there.
set -euo pipefail

declare -A packages=(
    # What building the guest kernel takes.
    [kernel]="gcc make libc6-dev flex bison bc libelf-dev libssl-dev xz-utils binutils patch python3"
    # What the lab host is made of.
    [lab]="qemu-system-x86 busybox-static kmod xz-utils zstd python3"
    # What the host side of a pod, its images and their tests call or compare with.
    # protobuf-compiler: the bindings of CRI are made from its definition.
    [product]="gcc libc6-dev protobuf-compiler e2fsprogs iproute2 nftables containernetworking-plugins iptables containerd strace"
    # A registry on the loopback, what fills it, and what it is compared with.
    [registry]="docker-registry skopeo umoci buildah apache2-utils openssl"
    [images]="gcc libc6-dev python3 erofs-utils xz-utils zstd curl iputils-ping procps openssl"
)

# dpkg keeps the state of each package in one line; a removed package with
# configuration left is not installed.
installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

main() {
    local groups=("$@") group package missing=()
    [ $# -gt 0 ] || groups=(kernel lab product images registry)
    for group in "${groups[@]}"; do
        if [ -z "${packages[$group]:-}" ]; then
            echo "setup: unknown group '$group' (known: ${!packages[*]})" >&2
            exit 2
        fi
        for package in ${packages[$group]}; do
            installed "$package" || missing+=("$package")
        done
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    if [ "$(id -u)" != 0 ]; then
        echo "setup: as root, run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "setup: installing ${missing[*]}" >&2
    # Several builds may start at once; dpkg itself only fails on its lock.
    exec 9>/run/lock/beluga-setup.lock
    flock 9
    export DEBIAN_FRONTEND=noninteractive
    install_all() {
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 \
            -o DPkg::Lock::Timeout=600 "${missing[@]}" </dev/null >"$log" 2>&1
    }
    local log
    log=$(mktemp)
    # The lists of a fresh machine are empty or old: fetch them only when needed.
    if ! install_all; then
        apt-get update -qq </dev/null >>"$log" 2>&1 || true
        if ! install_all; then
            cat "$log" >&2
            rm -f "$log"
            echo "setup: apt-get could not install: ${missing[*]}" >&2
            exit 1
        fi
    fi
    rm -f "$log"
}

main "$@"
