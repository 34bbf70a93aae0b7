//! The pod as an object: get, describe, logs, images, dry run.

use crate::lifecycle::one;
use beluga_tests::{Beluga, Common, SOON, image, run, shared};
use std::process::Command;

/// A pod of two containers: one has said its lines, the other stays.
static SPEAKER: Common = Common::new(2, || {
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
  - {name: stays, image: busybox, command: [sleep, infinity]}
",
    )
});

#[test]
fn b13_the_object_has_status_conditions_uid_ip_and_events() {
    let pod = SPEAKER.pod();
    let object = pod.object();
    assert_eq!(
        (&object["apiVersion"], &object["kind"]),
        (&"v1".into(), &"Pod".into())
    );
    for pointer in [
        "/metadata/uid",
        "/metadata/creationTimestamp",
        "/status/podIP",
        "/status/startTime",
        "/spec/containers/0/image",
    ] {
        assert!(
            object
                .pointer(pointer)
                .is_some_and(|value| !value.is_null()),
            "{pointer}: {object:#}"
        );
    }
    shared()
        .run(["get", "pods", "-o", "wide"])
        .ok()
        .says("NAME")
        .says("b13")
        .says(&pod.ip());
    let saved = shared().run(["get", "pod", "b13", "-o", "yaml"]).ok();
    // A default written out would send the next start to a registry.
    for word in ["imagePullPolicy", "Containers: null"] {
        assert!(!saved.out.contains(word), "{word}: {}", saved.out);
    }
    drop(saved.says("phase: Running"));
    shared()
        .run(["describe", "pod", "b13"])
        .ok()
        .says("Events")
        .says("Started")
        .says("kernel");
    shared().run(["ps"]).ok().says("b13");
    // An image in use is not removed.
    assert_ne!(shared().run(["rmi", "busybox"]).code, 0);
    assert_eq!(pod.field("/status/phase"), "Running");
}

#[test]
fn logs_have_tail_timestamps_and_follow() {
    let pod = SPEAKER.pod();
    let followed = shared().run(["logs", "-f", "b13"]).ok();
    assert_eq!(followed.out, "line 1\nline 2\nline 3\nlast\n");
    assert_eq!(
        shared().run(["logs", "--tail", "1", "b13"]).ok().out,
        "last\n"
    );
    shared()
        .run(["logs", "--timestamps", "b13"])
        .ok()
        .says("Z line 1");
    drop(pod);
}

#[test]
fn a_dry_run_prints_the_plan_and_starts_nothing() {
    let ran = shared()
        .feed(
            ["run", "--dry-run", "-f", "-"],
            one("dry", "Never", "true").as_bytes(),
        )
        .ok();
    drop(ran.says("vcpus").says("busybox"));
    shared().run(["get", "pod", "dry"]).exits(1);
}

#[test]
fn run_of_an_image_is_a_pod_of_one_container() {
    shared()
        .run([
            "run",
            "--rm",
            "--name",
            "quick",
            "-e",
            "GREETING=hello",
            "busybox",
            "--",
            "sh",
            "-c",
            "echo $GREETING; exit 3",
        ])
        .exits(3)
        .says("hello");
    shared().run(["get", "pod", "quick"]).exits(1);
    shared()
        .run([
            "run",
            "--dry-run",
            "--name",
            "shown",
            "busybox",
            "--",
            "true",
        ])
        .ok()
        .says("kind: Pod");
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
    let beluga = Beluga::fresh();
    beluga.run(["load", "-i", &image("busybox")]).ok();
    beluga.run(["images"]).ok().says("busybox").says("latest");
    beluga.run(["rmi", "busybox"]).ok();
    assert!(!beluga.run(["images"]).ok().out.contains("busybox"));
    for (command, hint) in [
        (["rmi", "busybox"], "beluga images"),
        (["load", "--input=nowhere.tar"], "it is taken from /"),
        (["load", "--input=/etc/passwd"], "docker save"),
        (["apply", "--filename=nowhere.yaml"], "it is taken from /"),
    ] {
        beluga
            .run(command)
            .exits(1)
            .complains("try: ")
            .complains(hint);
    }
    beluga.is_clean();
}

#[test]
fn doctor_tells_what_the_host_can_do() {
    let said = shared().run(["doctor"]).ok().says("kvm").says("cgroup");
    said.says("-beluga, ").says("agent 0.");
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
