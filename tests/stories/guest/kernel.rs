//! Processes, memory, files and devices of the guest kernel, by use.
//!
//! `probe` (tests/images/probe.c) makes the system calls that no tool makes and
//! prints a word that only the use of the feature gives.

use super::{Use, all_hold};

const PROCESSES: &[Use] = &[
    (
        "mount, PID, UTS and IPC namespace",
        "unshare -mpfui --mount-proc sh -c 'hostname inner; echo $$ $(hostname) $(ipcs -q | grep -c 0x)'",
        "1 inner 0",
    ),
    (
        "network namespace",
        "unshare -n ls /proc/self/net/dev_snmp6",
        "lo",
    ),
    (
        "user namespace",
        "setpriv --reuid=1000 --regid=1000 --clear-groups unshare -Ur id -u",
        "0",
    ),
    (
        "cgroup namespace",
        "unshare -C cat /proc/self/cgroup",
        "0::/",
    ),
    (
        "time namespace",
        "unshare -T --boottime 1000000 cut -c1-3 /proc/uptime",
        "100",
    ),
    ("seccomp filter", "probe filter", "filtered"),
    ("Landlock", "probe landlock", "restricted"),
    ("keys", "probe key", "secret"),
    ("System V queue, semaphore, memory", "probe sysv", "posted"),
    ("POSIX queue and memory", "probe posix", "queued"),
    ("io_uring", "probe ring", "ELF"),
    ("userfaultfd", "probe fault", "served"),
    (
        "fanotify, kcmp, pidfd, memfd, cachestat, process_vm_readv, vsyscall",
        "probe calls",
        "copied",
    ),
    ("32-bit executable", "probe32", "32-bit"),
    (
        "binfmt_misc",
        "mount -t binfmt_misc b /mnt; echo ':k:E::known::/bin/cat:' > /mnt/register; echo shown > /v/a.known; chmod +x /v/a.known; /v/a.known; echo -1 > /mnt/k; umount /mnt",
        "shown",
    ),
    (
        "core dump",
        "cd /v; ulimit -c unlimited; { sh -c 'kill -ABRT $$'; } 2>/dev/null; head -c 4 core* | tail -c 3; rm core*",
        "ELF",
    ),
];

const MEMORY_AND_DEVICES: &[Use] = &[
    ("transparent huge pages", "probe huge", "huge"),
    (
        "hugetlbfs",
        "echo 2 > /proc/sys/vm/nr_hugepages; mount -t hugetlbfs h /mnt; fallocate -l 4M /mnt/f; grep -E 'HugePages_(Total|Free)' /proc/meminfo | tr -s ' '; umount /mnt; echo 0 > /proc/sys/vm/nr_hugepages",
        "HugePages_Total: 2\nHugePages_Free: 0",
    ),
    (
        "pressure stall figures",
        "head -qn1 /proc/pressure/cpu /proc/pressure/io /proc/pressure/memory /sys/fs/cgroup/memory.pressure | grep -c avg300=",
        "4",
    ),
    ("pressure trigger", "probe pressure", "watched"),
    (
        "page reporting offered and taken",
        "grep -l '^.....1' /sys/bus/virtio/drivers/virtio_balloon/virtio*/features | wc -l",
        "1",
    ),
    (
        "BPF program of a cgroup's devices",
        "probe device /sys/fs/cgroup/probe",
        "denied",
    ),
    ("vsock", "probe vsock", "reset"),
    (
        "vsock diagnosis",
        "ss -H --vsock | grep -c ' 2:1024 *$'",
        "1",
    ),
    ("host's clock", "probe clock", "paired"),
    (
        "random numbers of the host",
        "head -c 8 /dev/hwrng | wc -c",
        "8",
    ),
];

