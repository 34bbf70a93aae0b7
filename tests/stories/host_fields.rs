//! Fields that a kubelet takes from its host: here from this one, or the guest's.
//!
//! One pod has them all.

use beluga_tests::{Lasting, Ran, SOON, run_with_input, shared};

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: host-fields}
spec:
  terminationGracePeriodSeconds: 1
  hostPID: true
  resources: {limits: {cpu: 750m, memory: 192Mi}}
  hostnameOverride: of.its.own.example
  hostname: unseen
  subdomain: unseen
  securityContext: {seLinuxOptions: {level: 's0:c1'}, seLinuxChangePolicy: Recursive, appArmorProfile: {type: RuntimeDefault}}
  readinessGates: [{conditionType: example.org/admitted}]
  volumes:
  - name: disk
    ephemeral:
      volumeClaimTemplate:
        metadata: {labels: {app: fields}, annotations: {of: fields}}
        spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
  - name: raw
    ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], volumeMode: Block, resources: {requests: {storage: 8Mi}}}}}
  containers:
  - name: filtered
    image: busybox
    command: [sh, -c, sleep 600 & wait]
    securityContext:
      seccompProfile: {type: Localhost, localhostProfile: profiles/no-mkdir.json}
    volumeMounts: [{name: disk, mountPath: /disk}]
  - name: other
    image: busybox
    command: [sleep, infinity]
    volumeMounts: [{name: disk, mountPath: /disk}]
    volumeDevices: [{name: raw, devicePath: /dev/raw}]
  - {name: sees, image: busybox, command: [sleep, infinity], securityContext: {privileged: true}}
";

/// Everything is allowed, but mkdir gives ENOTDIR, and chmod of mode 0777 EACCES.
const PROFILE: &str = r#"{
  "defaultAction": "SCMP_ACT_ALLOW",
  "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
  "syscalls": [
    {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 20},
    {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13,
     "args": [{"index": 1, "value": 511, "op": "SCMP_CMP_EQ"}]}
  ]
}"#;

static POD: Lasting = Lasting::new(|| {
    let directory = tempfile::tempdir().expect("a place").keep();
    std::fs::create_dir(directory.join("profiles")).expect("a directory");
    let path = directory.join("profiles/no-mkdir.json");
    std::fs::write(path, PROFILE).expect("a profile");
    let directory = directory.display().to_string();
    let mut apply = shared().command(["apply", "-f", "-"]);
    apply.env("BELUGA_SECCOMP", &directory);
    apply.env("BELUGA_POD_PIDS_LIMIT", "400");
    run_with_input(&mut apply, MANIFEST.into(), SOON * 2).ok();
    let goal = "--for=condition=ContainersReady";
    let words = ["wait", goal, "pod/host-fields", "--timeout=90s"];
    shared().run(words).ok();
    shared().here("host-fields")
});

#[test]
fn b34_a_profile_of_the_host_filters_calls() {
    let mkdir = |container| POD.try_exec(container, &["mkdir", "/made"]);
    mkdir("filtered").exits(1).complains("Not a directory");
    mkdir("other").ok();
    let chmod = |mode| POD.try_exec("filtered", &["chmod", mode, "/tmp"]);
    chmod("0777").exits(1).complains("Permission denied");
    chmod("1777").ok();
    // The default profile does not stand behind the one that was chosen.
    let seccomp = "grep -c Seccomp_filters:.*1$ /proc/self/status";
    assert_eq!(POD.sh("filtered", seccomp), "1");
}

#[test]
fn b24_limits_of_the_pod_hold_for_all_of_its_containers() {
    // The guest's own view of its groups, in which the pod's is seen.
    let pods = "cd /proc/1/root/sys/fs/cgroup/pod; cat cpu.max memory.max pids.max";
    assert_eq!(POD.sh("sees", pods), "75000 100000\n201326592\n400");
    let own = "cd /sys/fs/cgroup; cat cpu.max memory.max pids.max";
    assert_eq!(POD.sh("other", own), "max 100000\nmax\n400");
    assert_eq!(POD.field("/status/qosClass"), "Guaranteed");
    let patch = "{spec: {resources: {limits: {cpu: 1}, requests: {cpu: 1}}}}";
    let words = ["patch", "pod", "host-fields", "-p", patch];
    let refused = shared().run(words).exits(1);
    refused.complains("refused: spec.resources: what the containers may use together");
}

#[test]
fn b14_a_profile_that_is_not_there_is_told() {
    let text = MANIFEST.replace("name: host-fields", "name: absent-profile");
    let ran = shared()
        .feed(["apply", "-f", "-"], text.as_bytes())
        .exits(1);
    ran.complains("container \"filtered\"")
        .complains("no seccomp profile \"profiles/no-mkdir.json\"");
    shared().run(["get", "pod", "absent-profile"]).exits(1);
}

