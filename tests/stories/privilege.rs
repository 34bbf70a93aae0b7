//! Rights: privileged means the guest, never the host.
//!
//! The containers `plain`, `privileged` and `strict` of `pods/logical-host.yaml`.

use crate::logical_host::POD;
use beluga_tests::shared;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

const CAPS: &str = "grep CapEff /proc/self/status | awk '{print $2}'";

#[test]
fn b33_privileged_has_all_capabilities_and_the_network_stack() {
    assert_eq!(POD.sh("privileged", CAPS), "000001ffffffffff");
    POD.sh("privileged", "mkdir /tmp/m && mount -t tmpfs none /tmp/m && mknod /tmp/m/null c 1 3 && echo x > /tmp/m/null");
    POD.sh("privileged", "iptables -A INPUT -p tcp --dport 9 -m conntrack --ctstate NEW -m comment --comment c -j DROP");
    POD.sh("privileged", "nft add table inet story && ip link add br9 type bridge && ip link add v9 type veth peer name w9");
    POD.sh("privileged", "test -b /dev/vda && echo 1 > /proc/sys/net/ipv4/ip_forward && grep 1 /proc/sys/net/ipv4/ip_forward");
}

#[test]
fn b28_a_mount_in_a_volume_passes_to_who_wants_it() {
    let mount = "mkdir -p /mine/disk && mount -t tmpfs none /mine/disk && echo x > /mine/disk/file";
    POD.sh("privileged", mount);
    assert_eq!(POD.sh("plain", "cat /passed/disk/file"), "x");
    assert_eq!(POD.sh("strict", "ls /passed; ls /passed/disk"), "disk");
    // Its end passes as well, and the directory is one again.
    POD.sh("privileged", "umount /mine/disk && touch /mine/disk/below");
    assert_eq!(POD.sh("plain", "ls /passed/disk"), "below");
    assert_eq!(POD.sh("strict", "ls /passed/disk"), "below");
}

#[test]
fn b34_its_neighbour_stays_unprivileged() {
    assert_eq!(POD.sh("plain", CAPS), "00000000a80425fb");
    let plain = |line: &str| POD.exec("plain", line);
    plain("mount -t tmpfs none /mnt").exits(32);
    plain("test -e /dev/vda").exits(1);
    plain("mknod /tmp/k b 254 0").ok();
    let read = plain("dd if=/tmp/k of=/dev/null count=1");
    read.fails(1, "Operation not permitted");
}

#[test]
fn b34_strict_is_what_the_manifest_says() {
    let who = "id -u; id -g; grep NoNewPrivs /proc/self/status | cut -f2";
    assert_eq!(POD.sh("strict", who), "1000\n1000\n1");
    let refused = POD.exec("strict", "touch /etc/x");
    refused.fails(1, "Read-only file system");
    let bound = POD.sh("strict", "grep CapBnd /proc/self/status | awk '{print $2}'");
    assert_eq!(bound, "0000000000000400");
}

#[test]
fn b34_masked_paths_hide_and_sysrq_is_read_only() {
    let masked = "cat /proc/keys /proc/timer_list > /tmp/masked && wc -c < /tmp/masked";
    assert_eq!(POD.sh("plain", masked), "0");
    // They are not empty where nothing masks them.
    POD.sh("privileged", "test -n \"$(cat /proc/timer_list)\"");
    POD.exec("plain", "sh -c 'echo b > /proc/sysrq-trigger'")
        .exits(2);
    POD.exec("plain", "sh -c 'echo 65536 > /sys/class/net/lo/mtu'")
        .fails(2, "Read-only file system");
}

#[test]
fn b34_af_vsock_is_denied_by_the_default_profile() {
    let call = "import socket; socket.socket(40, socket.SOCK_STREAM)";
    POD.try_exec("plain", &["python3", "-c", call])
        .exits(1)
        .complains("PermissionError");
}

#[test]
fn b35_privileged_sees_the_guests_kernel_and_disks_and_no_others() {
    let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    let own = POD.sh("privileged", "cat /proc/sys/kernel/random/boot_id");
    assert_ne!(own, host.trim());
    // Layers, scratch, and the claim that is the pod's.
    let disks = "ls /sys/block | grep -v loop | tr '\\n' ' '";
    assert_eq!(POD.sh("privileged", disks), "vda vdb vdc");
}

/// Dials the host's ports, those of the agent among them.
const DIAL: &str = "import socket
s = socket.socket(40, socket.SOCK_STREAM); s.settimeout(10)
for port in (22, 1023, 1024, 1025, 9999):
    try: s = socket.socket(40, socket.SOCK_STREAM); s.settimeout(10); s.connect((2, port)); s.sendall(b'x' * 64); print(s.recv(1))
    except OSError: print('refused')";