const FILES: &[Use] = &[
    (
        "overlayfs",
        "cd /v; mkdir -p o/1 o/2 o/u o/w o/m; touch o/1/gone o/2/kept; mount -t overlay o -o lowerdir=o/1:o/2,upperdir=o/u,workdir=o/w o/m; rm o/m/gone; ls o/m; umount o/m; stat -c %F o/u/gone; rm -r o",
        "kept\ncharacter special file",
    ),
    (
        "overlayfs on tmpfs",
        "cd /dev/shm; mkdir -p o/1 o/u o/w o/m; mkdir o/1/d; mount -t overlay o -o lowerdir=o/1,upperdir=o/u,workdir=o/w o/m; rmdir o/m/d; mkdir o/m/d; umount o/m; getfattr -n trusted.overlay.opaque --only-values o/u/d; rm -r o",
        "y",
    ),
    (
        "EROFS",
        "mount -t erofs -o ro /dev/vda1 /mnt; stat -f -c %T /mnt; touch /mnt/x 2>&1 | grep -o Read-only; umount /mnt",
        "erofs\nRead-only",
    ),
    (
        "loop, ext4, project quota, quotactl",
        "cd /v; truncate -s 32M disk; mkfs.ext4 -q -O quota,project disk; mkdir -p q; mount -o loop,prjquota,discard disk q; d=$(findmnt -no SOURCE q); mkdir q/p; probe quota $d q/p; truncate -s 48M disk; losetup -c $d; resize2fs $d >/dev/null 2>&1; umount q; rm disk",
        "exceeded",
    ),
    (
        "ACL on ext4",
        "cd /v; stat -f -c %T .; echo read > acl; chmod 600 acl; setfacl -m u:1000:r acl; setpriv --reuid=1000 --clear-groups cat acl",
        "ext2/ext3\nread",
    ),
    (
        "ACL on tmpfs",
        "cd /dev/shm; stat -f -c %T .; echo read > acl; chmod 600 acl; setfacl -m u:1000:r acl; setpriv --reuid=1000 --clear-groups cat acl; rm acl",
        "tmpfs\nread",
    ),
    (
        "capability of a file on ext4",
        "cd /v; cp /bin/cat .; setcap cap_dac_read_search+ep cat; echo read > c; chmod 600 c; setpriv --reuid=1000 --clear-groups ./cat c",
        "read",
    ),
    (
        "capability of a file on tmpfs",
        "mount -t tmpfs t /mnt; cd /mnt; cp /bin/cat .; setcap cap_dac_read_search+ep cat; echo read > c; chmod 600 c; setpriv --reuid=1000 --clear-groups ./cat c; cd /; umount /mnt",
        "read",
    ),
    (
        "user and trusted attributes",
        "for d in /v /dev/shm; do cd $d; touch x; setfattr -n user.k -v u x; setfattr -n trusted.k -v t x; getfattr -d -m - --only-values x; rm x; done",
        "tutu",
    ),
    (
        "file handles",
        "echo handled > /v/handle; probe handle /v/handle",
        "handled",
    ),
    (
        "virtio-fs",
        "grep -c ' /host virtiofs ' /proc/mounts; cat /host/note; echo back > /host/answer; cat /host/answer; mount -t virtiofs absent /mnt 2>&1 | grep -o 'wrong fs type'",
        "1\nfrom the host\nback\nwrong fs type",
    ),
    (
        "FUSE",
        "exec 5<>/dev/fuse; mount -i -t fuse -o fd=5,rootmode=40000,user_id=0,group_id=0 f /mnt; grep -c '/mnt fuse' /proc/mounts; umount -l /mnt",
        "1",
    ),
    (
        "mqueue and devpts",
        "mount -t mqueue q /mnt; umount /mnt; mount -t devpts p /mnt; ls /mnt; umount /mnt",
        "ptmx",
    ),
];

/// Lines run in this container's own group, which has a child with limits.
const IN_GROUP: &str =
    "cd /sys/fs/cgroup; run() { sh -c 'echo $$ > kid/cgroup.procs; exec \"$@\"' sh \"$@\"; }";