#[test]
fn b23_host_pid_is_the_guests() {
    let link = "readlink /proc/self/ns/pid";
    assert_eq!(POD.sh("filtered", link), POD.sh("other", link));
    assert_ne!(POD.sh("other", "cat /proc/1/comm"), "sleep");
    assert_eq!(POD.sh("other", "ps -o args | grep -c '^sleep 600$'"), "1");
    // Nothing of this host is among them.
    let vmm = POD.sh("other", "ps -o args | grep -c '[b]eluga-vmm' || true");
    assert_eq!(vmm, "0");
}

#[test]
fn b19_a_hostname_of_its_own_wins() {
    let own = "of.its.own.example";
    assert_eq!(POD.sh("filtered", "hostname"), own);
    assert_eq!(
        POD.sh("other", "cat /etc/hostname; echo $HOSTNAME"),
        format!("{own}\n{own}")
    );
    let hosts = POD.sh("other", "cat /etc/hosts");
    let line = format!("{}\t{own}", POD.ip());
    assert!(hosts.lines().any(|one| one == line), "{hosts}");
    assert!(!hosts.contains("unseen"), "{hosts}");
}

#[test]
fn b31_an_ephemeral_volume_is_a_disk_of_the_pods_own() {
    POD.sh("other", "echo one > /disk/file");
    assert_eq!(POD.sh("filtered", "cat /disk/file"), "one");
    let size = POD.sh("other", "df -m /disk | tail -n 1 | awk '{print $2}'");
    assert!((8..=16).contains(&size.parse().expect("MiB")), "{size}");
    let bytes = "dd if=/dev/raw bs=1M 2>/dev/null | wc -c";
    assert_eq!(POD.sh("other", bytes), "8388608");
    let described = shared().run(["describe", "pod", "host-fields"]).ok();
    drop(described.says("ephemeral, a disk of its own, 16Mi, Filesystem"));
    let uid = POD.field("/metadata/uid");
    let files = shared().root().join("pods").join(uid);
    assert!(files.join("volume-disk.img").is_file());
}

/// The status of a condition of the pod; empty where it has none of that type.
fn condition(kind: &str, field: &str) -> String {
    let object = POD.object();
    let all = object["status"]["conditions"].as_array().cloned();
    let mut all = all.into_iter().flatten();
    let found = all.find(|one| one["type"] == kind).unwrap_or_default();
    found[field].as_str().unwrap_or_default().to_owned()
}

/// Says something of the pod's conditions, as whoever decides on them does.
fn say(conditions: &str) -> Ran {
    let patch = format!("{{\"status\": {{\"conditions\": {conditions}}}}}");
    let words = ["patch", "pod", "host-fields", "--subresource=status", "-p"];
    shared().run(words.into_iter().chain([patch.as_str()]))
}

#[test]
fn b13_a_readiness_gate_waits_for_its_condition() {
    it_is_not_ready_without_it();
    say("[{\"type\": \"example.org/admitted\", \"status\": \"True\", \"reason\": \"Story\"}]")
        .ok()
        .says("pod/host-fields patched");
    let goal = "--for=condition=Ready --timeout=60s";
    shared().types(&format!("wait pod/host-fields {goal}")).ok();
    assert_eq!(condition("example.org/admitted", "reason"), "Story");
    let page = POD.described();
    page.tells(&["Readiness Gates:", "example.org/admitted"]);
    // A pod with conditions that others have given it can be applied again.
    let shown = shared().types("get pod host-fields -o yaml").ok();
    shared().apply(&shown.out).ok().says("unchanged");
    // kubectl's way to take one back.
    say("[{\"type\": \"example.org/admitted\", \"$patch\": \"delete\"}]").ok();
    assert_eq!(condition("Ready", "status"), "False");
}

fn it_is_not_ready_without_it() {
    assert_eq!(condition("ContainersReady", "status"), "True");
    assert_eq!(condition("Ready", "status"), "False");
    assert_eq!(condition("Ready", "reason"), "ReadinessGatesNotReady");
    let gate = "pod readiness gate \"example.org/admitted\" does not exist.";
    let why = format!("corresponding condition of {gate}");
    assert_eq!(condition("Ready", "message"), why);
}

#[test]
fn b13_readiness_is_not_for_others_to_say() {
    POD.name();
    let refused = say("[{\"type\": \"Ready\", \"status\": \"True\"}]");
    refused.fails(2, "the condition Ready is Beluga's own to say");
}
