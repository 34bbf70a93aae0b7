//! The guest: its CPUs, interrupts, and every kernel feature, by use.

use beluga_tests::{Pod, shared};
use std::sync::LazyLock;

static POD: LazyLock<Pod<'static>> = LazyLock::new(|| {
    shared().pod(
        "
apiVersion: v1
kind: Pod
metadata: {name: kernel}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: root
    image: debian
    command: [sleep, infinity]
    securityContext: {privileged: true}
    volumeMounts: [{name: v, mountPath: /v}]
    resources: {limits: {cpu: \"2\", memory: 256Mi}}
",
    )
});

/// Starts a pod with this CPU limit and asks how many CPUs it has.
fn nproc(cpus: u32) -> String {
    let pod = shared().pod(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: cpus-{cpus}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: main, image: busybox, command: [sleep, infinity], resources: {{limits: {{cpu: \"{cpus}\"}}}}}}
"
    ));
    pod.sh("main", "nproc")
}

#[test]
fn one_cpu() {
    assert_eq!(nproc(1), "1");
}

#[test]
fn four_cpus() {
    assert_eq!(nproc(4), "4");
}

#[test]
fn two_cpus_and_rising_interrupts_of_every_device() {
    assert_eq!(POD.sh("root", "nproc"), "2");
    let count = "grep virtio /proc/interrupts | awk '{print $2 + $3}'";
    let before: Vec<u64> = POD
        .sh("root", count)
        .lines()
        .map(|n| n.parse().expect("a count"))
        .collect();
    assert!(
        before.len() >= 5 && before.iter().filter(|&&n| n > 0).count() >= 4,
        "{before:?}"
    );
    POD.sh("root", "dd if=/dev/vda of=/dev/null bs=64k count=16 iflag=direct; ping -c1 -W5 $(ip route | awk '/default/{print $3}')");
    let after: Vec<u64> = POD
        .sh("root", count)
        .lines()
        .map(|n| n.parse().expect("a count"))
        .collect();
    assert!(
        after.iter().sum::<u64>() > before.iter().sum::<u64>() + 2,
        "{before:?} {after:?}"
    );
}

#[test]
fn every_kernel_feature_by_use() {
    let checks = [
        (
            "cgroup v2 controllers",
            "for c in cpuset cpu io memory hugetlb pids; do grep -qw $c /sys/fs/cgroup/cgroup.controllers || exit 1; done",
        ),
        (
            "namespaces",
            "unshare -mupfiCn --mount-proc true && unshare -T true && unshare -Ur true",
        ),
        (
            "seccomp filter",
            "grep -q 'Seccomp:' /proc/self/status && test -e /proc/sys/kernel/seccomp/actions_avail",
        ),
        (
            "overlayfs",
            "mkdir -p /v/l /v/u /v/w /v/m && mount -t overlay o -o lowerdir=/v/l,upperdir=/v/u,workdir=/v/w /v/m && umount /v/m",
        ),
        (
            "file systems",
            "for f in erofs ext4 virtiofs tmpfs mqueue; do grep -qw $f /proc/filesystems || exit 1; done",
        ),
        (
            "loop and ext4",
            "dd if=/dev/zero of=/v/img bs=1M count=8 2>/dev/null && test -e /dev/loop-control && losetup -f",
        ),
        (
            "ACLs and xattrs",
            "touch /v/a && setfacl -m u:1000:r /v/a && setfattr -n user.x -v y /v/a && setcap cap_chown+ep /v/a && touch /dev/shm/a && setfacl -m u:1000:r /dev/shm/a",
        ),
        (
            "io_uring, userfaultfd, keys, fhandle",
            "python3 -c \"
import ctypes, os
c = ctypes.CDLL(None, use_errno=True)
def call(n, *a):
    r = c.syscall(n, *a)
    return r >= 0 or ctypes.get_errno() != 38
assert call(425, 8, (ctypes.c_char * 128)()), 'io_uring_setup'
assert call(323, 1), 'userfaultfd'
assert call(248, b'user', b'k', b'v', 1, -2), 'add_key'
assert call(303, -100, b'/', None, None, 0), 'name_to_handle_at'
assert call(321, 0, None, 0), 'bpf'
\"",
        ),
        (
            "PSI",
            "cat /proc/pressure/memory /proc/pressure/cpu /proc/pressure/io",
        ),
        (
            "transparent huge pages",
            "grep -q madvise /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        (
            "bridge, veth, tun",
            "ip link add kb type bridge && ip link add kv type veth peer name kw && ip tuntap add kt mode tap && ip link del kb && ip link del kv",
        ),
        (
            "policy routing and tc",
            "ip rule add from 10.9.9.9 table 9 && ip rule del from 10.9.9.9 && tc qdisc add dev lo root netem delay 1ms && tc qdisc del dev lo root",
        ),
        (
            "nftables",
            "nft 'add table ip k; add chain ip k c { type nat hook postrouting priority 100; }; add rule ip k c masquerade; delete table ip k'",
        ),
        (
            "iptables for docker",
            "iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o lo -j MASQUERADE && iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DNAT --to-destination 10.0.0.9 && iptables -t nat -F",
        ),
        (
            "iptables for istio",
            "iptables -t nat -A OUTPUT -p tcp -m owner --uid-owner 1337 -j RETURN && iptables -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 15001 && iptables -t mangle -A PREROUTING -p tcp -m mark --mark 1 -j CONNMARK --save-mark && iptables -t nat -F && iptables -t mangle -F",
        ),
        (
            "iptables for kube-proxy",
            "iptables -t nat -N K && iptables -t nat -A K -m statistic --mode random --probability 0.5 -j ACCEPT && iptables -t nat -A K -m recent --name r --set -j MARK --set-xmark 0x4000/0x4000 && iptables -t nat -A K -p tcp -m multiport --dports 80,443 -m comment --comment c -j ACCEPT && iptables -t nat -F && iptables -t nat -X K",
        ),
        ("socket diag", "ss -tnl >/dev/null"),
        (
            "hardening",
            "grep -q . /sys/devices/system/cpu/vulnerabilities/spectre_v2",
        ),
    ];
    let failed: Vec<_> = checks
        .iter()
        .filter_map(|(name, line)| {
            let ran = POD.try_exec("root", &["bash", "-c", line]);
            (ran.code != 0).then(|| format!("{name}: {ran}"))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
