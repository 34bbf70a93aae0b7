//! One logical host: what the containers of a pod share, and what they do not.
//!
//! One pod, `pods/logical-host.yaml`, serves all stories here and those of its volumes,
//! of rights in it, and of copies into it: its containers have a full userland.

use beluga_tests::{Lasting, Pod, SOON, eventually, kill, run, shared};
use std::process::Command;

/// What the neighbour has in common with the pod.
const BOTH: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: both}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
---";

/// Containers `a` and `b` are alike; others are of the stories of storage, privilege and cp.
pub static POD: Lasting = Lasting::new(|| shared().pod(include_str!("../pods/logical-host.yaml")));

/// What the neighbour's kernel parameters need.
const OPTION: &str = "--allowed-unsafe-sysctls";

const BESIDE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: neighbour}
spec:
  terminationGracePeriodSeconds: 1
  hostUsers: false
  securityContext:
    supplementalGroups: [77]
    supplementalGroupsPolicy: Strict
    sysctls: [{name: net.core.somaxconn, value: '1234'}, {name: kernel.msgmax, value: '65536'}]
  hostname: elsewhere
  subdomain: side
  setHostnameAsFQDN: true
  shareProcessNamespace: true
  volumes:
  - {name: data, emptyDir: {}}
  - {name: both, persistentVolumeClaim: {claimName: both}}
  - {name: to-read, persistentVolumeClaim: {claimName: both, readOnly: true}}
  containers:
  - name: a
    image: busybox
    command: [sleep, infinity]
    volumeMounts:
    - {name: both, mountPath: /both}
    - {name: to-read, mountPath: /to-read}
  - name: b
    image: busybox
    command: [sleep, infinity]
    env: [{name: WHO, value: me}]
    volumeMounts:
    - {name: data, mountPath: /own, subPathExpr: of/$(WHO)}
    - {name: data, mountPath: /all, readOnly: true, recursiveReadOnly: Enabled}
  - {name: c, image: busybox, command: [sleep, '654321']}
  - {name: d, image: busybox, command: [sleep, '765432'], resources: {limits: {memory: 16Mi}}}
";

static NEIGHBOUR: Lasting = Lasting::new(|| {
    let allowed = [OPTION, "kernel.msg*,net.core.somaxconn"];
    shared().pod_with(&allowed, &format!("{BOTH}{BESIDE}"))
});

#[test]
fn b19_hostname_is_the_pods_in_every_container() {
    assert_eq!(POD.sh("a", "hostname"), "logical");
    assert_eq!(POD.sh("b", "cat /etc/hostname"), "logical");
    assert_eq!(
        POD.sh("a", "readlink /proc/self/ns/uts"),
        POD.sh("b", "readlink /proc/self/ns/uts")
    );
}

#[test]
fn b19_the_full_name_is_the_hostname() {
    let full = "elsewhere.side.default.svc.cluster.local";
    assert_eq!(NEIGHBOUR.sh("b", "hostname"), full);
    assert_eq!(NEIGHBOUR.sh("b", "cat /etc/hostname"), full);
    let hosts = NEIGHBOUR.sh("b", "cat /etc/hosts");
    let line = format!("{}\t{full}\telsewhere", NEIGHBOUR.ip());
    assert!(hosts.lines().any(|one| one == line), "{hosts}");
    // A line for each family, as the kubelet writes them.
    assert_eq!(hosts.lines().filter(|one| one.contains(full)).count(), 2);
}

#[test]
fn b19_kernel_parameters_are_those_that_are_allowed() {
    let text = BESIDE.replace("neighbour", "refused");
    let words = ["apply", "-f", "-", OPTION, "kernel.msg*"];
    let refused = shared().feed(words, format!("{BOTH}{text}").as_bytes());
    let why = "forbidden sysctl: \"net.core.somaxconn\" not allowlisted";
    refused.fails(1, why);
    let look = "cd /proc/sys; cat net/core/somaxconn kernel/msgmax";
    assert_eq!(NEIGHBOUR.sh("b", look), "1234\n65536");
}

