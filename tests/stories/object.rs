//! The pod as an object: get, describe, logs, images, dry run.

use crate::lifecycle::one;
use beluga_tests::{Beluga, Common, Ran, SOON, run, shared};
use std::process::Command;
use std::sync::LazyLock;

/// A pod of two containers: one has said its lines, the other stays.
static SPEAKER: Common = Common::new(6, || {
    shared().pod(
        "
apiVersion: v1
kind: Pod
metadata: {name: b13}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: busybox, command: [sh, -c, 'for i in 1 2 3; do echo line $i; done; sleep 1; echo last']}
  - {name: stays, image: busybox, command: [sleep, infinity], resources: {limits: {cpu: '4'}}}
",
    )
});

#[test]
fn b13_the_object_has_status_conditions_uid_ip_and_events() {
    let pod = SPEAKER.pod();
    assert_eq!(pod.field("/apiVersion"), "v1");
    assert_eq!(pod.field("/kind"), "Pod");
    pod.has(&["/metadata/uid", "/metadata/creationTimestamp"]);
    pod.has(&["/status/podIP", "/status/startTime"]);
    pod.has(&["/spec/containers/0/image"]);
    assert_eq!(pod.field("/status/phase"), "Running");
    pod.described().tells(&["Events", "Started", "kernel"]);
}

#[test]
fn b13_pods_are_listed_with_their_addresses() {
    let pod = SPEAKER.pod();
    let wide = shared().types("get pods -o wide").ok();
    wide.tells(&["NAME", "b13", &pod.ip()]);
    shared().types("ps").ok().says("b13");
}

#[test]
fn b13_the_object_is_written_without_defaults() {
    let _pod = SPEAKER.pod();
    let saved = shared().types("get pod b13 -o yaml").ok();
    // A default written out would send the next start to a registry.
    for word in ["imagePullPolicy", "Containers: null"] {
        assert!(!saved.out.contains(word), "{word}: {}", saved.out);
    }
    saved.says("phase: Running");
}

#[test]
fn an_image_in_use_is_not_removed() {
    let pod = SPEAKER.pod();
    assert_ne!(shared().types("rmi busybox").code, 0);
    assert_eq!(pod.field("/status/phase"), "Running");
}

#[test]
fn logs_have_tail_timestamps_and_follow() {
    let _pod = SPEAKER.pod();
    let logs = |more: &str| shared().types(&format!("logs b13 {more}")).ok();
    logs("-f").prints("line 1\nline 2\nline 3\nlast\n");
    logs("--tail 1").prints("last\n");
    logs("--timestamps").says("Z line 1");
}

#[test]
fn a_limit_of_four_cpus_is_four_cpus() {
    assert_eq!(SPEAKER.pod().sh("stays", "nproc"), "4");
}

#[test]
fn a_dry_run_prints_the_plan_and_starts_nothing() {
    let text = one("dry", "Never", "true");
    let ran = shared().feed(["run", "--dry-run", "-f", "-"], text.as_bytes());
    ran.ok().tells(&["vcpus", "busybox"]);
    shared().types("get pod dry").exits(1);
    let shown = shared().types("run --dry-run --name shown busybox -- true");
    shown.ok().says("kind: Pod");
}

/// A parameter that the guest's kernel sets to 1.
const SYSCTL: &str = "net.ipv4.tcp_syncookies=0";

/// A pod of the command line, with a variable and a directory of the host; what came of it.
static QUICK: LazyLock<Ran> = LazyLock::new(|| {
    let data = crate::share::place("share-line").join("data");
    let run = format!(
        "run -q --rm --name quick -e GREETING=hello -v {}:/v:ro \
         --hostname box --read-only --tmpfs /t:size=64k --cap-drop ALL --sysctl {SYSCTL}",
        data.display()
    );
    let line = "cat /v/note; touch /v/x || echo $GREETING; \
                touch /x /t/x; ls /t; hostname; df -k /t; grep CapEff /proc/self/status; \
                cat /proc/sys/net/ipv4/tcp_syncookies; exit 3";
    // What stands behind the image is the command, flags and all.
    shared().types(&format!("{run} busybox sh -c '{line}'"))
});

#[test]
fn run_of_an_image_is_a_pod_of_one_container() {
    QUICK.clone().exits(3).says("hello");
    shared().types("get pod quick").exits(1);
}

#[test]
fn flags_of_docker_and_podman_are_the_pods() {
    let ran = QUICK.clone();
    let none = "CapEff:\t0000000000000000";
    let ran = ran.tells(&["x\nbox\n", " 64 ", none, "\n0\n"]);
    assert!(ran.err.contains("touch: /x: Read-only"), "{ran}");
    // And what -q keeps quiet.
    assert!(!ran.err.contains("started in"), "{ran}");
}

#[test]
fn a_volume_on_the_command_line_is_the_operators_word() {
    let ran = QUICK.clone().says("from the host");
    ran.complains("touch: /v/x: Read-only file system");
}

#[test]
fn b09_a_command_that_is_not_there_is_127_and_one_that_may_not_run_is_126() {
    let run = |more: [&str; 2], command: &str| {
        let line = ["run", more[0], more[1], "busybox", "--", command];
        shared().run(line)
    };
    let absent = run(["--rm", "--name=never-up"], "/nonexistent");
    drop(absent.exits(127).complains("/nonexistent"));
    // In the background as well: nobody would look for it otherwise.
    let denied = run(["-d", "--name=never-up"], "/etc/passwd");
    drop(denied.exits(126).complains("/etc/passwd"));
    shared().run(["delete", "pod", "never-up"]).ok();
}

