//! The guest: its CPUs, interrupts, sizes, and every kernel feature by use.
//!
//! What the kernel must have stands in tables: a name, a shell line that uses
//! the feature in a privileged container, and what the line then prints. The
//! list they follow is in rootfs/README.md.

pub mod clock;
mod kernel;
mod network;

use beluga_tests::{Pod, eventually, shared};
use std::sync::LazyLock;

/// A name, a shell line, and all that the line prints.
type Use<'a> = (&'a str, &'a str, &'a str);

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
  - name: groups
    image: debian
    command: [sleep, infinity]
    securityContext: {privileged: true}
    resources: {limits: {memory: 256Mi}}
",
    )
});

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
    let uid = POD.field("/metadata/uid");
    let record = shared().root().join("pods").join(uid).join("record.json");
    let record = std::fs::read_to_string(record).expect("the pod has a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("a record is JSON");
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
