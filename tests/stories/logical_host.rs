//! One logical host: what the containers of a pod share, and what they do not.
//!
//! One pod serves all stories here: two containers with a full userland.

use beluga_tests::{Pod, eventually, kill, shared};
use std::sync::LazyLock;

/// What the pod has in common with its neighbour.
const BOTH: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: both}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
---";

const HOST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: logical-host}
spec:
  hostname: logical
  terminationGracePeriodSeconds: 1
  volumes: [{name: both, persistentVolumeClaim: {claimName: both}}]
  containers:
  - name: a
    image: debian
    command: [sleep, infinity]
    volumeMounts: [{name: both, mountPath: /both}]
  - {name: b, image: debian, command: [sleep, infinity]}
";

static POD: LazyLock<Pod<'static>> = LazyLock::new(|| shared().pod(&format!("{BOTH}{HOST}")));

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

static NEIGHBOUR: LazyLock<Pod<'static>> = LazyLock::new(|| {
    let allowed = [OPTION, "kernel.msg*,net.core.somaxconn"];
    shared().pod_with(&allowed, &format!("{BOTH}{BESIDE}"))
});

/// Runs Python in a container; the debian image has it.
fn python(pod: &Pod, container: &str, code: &str) -> String {
    pod.try_exec(container, &["python3", "-c", code])
        .ok()
        .text()
        .to_owned()
}

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
fn b19_full_names_kernel_parameters_and_paths_with_variables() {
    shared()
        .feed(
            ["apply", "-f", "-", OPTION, "kernel.msg*"],
            format!("{BOTH}{}", BESIDE.replace("neighbour", "refused")).as_bytes(),
        )
        .exits(1)
        .complains("forbidden sysctl: \"net.core.somaxconn\" not allowlisted");
    let pod = &*NEIGHBOUR;
    let full = "elsewhere.side.default.svc.cluster.local";
    assert_eq!(pod.sh("b", "hostname"), full);
    assert_eq!(pod.sh("b", "cat /etc/hostname"), full);
    let hosts = pod.sh("b", "cat /etc/hosts");
    let line = format!("{}\t{full}\telsewhere", pod.ip());
    assert!(hosts.lines().any(|one| one == line), "{hosts}");
    // A line for each family, as the kubelet writes them.
    assert_eq!(hosts.lines().filter(|one| one.contains(full)).count(), 2);
    assert_eq!(
        pod.sh(
            "b",
            "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax"
        ),
        "1234\n65536"
    );
    assert_eq!(pod.sh("b", "echo x > /own/file; cat /all/of/me/file"), "x");
    pod.try_exec("b", &["touch", "/all/of/me/file"])
        .exits(1)
        .complains("Read-only");
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
    let ran = NEIGHBOUR.try_exec("a", &["touch", "/to-read/x"]);
    ran.exits(1).complains("Read-only file system");
    let told = shared().run(["describe", "pvc", "both"]).ok();
    let told = told.says("RWX").says("beluga-directory");
    drop(told.says("logical-host").says("neighbour"));
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

#[test]
fn b34_strict_groups_are_those_of_the_manifest() {
    // A process that is begun later is in what the group file says by then.
    let join = "echo joined:x:4321:root >> /etc/group";
    POD.sh("b", join);
    NEIGHBOUR.sh("b", join);
    let groups = |pod: &Pod| {
        let all = pod.sh("b", "id -G");
        let mut all: Vec<u32> = all
            .split(' ')
            .map(|id| id.parse().expect("a number"))
            .collect();
        all.sort_unstable();
        all
    };
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
    NEIGHBOUR.sh(
        "a",
        "kill -9 $(ps | grep '[s]leep 654321' | awk '{print $1}')",
    );
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
    assert!(
        POD.sh("a", "ip -4 -o addr show dev eth0")
            .contains(&format!("inet {ip}/"))
    );
    let ping = std::process::Command::new("ping")
        .args(["-c1", "-W10", &ip])
        .output()
        .expect("ping");
    assert!(ping.status.success(), "{ping:?}");
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

#[test]
fn b26_pods_find_each_other_by_name_whatever_ends() {
    let theirs = format!(
        "{} {}",
        NEIGHBOUR.ip(),
        NEIGHBOUR.field("/status/podIPs/1/ip")
    );
    for name in [
        "neighbour",
        "neighbour.default",
        "elsewhere.side",
        "side.default.svc.cluster.local",
    ] {
        assert_eq!(found(name), theirs, "{name}");
    }
    assert!(
        found("nobody.default.svc.cluster.local").contains("not known"),
        "no such pod"
    );
    let name = "import socket; print(socket.gethostbyaddr(sys.argv[1])[0])"
        .replace("sys.argv[1]", &format!("'{}'", NEIGHBOUR.ip()));
    assert_eq!(
        python(&POD, "a", &name),
        "elsewhere.side.default.svc.cluster.local"
    );
    let [before] = processes("resolve-names")[..] else {
        panic!("one resolver")
    };
    let [_, supervisor] = NEIGHBOUR.processes();
    kill(&[before, supervisor]);
    eventually("another resolver", || {
        let now = processes("resolve-names");
        (now.len() == 1 && now[0] != before && found("neighbour") == theirs).then_some(())
    });
}