#[test]
fn images_are_loaded_listed_and_removed() {
    let beluga = Beluga::with_busybox();
    beluga.types("images").ok().tells(&["busybox", "latest"]);
    beluga.types("rmi busybox").ok();
    assert!(!beluga.types("images").ok().out.contains("busybox"));
    beluga.is_clean();
}

#[test]
fn what_is_not_there_to_be_used_is_told_with_what_to_try() {
    let beluga = Beluga::fresh();
    for (line, hint) in [
        ("rmi busybox", "beluga images"),
        ("load --input=nowhere.tar", "it is taken from /"),
        ("load --input=/etc/passwd", "docker save"),
        ("apply --filename=nowhere.yaml", "it is taken from /"),
    ] {
        let ran = beluga.types(line).fails(1, "try: ");
        ran.complains(hint);
    }
    beluga.is_clean();
}

#[test]
fn doctor_tells_what_the_host_can_do() {
    let said = shared().run(["doctor"]).ok().says("kvm").says("cgroup");
    said.says("-beluga, ").says("agent 0.");
}

/// A pod of which only torn files are left.
fn torn(beluga: &Beluga, file: &str) {
    let uid = "0a0b0c0d-0102-4304-8506-0708090a0b0c";
    let [pod, names] = [format!("pods/{uid}"), "names/default".to_owned()];
    for directory in [&pod, &names].map(|name| beluga.root().join(name)) {
        std::fs::create_dir_all(directory).expect("a directory");
    }
    std::fs::write(beluga.root().join("names/default/torn"), uid).expect("written");
    let file = beluga.root().join(pod).join(file);
    std::fs::write(file, r#"{"version":1,"na"#).expect("written");
}

#[test]
fn a_torn_record_is_told_and_harms_no_other_pod() {
    for file in ["record.json", "definition.json"] {
        let beluga = Beluga::fresh();
        torn(&beluga, file);
        let all = beluga.run(["get", "pods"]).ok();
        all.complains("pod torn is not shown: the record /")
            .complains("cannot be understood");
        let told = beluga.run(["describe", "pod", "torn"]);
        told.fails(1, "try: ").complains("pod NAME --force");
        let found = beluga.run(["gc", "--check"]).exits(1);
        found.says("without a record");
        beluga.types("delete pod torn").fails(1, "--force ends it");
        let deleted = beluga.types("delete pod torn --force").ok();
        deleted.prints("pod \"torn\" deleted\n");
        beluga.is_clean();
    }
}

#[test]
fn doctor_names_what_a_host_lacks() {
    let other = Beluga::fresh();
    let root = other.root().display().to_string();
    let changes = format!(
        "mount -t tmpfs none /sys/fs/cgroup && mount --bind /dev/null /dev/net/tun && \
         mkdir -p {root} && mount -t tmpfs -o ro none {root} && exec beluga doctor"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &changes]);
    let said = run(command.env("BELUGA_ROOT", &root), SOON).exits(1);
    said.says("v2 is not mounted on /sys/fs/cgroup")
        .says("systemd.unified_cgroup_hierarchy=1")
        .says("/dev/net/tun is another device")
        .says("cannot be written: Read-only file system")
        .says("move it with --root and --state");
}

#[test]
fn doctor_finds_a_kernel_of_another_version() {
    let other = Beluga::fresh();
    std::fs::create_dir_all(other.state()).expect("a directory");
    let [kernel, note] = ["kernel", "guest.built"].map(|name| other.state().join(name));
    let image = b"\x7fELF Linux version 6.12.1-beluga ";
    std::fs::write(&kernel, image).expect("written");
    let mut command = other.command(["doctor"]);
    let mut doctor = || run(command.env("BELUGA_KERNEL", &kernel), SOON);
    doctor().ok().says("nothing beside it says");
    let digest = run(Command::new("sha256sum").arg(&kernel), SOON).ok().out;
    let digest = digest.split(' ').next().unwrap_or_default();
    std::fs::write(&note, format!("kernel 9.0.0 {digest}\n")).expect("written");
    doctor().exits(1).says("was built with version 9.0.0");
    std::fs::write(&kernel, [&image[..], b"\0"].concat()).expect("written");
    doctor().ok().says("is not the file that was built");
}

#[test]
fn doctor_finds_an_agent_of_another_version() {
    let ours = std::env::var("BELUGA_INITRAMFS").expect("set where stories run");
    let mut archive = std::fs::read(ours).expect("an initramfs");
    let mark = b"beluga-agent-version=";
    let at = archive.windows(mark.len()).position(|part| part == mark);
    archive[at.expect("a version") + mark.len()] = b'9';
    let other = Beluga::fresh();
    std::fs::create_dir_all(other.state()).expect("a directory");
    let path = other.state().join("initramfs");
    std::fs::write(&path, archive).expect("written");
    let mut doctor = other.command(["doctor"]);
    run(doctor.env("BELUGA_INITRAMFS", &path), SOON)
        .exits(1)
        .says("is of version 9.");
}