#[test]
fn b19_paths_of_volumes_have_variables() {
    let look = "echo x > /own/file; cat /all/of/me/file";
    assert_eq!(NEIGHBOUR.sh("b", look), "x");
    let refused = NEIGHBOUR.exec("b", "touch /all/of/me/file");
    refused.fails(1, "Read-only");
}

#[test]
fn b32_a_claim_for_many_is_a_directory_that_two_pods_write_to_at_once() {
    POD.sh("a", "cd /both && mkdir -m 777 d && echo one > d/f");
    NEIGHBOUR.sh("a", "cd /both/d && cat f > g && echo two >> f");
    // Both append, and neither overwrites the other.
    let append = |who: &str| format!("for i in $(seq 20); do echo {who} >> /both/log; done");
    std::thread::scope(|scope| {
        scope.spawn(|| POD.sh("a", &append("one")));
        scope.spawn(|| NEIGHBOUR.sh("a", &append("two")));
    });
    let seen = "cat d/f d/g; grep -c one log; grep -c two log";
    let (here, there) = (format!("cd /both; {seen}"), format!("cd /to-read; {seen}"));
    assert_eq!(POD.sh("a", &here), "one\ntwo\none\n20\n20");
    assert_eq!(NEIGHBOUR.sh("a", &there), POD.sh("a", &here));
}

#[test]
fn b32_a_claim_for_many_can_be_there_to_be_read_and_tells_whose_it_is() {
    POD.name();
    let refused = NEIGHBOUR.exec("a", "touch /to-read/x");
    refused.fails(1, "Read-only file system");
    let told = shared().types("describe pvc both").ok();
    let told = told.tells(&["RWX", "beluga-directory"]);
    told.tells(&["logical-host", "neighbour"]);
}

#[test]
fn b23_root_mounts_pids_and_cgroup_are_each_containers_own() {
    POD.sh("a", "echo a > /only-here");
    POD.try_exec("b", &["cat", "/only-here"]).exits(1);
    for namespace in ["mnt", "pid", "cgroup"] {
        let link = format!("readlink /proc/self/ns/{namespace}");
        assert_ne!(POD.sh("a", &link), POD.sh("b", &link), "{namespace}");
    }
    assert_eq!(POD.sh("a", "cat /proc/1/comm"), "sleep");
    assert_eq!(POD.sh("a", "cat /proc/self/cgroup"), "0::/");
}

#[test]
fn b23_share_process_namespace_shares_the_pid_view() {
    let link = "readlink /proc/self/ns/pid";
    assert_eq!(NEIGHBOUR.sh("a", link), NEIGHBOUR.sh("b", link));
    assert_eq!(NEIGHBOUR.sh("a", "ps | grep -c '[s]leep infinity'"), "2");
}

/// The groups of a process in the container `b`, in their order.
fn groups(pod: &Pod) -> Vec<u32> {
    let all = pod.sh("b", "id -G");
    let mut all: Vec<u32> = all.split(' ').flat_map(str::parse).collect();
    all.sort_unstable();
    all
}

#[test]
fn b34_strict_groups_are_those_of_the_manifest() {
    // A process that is begun later is in what the group file says by then.
    let join = "echo joined:x:4321:root >> /etc/group";
    POD.sh("b", join);
    NEIGHBOUR.sh("b", join);
    assert!(groups(&POD).contains(&4321), "{:?}", groups(&POD));
    assert_eq!(groups(&NEIGHBOUR), [0, 77]);
}

/// Waits until a container of the neighbour has ended once and runs.
fn runs_again(container: &str) {
    NEIGHBOUR.eventually(&format!("{container} runs again"), |status| {
        let mut all = status["containerStatuses"].as_array().into_iter().flatten();
        let found = all.find(|one| one["name"] == container);
        found.is_some_and(|one| one["restartCount"] == 1 && !one["state"]["running"].is_null())
    });
}

