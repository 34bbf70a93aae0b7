#!/bin/bash
# Runs a command in the lab host, a virtual machine in which KVM works:
#
#   tests/lab/lab.sh [--] COMMAND [ARGUMENT…]     streams and exit status are the command's
#   tests/lab/lab.sh 'SHELL LINE'                 likewise
#   tests/lab/lab.sh --shell                      an interactive shell there
#   tests/lab/lab.sh --able                       status 0: this machine's KVM runs guests, nothing is emulated
#
# On a machine whose own KVM can run a guest, the command runs right here, with
# the same environment. README.md tells what the lab host is and has.
#
#   LAB_MEMORY (6G)  LAB_CPUS (1)   size of the lab host
#   LAB_TIMEOUT (1800)              seconds until the command is given up: status 124
#   LAB_ICOUNT=1                    time is an instruction count: one CPU, slow, exact
#   LAB_FORCE=1                     the lab host even where KVM is able
#   LAB_KEEP_LOG=FILE               keeps the lab host's console there
#   LAB_RETRIES (0)                 how often a command is begun anew when the lab host dies under it
#   LAB_QEMU_ARGS='-d … -D FILE'    further arguments of QEMU
# Status 125: the lab host did not come up, or died under the command.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}
# A boot takes seconds; a machine that compiles at the same time may need more.
boot_limit=120
attempts=3
# Who reads the output of a command that was begun anew looks for this.
once_more="the command is run once more in a new lab host"

# What is copied into the lab host's memory: name there, file here.
product=(
    bin/beluga "$target/release/beluga"
    bin/beluga-cri "$target/release/beluga-cri"
    bin/containerd-shim-beluga-v2 "$target/release/containerd-shim-beluga-v2"
    bin/beluga-vmm "$target/release/beluga-vmm"
    bin/beluga-share "$target/release/beluga-share"
    bin/beluga-agent "$target/guest/beluga-agent"
    lib/beluga/vmlinux "$target/guest/vmlinux"
    lib/beluga/initramfs.cpio "$target/guest/initramfs.cpio"
    lib/beluga/guest.built "$target/guest/guest.built"
    lib/beluga/conformance.tar "$target/guest/conformance.tar"
)

say() { echo "lab: $*" >&2; }

# Only hardware (or nested) virtualisation runs a guest kernel; /dev/kvm alone
# does not say so.
kvm_is_able() {
    [ -z "${LAB_FORCE:-}${LAB_ICOUNT:-}" ] && grep -qwE 'vmx|svm' /proc/cpuinfo &&
        [ -r /dev/kvm ] && [ -w /dev/kvm ]
}

run_directly() {
    local shell_mode=$1
    shift
    say "KVM works on this machine: running here"
    export PATH=$target/release:$target/guest:$PATH
    export BELUGA_VMM=$target/release/beluga-vmm BELUGA_SHARE=$target/release/beluga-share
    export BELUGA_KERNEL=$target/guest/vmlinux BELUGA_INITRAMFS=$target/guest/initramfs.cpio
    [ -z "$shell_mode" ] || exec "${SHELL:-/bin/bash}" -i
    exec timeout --foreground "${LAB_TIMEOUT:-1800}" "$@" </dev/null
}