const CONTROLLERS: &[Use] = &[
    (
        "every controller",
        "mkdir own; for p in $(cat cgroup.procs); do echo $p > own/cgroup.procs; done 2>/dev/null; cat cgroup.controllers; sed 's/[a-z]*/+&/g' cgroup.controllers > cgroup.subtree_control; mkdir kid; cat kid/cgroup.controllers",
        "cpuset cpu io memory hugetlb pids rdma misc\ncpuset cpu io memory hugetlb pids rdma misc",
    ),
    (
        "memory: killed at its limit",
        "echo 16M > kid/memory.max; { run tail /dev/zero; } 2>/dev/null; echo $?; grep -c 'oom_kill 1' kid/memory.events; echo max > kid/memory.max",
        "137\n1",
    ),
    (
        "pids: a fork refused",
        "echo 1 > kid/pids.max; run sh -c 'true | true' 2>&1 | grep -o 'Cannot fork'; echo max > kid/pids.max",
        "Cannot fork",
    ),
    (
        "cpu: throttled",
        "echo '1000 100000' > kid/cpu.max; run timeout 1 sh -c 'while :; do :; done'; grep -c 'nr_throttled [1-9]' kid/cpu.stat; echo max > kid/cpu.max",
        "1",
    ),
    (
        "cpu: a weight",
        "echo 10 > kid/cpu.weight; cat kid/cpu.weight",
        "10",
    ),
    (
        "cpuset: one CPU of two",
        "nproc; echo 1 > kid/cpuset.cpus; run nproc",
        "2\n1",
    ),
    // Two MiB at half a MiB a second take four seconds longer than without.
    (
        "io: a disk slowed down",
        "n=$(stat -c %Hr:%Lr /dev/vdb); took() { local s=$(date +%s%N); run dd if=/dev/vdb of=/dev/null bs=64k count=32 iflag=direct 2>/dev/null; echo $((($(date +%s%N) - s) / 1000000)); }; free=$(took); echo $n rbps=524288 > kid/io.max; slow=$(took); [ $slow -ge $((free + 1500)) ] && echo slower || echo $free $slow; echo $n rbps=max > kid/io.max; grep -E '^'$n' rbytes=[0-9]{7}' kid/io.stat | grep -c .",
        "slower\n1",
    ),
    (
        "hugetlb: a limit",
        "echo 0 > kid/hugetlb.2MB.max; cat kid/hugetlb.2MB.max",
        "0",
    ),
    // The guest has no RDMA device and no such resource: there is nothing to share out.
    (
        "rdma and misc count what there is: nothing",
        "cat kid/rdma.current kid/misc.current kid/misc.events; echo 'mlx4_0 hca_handle=2' 2>/dev/null > kid/rdma.max || echo no device; echo 'sev 1' 2>/dev/null > kid/misc.max || echo no resource",
        "no device\nno resource",
    ),
    (
        "freeze and kill",
        "{ run sleep 60 & until grep -q 'populated 1' kid/cgroup.events; do :; done; echo 1 > kid/cgroup.freeze; until grep -q 'frozen 1' kid/cgroup.events; do :; done; echo 1 > kid/cgroup.kill; wait %1; echo $?; } 2>/dev/null",
        "137",
    ),
];

const HARDENING: &[Use] = &[
    (
        "processor flaws have their mitigations",
        "grep -LE 'Mitigation|Not affected' /sys/devices/system/cpu/vulnerabilities/*",
        "",
    ),
    // Their use would be a fault in the kernel: what was compiled in must do.
    (
        "stack protector, usercopy, freelists, fortify",
        "zcat /proc/config.gz | grep -cE '^CONFIG_(STACKPROTECTOR_STRONG|HARDENED_USERCOPY|SLAB_FREELIST_RANDOM|SLAB_FREELIST_HARDENED|FORTIFY_SOURCE|VMAP_STACK)=y'",
        "6",
    ),
    (
        "page table isolation and retpolines are compiled in",
        "zcat /proc/config.gz | grep -cE '^CONFIG_(CPU_MITIGATIONS|MITIGATION_PAGE_TABLE_ISOLATION|MITIGATION_RETPOLINE|MITIGATION_RETHUNK)=y'",
        "4",
    ),
    (
        "text is not writable, data not executable",
        "zcat /proc/config.gz | grep -c ^CONFIG_STRICT_KERNEL_RWX=y",
        "1",
    ),
    (
        "no kernel memory as a device",
        "ls /dev/mem /dev/kmem /dev/port /proc/kcore 2>/dev/null",
        "",
    ),
    (
        "kernel log is for the privileged",
        "setpriv --reuid=1000 --clear-groups --bounding-set=-all dmesg 2>&1 | grep -o 'not permitted'",
        "not permitted",
    ),
    (
        "BPF is for the privileged",
        "cat /proc/sys/kernel/unprivileged_bpf_disabled",
        "2",
    ),
    (
        "no loadable modules",
        "ls /proc/modules /proc/sys/kernel/modprobe 2>/dev/null",
        "",
    ),
];

#[test]
fn every_kernel_feature_by_use_processes() {
    all_hold("root", "unshare -m", "", PROCESSES);
}

#[test]
fn every_kernel_feature_by_use_memory_and_devices() {
    all_hold("root", "unshare -m", "", MEMORY_AND_DEVICES);
}

#[test]
fn every_kernel_feature_by_use_files() {
    all_hold("root", "unshare -m", "", FILES);
}

#[test]
fn every_kernel_feature_by_use_controllers() {
    all_hold("groups", "", IN_GROUP, CONTROLLERS);
}

#[test]
fn every_kernel_feature_by_use_hardening() {
    all_hold("root", "unshare -m", "", HARDENING);
}
