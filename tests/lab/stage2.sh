#!/bin/bash
# Sets the lab host up and runs the command. Started by ./init as PID 1, with
# the development machine's file system as a root that keeps nothing.
#
# The kernel command line names the run's directory, written by lab.sh:
#   env      the caller's environment, NUL-separated
#   command  what to run
#   paths    TARGET= (exported read-write), CWD=, MODULES=, SHELL_MODE=
# Virtio ports: lab.out, lab.err (streams), lab.ctl ("ready", "exit N").
run=$(sed -n 's/.*lab\.run=\([^ ]*\).*/\1/p' /proc/cmdline)
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# shellcheck source=/dev/null
. "$run/paths"

finish() {
    sync
    # Not poweroff: QEMU ends at a reset as well, and faster.
    echo 1 >/proc/sys/kernel/sysrq
    echo b >/proc/sysrq-trigger
    sleep 60
}
fail() { echo "lab: $*" >/dev/kmsg; finish; }

mount -t devpts -o mode=620,ptmxmode=666,gid=5 pts /dev/pts 2>/dev/null ||
    { mkdir -p /dev/pts && mount -t devpts -o mode=620,ptmxmode=666,gid=5 pts /dev/pts; }
mkdir -p /dev/shm /dev/mqueue /run/lock
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
mkdir -p /lib/modules
mount --bind "$MODULES/lib/modules" /lib/modules
mount -t 9p -o rw,trans=virtio,version=9p2000.L,msize=524288,cache=mmap target "$TARGET" || fail "no $TARGET"

# cgroup v2 with every controller, as on a systemd host.
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
# Exit counts depend on it: fixed, and part of the bench's report.
echo always >/sys/kernel/mm/transparent_hugepage/enabled
# Only a panic is told; at 0 not even that.
echo 1 >/proc/sys/kernel/printk
# As udev makes them on Debian: pods of ordinary users take both.
chgrp kvm /dev/kvm 2>/dev/null || chgrp 4710 /dev/kvm
chmod 660 /dev/kvm
hostname lab
ip link set lo up
[ -c /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }
chmod 666 /dev/net/tun
[ -c /dev/fuse ] || mknod /dev/fuse c 10 229

for port in /sys/class/virtio-ports/*; do
    case $(cat "$port/name") in
    lab.out) out=/dev/${port##*/} ;;
    lab.err) err=/dev/${port##*/} ;;
    lab.ctl) ctl=/dev/${port##*/} ;;
    esac
done
[ -n "$ctl" ] || fail "no control port"
[ -c /dev/kvm ] || fail "no /dev/kvm: kvm_amd did not load"
# Under instruction counting there is one CPU, and nothing may run beside.
if [ "$(nproc)" -gt 1 ]; then
    read -r _ < <(exec python3 "${0%/*}/keep.py" </dev/null 2>/dev/null)
fi
exec 7>"$ctl"
echo ready >&7

while IFS= read -r -d '' pair; do
    case $pair in
    [A-Za-z_]*=*) case ${pair%%=*} in PATH | PWD | SHLVL | _ | BASH* | TMPDIR) ;; *) export "${pair?}" ;; esac ;;
    esac
done <"$run/env"
export PATH=/run/lab/bin:$PATH HOME=/root BELUGA_LAB=1
# Where the product looks for its parts; copies in memory.
for pair in BELUGA_VMM=/run/lab/bin/beluga-vmm BELUGA_SHARE=/run/lab/bin/beluga-share \
    BELUGA_KERNEL=/run/lab/lib/beluga/vmlinux BELUGA_INITRAMFS=/run/lab/lib/beluga/initramfs.cpio; do
    [ ! -e "${pair#*=}" ] || export "${pair?}"
done
# The test images, where `make` has loaded them; what is done to them here is
# gone afterwards.
if [ -d "$TARGET/lab/root" ]; then
    mkdir -p /run/lab/images/upper /run/lab/images/work /var/lib/beluga
    mount -t overlay -o "lowerdir=$TARGET/lab/root,upperdir=/run/lab/images/upper,workdir=/run/lab/images/work,index=off,xino=off" \
        images /var/lib/beluga
fi
if [ -n "${LAB_BOOTS:-}" ]; then
    python3 "${0%/*}/boots.py" "$LAB_BOOTS" </dev/null >/dev/null 2>&1 7>&- &
fi
cd "$CWD" 2>/dev/null || cd /

if [ -n "$SHELL_MODE" ]; then
    stty -F /dev/hvc0 sane rows "${ROWS:-24}" cols "${COLS:-80}" 2>/dev/null
    export TERM=${TERM:-xterm}
    setsid -c bash -i </dev/hvc0 >/dev/hvc0 2>&1 7>&-
    status=$?
else
    # PID 1 gets no default signal actions: the command is a child, in a session
    # of its own.
    setsid bash "$run/command" </dev/null >"$out" 2>"$err" 7>&-
    status=$?
fi
echo "exit $status" >&7
finish