#[test]
fn b35_privileged_reaches_no_host() {
    let said = POD.try_exec("privileged", &["python3", "-c", DIAL]).ok();
    let mut lines = said.out.lines();
    let nobody = lines.all(|line| line == "refused" || line == "b''");
    assert!(nobody, "{said}");
}

/// What is found of the VMM of the pod.
fn vmm() -> Value {
    POD.sh("privileged", "true");
    let line = format!("audit {} -o json", POD.name());
    shared().types(&line).ok().json()["processes"][0].take()
}

#[test]
fn b35_the_vmm_of_a_privileged_pod_has_nothing_on_the_host() {
    let vmm = vmm();
    assert_eq!(vmm["missing"], json!([]), "{vmm:#}");
    assert_eq!(vmm["root"], json!([]), "{vmm:#}");
    assert_eq!(vmm["groups"], json!([]), "{vmm:#}");
    let own = vmm["ownNamespaces"].as_object().expect("namespaces");
    assert_eq!(own.len(), 7, "{own:?}");
    assert!(own.values().all(|own| own == true), "{own:?}");
    assert!(vmm["user"].as_u64() >= Some(0x7000_0000) && vmm["user"] == vmm["group"]);
    let page = shared().types(&format!("audit {}", POD.name())).ok();
    page.says("Capabilities:      <none>")
        .says("Missing:           <none>");
}

#[test]
fn b35_the_vmm_of_a_privileged_pod_makes_few_calls_within_limits() {
    let vmm = vmm();
    let vcpu = vmm["calls"]["vcpu"].as_array().map(Vec::len);
    let few = vcpu.is_some_and(|calls| (1..25).contains(&calls));
    assert!(few, "{vcpu:?}");
    assert!(vmm["cgroup"]["limits"]["pids.max"].is_string(), "{vmm:#}");
}

/// The command lines of every process that the host sees.
fn processes_of_the_host() -> String {
    let all = fs::read_dir("/proc").expect("Linux").flatten();
    let lines = all.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn b35_neither_side_sees_the_others_files_and_processes() {
    let begin = "touch /run/of-the-pod; sleep 7654321 >/dev/null 2>&1 &";
    POD.sh("privileged", begin);
    let mut process = Command::new("sleep").arg("7654322").spawn().expect("sleep");
    fs::write("/run/of-the-host", "").expect("a file");
    let of_the_pod = POD.sh("privileged", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    let of_the_host = processes_of_the_host();
    process.kill().expect("it runs");
    process.wait().expect("it ends");
    assert!(of_the_pod.contains("sleep 7654321") && !of_the_pod.contains("sleep 7654322"));
    assert!(of_the_host.contains("sleep 7654322") && !of_the_host.contains("sleep 7654321"));
    assert!(!Path::new("/run/of-the-pod").exists());
    let look = "ls /run/of-the-host /proc/[0-9]*/root/run/of-the-host 2>/dev/null | wc -l";
    assert_eq!(POD.sh("privileged", look), "0");
}

/// Makes groups until no more may be made, processes whose parents end, and
/// output that nobody reads; says how many groups there were, and takes them back.
const FLOOD: &str = r#"
import os, sys
made = 0
try:
    while True: os.mkdir(f'/sys/fs/cgroup/flood{made}'); made += 1
except OSError: pass
for _ in range(100):
    if os.fork() == 0:
        if os.fork() == 0: os.execvp('sleep', ['sleep', '2'])
        os._exit(0)
    os.wait()
print('flooded', flush=True)
sys.stdin.readline()
for at in range(made): os.rmdir(f'/sys/fs/cgroup/flood{at}')
print(made)
"#;

/// A flood that goes on until it is let go, and what it says.
struct Flood {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Flood {
    fn start() -> Self {
        let head = ["exec", "-i", "-c", "privileged", POD.name(), "--"];
        let mut command = shared().command(head);
        command.args(["python3", "-c", FLOOD]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("beluga");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, said }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    fn let_go(&mut self) {
        drop(self.child.stdin.take());
    }
}

#[test]
fn a_container_that_floods_the_agent_does_not_stall_it() {
    let mut flood = Flood::start();
    assert_eq!(flood.line(), "flooded");
    // All the groups are there, and orphans end by the dozen.
    assert_eq!(POD.sh("plain", "echo answered"), "answered");
    flood.let_go();
    let groups: usize = flood.line().parse().expect("a number");
    assert!((500..1024).contains(&groups), "{groups}");
    assert!(flood.child.wait().expect("ended").success());
}