#[test]
fn b24_a_container_out_of_memory_leaves_its_peers_alone() {
    let before = NEIGHBOUR.container("a");
    assert_eq!(before["restartCount"], 0);
    let more = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
    NEIGHBOUR.try_exec("d", &more).exits(137);
    runs_again("d");
    let after = NEIGHBOUR.container("d");
    let end = &after["lastState"]["terminated"];
    assert_eq!(end["reason"], "OOMKilled");
    assert_eq!(end["exitCode"], 137);
    assert_eq!(NEIGHBOUR.container("a"), before);
}

#[test]
fn b09_a_signal_from_another_container_reaches_the_process_itself() {
    let before = NEIGHBOUR.container("c");
    assert_eq!(before["restartCount"], 0);
    let line = "kill -9 $(ps | grep '[s]leep 654321' | awk '{print $1}')";
    NEIGHBOUR.sh("a", line);
    runs_again("c");
    let after = NEIGHBOUR.container("c");
    let end = &after["lastState"]["terminated"];
    assert_eq!(end["exitCode"], 137);
    assert_eq!(end["reason"], "Error");
    assert_ne!(after["containerID"], before["containerID"]);
}

#[test]
fn b25_one_address_per_pod_reachable_from_the_host() {
    let ip = POD.ip();
    let shown = POD.sh("a", "ip -4 -o addr show dev eth0");
    assert!(shown.contains(&format!("inet {ip}/")), "{shown}");
    run(Command::new("ping").args(["-c1", "-W10", &ip]), SOON).ok();
}

/// What the C library finds for a name, in the container `a` of the pod.
fn found(name: &str) -> String {
    let look = "import socket, sys\ntry: print(*sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80)}))\nexcept OSError as e: print(e)";
    let ran = POD.try_exec("a", &["python3", "-c", look, name]);
    ran.ok().text().to_owned()
}

/// Processes of this host with a word among their arguments, in this root.
fn processes(word: &str) -> Vec<u32> {
    let root = shared().root().display().to_string();
    let all = std::fs::read_dir("/proc").expect("Linux").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = line.split('\0').collect();
        words.contains(&word) && words.contains(&root.as_str())
    })
    .collect()
}

/// The neighbour's addresses, as they are found.
fn theirs() -> String {
    let other = NEIGHBOUR.field("/status/podIPs/1/ip");
    format!("{} {other}", NEIGHBOUR.ip())
}

#[test]
fn b26_pods_find_each_other_by_name() {
    assert_eq!(found("neighbour"), theirs());
    assert_eq!(found("neighbour.default"), theirs());
    assert_eq!(found("elsewhere.side"), theirs());
    assert_eq!(found("side.default.svc.cluster.local"), theirs());
    let nobody = found("nobody.default.svc.cluster.local");
    assert!(nobody.contains("not known"), "no such pod: {nobody}");
}

#[test]
fn b26_an_address_has_its_pods_full_name() {
    let look = format!(
        "import socket; print(socket.gethostbyaddr('{}')[0])",
        NEIGHBOUR.ip()
    );
    let ran = POD.try_exec("a", &["python3", "-c", &look]).ok();
    assert_eq!(ran.text(), "elsewhere.side.default.svc.cluster.local");
}

#[test]
fn b26_names_are_found_again_when_whoever_tells_them_was_killed() {
    assert_eq!(found("neighbour"), theirs());
    let [before] = processes("resolve-names")[..] else {
        panic!("one resolver")
    };
    let [_, supervisor] = NEIGHBOUR.processes();
    kill(&[before, supervisor]);
    eventually("another resolver", || {
        let now = processes("resolve-names");
        let is_new = now.len() == 1 && now[0] != before;
        (is_new && found("neighbour") == theirs()).then_some(())
    });
}
