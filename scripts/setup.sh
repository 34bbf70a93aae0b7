#!/bin/bash
# Installs the Debian packages that a group of tasks needs, if they are absent.
#
#   scripts/setup.sh [GROUP…]      groups: kernel lab product images peers (default: all)
#
# Says nothing and touches no network when everything is there. Removes nothing that is
# there, and starts no service: not now and not at the next boot.
set -euo pipefail

declare -A packages=(
    # What building the guest kernel takes.
    [kernel]="gcc make libc6-dev flex bison bc libelf-dev libssl-dev xz-utils binutils patch python3"
    # What the lab host is made of.
    [lab]="qemu-system-x86 busybox-static kmod xz-utils zstd python3"
    # What building the product takes, and what the host side of a pod calls.
    # protobuf-compiler: the bindings of CRI are made from its definition.
    [product]="gcc libc6-dev protobuf-compiler e2fsprogs iproute2 nftables"
    # What only tests need: who else works with pods and images, and a registry between them.
    [peers]="containernetworking-plugins iptables containerd|containerd.io docker-registry skopeo umoci buildah apache2-utils openssl strace passt uidmap"
    [images]="gcc libc6-dev python3 erofs-utils xz-utils zstd curl iputils-ping procps openssl"
)

# Peers that come with a service which a test machine is not to run for that.
services="docker-registry containerd"

# dpkg keeps the state of each package in one line; a removed package with
# configuration left is not installed.
installed() {
    local name
    for name in ${1//|/ }; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] && return 0
    done
    return 1
}

# Packages start their services while they are installed, unless this file says no.
# One that is there is the machine's own.
hold_services() {
    local policy=/usr/sbin/policy-rc.d
    [ ! -e $policy ] || return 0
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap "rm -f $policy" EXIT
}

# Of what was just installed, nothing starts with the machine.
disable_services() {
    local name
    for name in $services; do
        case " $* " in
        *" $name "*) systemctl disable --quiet "$name.service" >/dev/null 2>&1 || true ;;
        esac
    done
}

main() {
    local groups=("$@") group package missing=()
    [ $# -gt 0 ] || groups=(kernel lab product images peers)
    for group in "${groups[@]}"; do
        if [ -z "${packages[$group]:-}" ]; then
            echo "setup: unknown group '$group' (known: ${!packages[*]})" >&2
            exit 2
        fi
        for package in ${packages[$group]}; do
            installed "$package" || missing+=("${package%%|*}")
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
        apt-get install -y -qq --no-install-recommends --no-remove -o Dpkg::Use-Pty=0 \
            -o DPkg::Lock::Timeout=600 "${missing[@]}" </dev/null >"$log" 2>&1
    }
    hold_services
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
    disable_services "${missing[@]}"
}

main "$@"
