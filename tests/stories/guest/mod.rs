//! The guest: its CPUs, interrupts, sizes, and every kernel feature by use.
//!
//! What the kernel must have stands in tables: a name, a shell line that uses
//! the feature in a privileged container, and what the line then prints. The
//! list they follow is in rootfs/README.md.

pub mod clock;
mod kernel;
mod network;

use beluga_tests::{Lasting, eventually, shared};

/// A name, a shell line, and all that the line prints.
type Use<'a> = (&'a str, &'a str, &'a str);

static POD: Lasting = Lasting::new(|| {
    let place = shared().root().with_file_name("kernel-host");
    std::fs::create_dir_all(&place).expect("a directory");
    std::fs::write(place.join("note"), "from the host\n").expect("a file");
    let place = place.to_str().expect("a path of ours");
    let manifest = MANIFEST.replace("PLACE", place);
    shared().pod_with(&["--allow-host-path", place], &manifest)
});

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: kernel}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}, {name: host, hostPath: {path: PLACE}}]
  containers:
  - name: root
    image: debian
    command: [sleep, infinity]
    securityContext: {privileged: true}
    volumeMounts: [{name: v, mountPath: /v}, {name: host, mountPath: /host}]
    resources: {limits: {cpu: \"2\", memory: 256Mi}}
  - name: groups
    image: debian
    command: [sleep, infinity]
    securityContext: {privileged: true}
    resources: {limits: {memory: 256Mi}}
";

/// Runs the lines of a table one after the other, each in a shell of its own
/// below `shell`, which comes first in each; one exec for all.
#[track_caller]
fn all_hold(container: &str, shell: &str, prelude: &str, table: &[Use]) {
    let script: String = table
        .iter()
        .map(|(_, line, _)| {
            let quoted = format!("{prelude}\n{line}").replace('\'', r"'\''");
            format!("timeout 60 {shell} bash -c '{quoted}' 2>&1 </dev/null; printf '\\036'\n")
        })
        .collect();
    let ran = POD.try_exec(container, &["bash", "-c", &script]);
    let said: Vec<&str> = ran.out.split('\u{1e}').collect();
    assert_eq!(said.len(), table.len() + 1, "{ran}");
    let wrong: Vec<String> = table
        .iter()
        .zip(said)
        .filter(|((_, _, expected), said)| said.trim() != *expected)
        .map(|((name, _, expected), said)| format!("{name}: {expected:?}, but: {said}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `rises DEVICE COMMAND…` says the device once its interrupts are more than before
/// the command. A disk is called as it is, another device as its driver is.
const INTERRUPTS: &str = r#"cd /sys/bus/virtio/devices
name() { ls $1/block 2>/dev/null || basename $(readlink $1/driver); }
row() { awk -v d=$1 '$NF ~ "^" d "(-|$)" {n += $2 + $3} END {print n + 0}' /proc/interrupts; }
count() { for d in *; do [ $(name $d) != $1 ] || row $d; done; }
rises() {
    local of=$1 was=$(count $1); shift
    "$@" >/dev/null 2>&1
    until [ $(count $of) -gt $was ]; do sleep 0.1; done
    echo $of
}"#;

/// Traffic for each. The balloon reports pages that have become free, after two
/// seconds.
const TRAFFIC: &[Use] = &[
    (
        "all that there are",
        "for d in *; do name $d; done | LC_ALL=C sort | tr '\\n' ' '",
        "vda vdb virtio_balloon virtio_net virtio_rng virtiofs vmw_vsock_virtio_transport",
    ),
    (
        "layers",
        "rises vda dd if=/dev/vda of=/dev/null bs=64k count=16 iflag=direct",
        "vda",
    ),
    (
        "scratch",
        "rises vdb dd if=/dev/zero of=/v/written bs=64k count=16 oflag=direct",
        "vdb",
    ),
    (
        "network",
        "rises virtio_net ping -c1 -W30 $(ip route | awk '/default/{print $3}')",
        "virtio_net",
    ),
    (
        "vsock",
        "rises vmw_vsock_virtio_transport probe vsock",
        "vmw_vsock_virtio_transport",
    ),
    (
        "directory of the host",
        "rises virtiofs cp -r /host /v/copied",
        "virtiofs",
    ),
    (
        "random numbers",
        "rises virtio_rng head -c 256 /dev/hwrng",
        "virtio_rng",
    ),
    (
        "balloon",
        "rises virtio_balloon unshare -m bash -c 'mount -t tmpfs b /mnt && head -c 192M /dev/zero > /mnt/f'",
        "virtio_balloon",
    ),
];

#[test]
fn two_cpus_and_each_device_interrupts_when_it_is_used() {
    assert_eq!(POD.sh("root", "nproc"), "2");
    all_hold("root", "", INTERRUPTS, TRAFFIC);
}

/// What a host keeps for every pod, and reads for each start.
#[test]
fn kernel_and_initramfs_are_small() {
    let size = |name| {
        let path = std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set"));
        std::fs::metadata(path).expect("a file").len()
    };
    let (kernel, initramfs) = (size("BELUGA_KERNEL"), size("BELUGA_INITRAMFS"));
    assert!(kernel <= 16 << 20, "vmlinux has {kernel} bytes");
    assert!(initramfs <= 2 << 20, "initramfs.cpio has {initramfs} bytes");
}

/// KiB of the host's memory that the pod's VMM has, by its record's PID.
fn resident() -> u64 {
    let record = POD.record();
    let status = std::fs::read_to_string(format!("/proc/{}/status", record["vmm"]["pid"]))
        .expect("the VMM runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse().ok()).expect("a number")
}

/// Memory that the guest has freed leaves the host without being asked for.
#[test]
fn freed_memory_goes_back_to_the_host() {
    let idle = resident();
    POD.sh(
        "root",
        "mount -t tmpfs t /srv; head -c 192M /dev/zero > /srv/full",
    );
    let full = resident();
    assert!(full > idle + (128 << 10), "{idle} KiB, full {full} KiB");
    POD.sh("root", "umount /srv");
    eventually("the host has most of it back", || {
        (resident() + (128 << 10) < full).then_some(())
    });
}