# The binaries as one archive, which the kernel unpacks behind its initramfs.
pack_product() {
    local tree=$work/product i=0
    mkdir -p "$tree/product/bin" "$tree/product/lib/beluga"
    while [ $i -lt ${#product[@]} ]; do
        [ ! -e "${product[i + 1]}" ] || ln -s "${product[i + 1]}" "$tree/product/${product[i]}"
        i=$((i + 2))
    done
    (cd "$tree" && find product | LC_ALL=C sort | busybox cpio -o -H newc -L 2>/dev/null)
}

write_run() {
    local shell_mode=$1
    shift
    env -0 >"$work/env"
    # One word stays one word.
    { [ -n "$shell_mode" ] || printf 'exec'; printf ' %q' "$@"; echo; } >"$work/command"
    {
        printf 'TARGET=%q\nCWD=%q\nMODULES=%q\nSHELL_MODE=%q\n' "$target" "$PWD" "$host/modules" "$shell_mode"
        # Standard input may be a pipe: then there is no size.
        [ -z "$shell_mode" ] || stty size 2>/dev/null | awk '$1 && $2 { print "ROWS=" $1 "\nCOLS=" $2 }' || true
    } >"$work/paths"
}

# Sets `machine` to QEMU's arguments. TCG does not intercept a nested guest's
# XSETBV, so KVM and such a guest disagree about XCR0 and Linux warns at length:
# the processor is one without XSAVE. Output ports are written to inherited
# descriptors; without ioeventfd a write in the lab host returns only when QEMU
# has passed it on, so nothing is lost when the machine ends.
describe_machine() {
    local shell_mode=$1 cpus=${LAB_CPUS:-1} accel=tcg,thread=multi clock=
    machine=()
    if [ -n "${LAB_ICOUNT:-}" ]; then
        cpus=1 accel=tcg,thread=single
        # One instruction, one tick: a measured rate would be off by some per cent.
        clock="tsc_early_khz=1000000 tsc=noirqtime"
        machine+=(-icount shift=0,sleep=off)
    else
        # Its kernel measures this wrongly on a busy machine (see tsc.py).
        clock=$("$here/tsc.py") && clock=tsc_early_khz=$clock || clock=
    fi
    machine+=(
        -M q35,usb=off,smm=off,vmport=off -accel "$accel" -cpu max,xsave=off -smp "$cpus" -m "${LAB_MEMORY:-6G}"
        -nodefaults -no-user-config -display none -no-reboot
        -kernel "$host/vmlinux" -initrd "$work/initramfs"
        -append "panic=-1 mitigations=off quiet loglevel=3 console=ttyS0 tsc=reliable $clock no_timer_check nokaslr random.trust_cpu=on cryptomgr.notests transparent_hugepage=always lab.stage2=$here/stage2.sh lab.run=$work"
        -serial "file:$work/console"
        -d cpu_reset,guest_errors -D "$work/resets"
        -fsdev "local,id=root,path=/,security_model=none,multidevs=remap,readonly=on"
        -device virtio-9p-pci,fsdev=root,mount_tag=root
        -fsdev "local,id=target,path=$target,security_model=none,multidevs=remap"
        -device virtio-9p-pci,fsdev=target,mount_tag=target
        -device virtio-rng-pci
        -add-fd fd=5,set=1 -chardev file,id=out,path=/dev/fdset/1,append=on
        -add-fd fd=6,set=2 -chardev file,id=err,path=/dev/fdset/2,append=on
        -chardev "file,id=ctl,path=$work/ctl"
        -chardev "pipe,id=monitor,path=$work/monitor" -mon chardev=monitor,mode=control
        -device virtio-serial-pci,ioeventfd=off
        -device virtserialport,chardev=out,name=lab.out
        -device virtserialport,chardev=err,name=lab.err
        -device virtserialport,chardev=ctl,name=lab.ctl
    )
    # Words on purpose.
    # shellcheck disable=SC2206
    machine+=(${LAB_QEMU_ARGS:-})
    [ -z "$shell_mode" ] || machine+=(
        -chardev stdio,id=terminal,signal=off -device virtconsole,chardev=terminal
    )
}

# Presses a key that means nothing. QEMU 7.2 takes back a flag of a nested guest
# at each of its exits without its lock, and an interrupt that comes in that
# moment is forgotten: the lab host sleeps for ever with its timer's interrupt
# pending. Any other interrupt brings it along. (Where time is an instruction
# count, one thread does both.)
nudge() {
    [ -n "${LAB_ICOUNT:-}" ] ||
        echo '{"execute": "send-key", "arguments": {"keys": [{"type": "qcode", "data": "shift"}]}}' >"$work/monitor.in"
}

# Ends a lab host that does not become ready in time, or whose command takes
# too long; the boot does not count against the command.
watch() {
    local qemu=$1 left=$((boot_limit * 2))
    while ! grep -qs ready "$work/ctl"; do
        sleep 0.5
        left=$((left - 1))
        if [ $left -le 0 ]; then
            kill -KILL "$qemu" 2>/dev/null
            return
        fi
    done
    cat "$work/monitor.out" >/dev/null &
    echo '{"execute": "qmp_capabilities"}' >"$work/monitor.in"
    local end=$((SECONDS + ${LAB_TIMEOUT:-1800}))
    while [ $SECONDS -lt $end ]; do
        sleep 2
        nudge
    done
    echo timeout >"$work/late"
    kill -KILL "$qemu" 2>/dev/null
}

# One boot. Returns QEMU's status; the control file tells how far it came.
boot() {
    local shell_mode=$1 input=/dev/null output=$work/qemu qemu watcher status=0
    : >"$work/ctl"
    rm -f "$work"/monitor.*
    mkfifo "$work/monitor.in" "$work/monitor.out"
    # The chardev `stdio` of the shell is QEMU's own standard input and output.
    [ -z "$shell_mode" ] || input=/dev/stdin output=/dev/stdout
    # QEMU insists on write-only descriptors; ours may be a terminal or a socket.
    local pumps=()
    exec 5> >(exec cat)
    pumps+=($!)
    exec 6> >(exec cat >&2)
    pumps+=($!)
    qemu-system-x86_64 "${machine[@]}" <"$input" >"$output" 2>"$work/qemu" &
    qemu=$!
    exec 5>&- 6>&-
    # A process group of its own, so that its sleep ends with it.
    set -m
    watch $qemu </dev/null >/dev/null 2>&1 &
    watcher=$!
    set +m
    wait $qemu 2>/dev/null || status=$?
    kill -- -$watcher 2>/dev/null || true
    wait $watcher 2>/dev/null || true
    wait "${pumps[@]}" 2>/dev/null || true
    return $status
}

# `jobs -p` names QEMU and the leader of the watcher's group.
tidy() {
    local job
    for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || kill "$job" 2>/dev/null || true; done
    # QEMU leaves a raw terminal behind when it is killed.
    [ -z "${terminal:-}" ] || stty "$terminal" 2>/dev/null || true
    rm -rf "$work"
}

# The log of resets ends with the state of the processor that was reset last.
tell_console() {
    tail -n "${1:-15}" "$work/console" "$work/qemu" 2>/dev/null | cut -c1-200 >&2 || true
    if [ $# = 0 ]; then tail -n 45 "$work/resets" 2>/dev/null | cut -c1-120 >&2 || true; fi
}

run_in_lab() {
    local shell_mode=$1 attempt status ended retries=${LAB_RETRIES:-0}
    shift
    "$repo/scripts/setup.sh" lab
    host=$("$here/prepare.sh")
    work=$(mktemp -d "${TMPDIR:-/tmp}/beluga-lab.XXXXXX")
    terminal=
    [ -z "$shell_mode" ] || terminal=$(stty -g 2>/dev/null) || true
    trap tidy EXIT
    trap 'exit 130' INT TERM HUP
    mkdir -p "$target"
    { cat "$host/initramfs.cpio"; pack_product; } >"$work/initramfs"
    write_run "$shell_mode" "$@"
    describe_machine "$shell_mode"
    for attempt in $(seq $attempts); do
        status=0
        boot "$shell_mode" || status=$?
        [ -z "${LAB_KEEP_LOG:-}" ] || cp "$work/console" "$LAB_KEEP_LOG"
        ended=$(sed -n 's/^exit \([0-9]*\)$/\1/p' "$work/ctl")
        [ -z "$ended" ] || exit "$ended"
        if grep -qs ready "$work/ctl"; then
            if [ -e "$work/late" ]; then
                say "gave up after ${LAB_TIMEOUT:-1800} s (LAB_TIMEOUT)"
                exit 124
            fi
            say "the lab host died under the command (QEMU ended with status $status); its console:"
            tell_console
            [ $retries -gt 0 ] || exit 125
            retries=$((retries - 1))
            say "$once_more"
            continue
        fi
        say "the lab host did not come up (attempt $attempt of $attempts)"
        tell_console 5
    done
    exit 125
}

main() {
    local shell_mode=
    case ${1:-} in
    --shell) shell_mode=1; shift ;;
    --able) kvm_is_able; exit ;;
    --) shift ;;
    -h | --help | "") sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"; [ -n "${1:-}" ]; exit ;;
    esac
    [ -n "$shell_mode" ] || [ $# -gt 0 ] || { say "no command"; exit 2; }
    # A single word may be a whole line of shell.
    if [ $# = 1 ] && [ -z "$shell_mode" ]; then set -- bash -c "$1"; fi
    if kvm_is_able; then
        run_directly "$shell_mode" "$@"
    fi
    run_in_lab "$shell_mode" "$@"
}

main "$@"
