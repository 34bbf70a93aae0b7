//! What is refused, and how: with its place, a non-zero exit, nothing made.

use crate::lifecycle::one;
use beluga_tests::{Beluga, Ran, SOON, image, run};
use std::process::Command;

/// Applies a manifest that must be refused, with its place, in an instance of
/// its own: afterwards there is no pod, and nothing else.
fn refused(manifest: &str) -> Ran {
    let beluga = Beluga::fresh();
    let ran = beluga.feed(["apply", "-f", "-"], manifest.as_bytes());
    assert_ne!(ran.code, 0, "{ran}");
    let has_place = ran.err.split_whitespace().any(|word| {
        let parts: Vec<&str> = word.trim_end_matches(':').rsplit(':').collect();
        parts.len() > 2 && parts[..2].iter().all(|part| part.parse::<u32>().is_ok())
    });
    assert!(has_place, "no line and column\n{ran}");
    assert_eq!(beluga.run(["get", "pods", "-o", "name"]).ok().out, "");
    beluga.is_clean();
    ran
}

fn manifest() -> String {
    one("refused", "Never", "echo never")
}

#[test]
fn b14_a_misplaced_restart_policy_says_where_it_belongs() {
    let text = manifest()
        .replace("  restartPolicy: Never\n", "")
        .replace("{name: refused}", "{name: refused, restartPolicy: Never}");
    refused(&text)
        .complains("metadata.restartPolicy")
        .complains("spec")
        .complains(":4:");
}

/// A manifest that asks for what a tenant may not have.
fn greedy_tenant() -> String {
    let more = "    securityContext: {privileged: true, capabilities: {add: [ALL]}}\n  volumes:\n  - {name: v, hostPath: {path: /srv}}\n";
    manifest() + more
}

#[test]
fn a_tenants_pod_has_no_files_of_the_host_and_nothing_privileged() {
    let beluga = Beluga::fresh();
    let words = "apply --profile tenant --allow-host-path /srv -f -".split(' ');
    let ran = beluga.feed(words, greedy_tenant().as_bytes()).exits(1);
    ran.complains(":12:35: spec.containers[0].securityContext.privileged: forbidden by policy: the profile tenant has no privileged containers")
        .complains("spec.containers[0].securityContext.capabilities.add: forbidden by policy: the profile tenant has no added capabilities")
        .complains(":14:5: spec.volumes[0].hostPath: forbidden by policy: the profile tenant has no files of the host");
    beluga.is_clean();
}

#[test]
fn what_a_tenants_pod_is_granted_needs_the_profile() {
    let beluga = Beluga::fresh();
    let words = "apply --allow-exec -f -".split(' ');
    let granted = beluga.feed(words, greedy_tenant().as_bytes());
    granted.fails(2, "add --profile tenant");
    beluga.is_clean();
}

#[test]
fn b14_an_unknown_key_has_its_line_and_a_suggestion() {
    refused(&manifest().replace("image:", "imagee:"))
        .complains("spec.containers[0].imagee")
        .complains("did you mean image?");
}

#[test]
fn b14_a_bad_quantity() {
    let text = manifest() + "    resources: {limits: {memory: 12Qi}}\n";
    refused(&text)
        .complains("spec.containers[0].resources.limits")
        .complains("12Qi");
}

#[test]
fn b14_two_containers_of_one_name() {
    let text = manifest() + "  - {name: main, image: busybox}\n";
    refused(&text)
        .complains("spec.containers[1].name")
        .complains("main");
}

#[test]
fn b14_a_missing_image() {
    refused(&manifest().replace("image: busybox", "image: nowhere/nothing:1"))
        .complains("nowhere/nothing:1");
}

#[test]
fn b14_a_mount_of_an_undeclared_volume() {
    let text = manifest() + "    volumeMounts: [{name: ghost, mountPath: /g}]\n";
    refused(&text)
        .complains("spec.containers[0].volumeMounts[0].name")
        .complains("ghost");
}

#[test]
fn b14_host_namespaces_are_refused_by_name() {
    for field in ["hostNetwork", "hostIPC"] {
        let text = manifest().replace("spec:\n", &format!("spec:\n  {field}: true\n"));
        refused(&text).complains(&format!("spec.{field}"));
    }
}

#[test]
fn b32_more_than_the_disk_has_is_not_promised() {
    let beluga = Beluga::with_busybox();
    let volume = "  volumes: [{name: v, emptyDir: {sizeLimit: 2Pi}}]\n";
    let text = one("greedy", "Never", "true");
    let text = text.replacen("  containers", &format!("{volume}  containers"), 1);
    let ran = beluga.apply(&text).exits(1);
    ran.complains("may hold 2147483648 MiB, those of other pods 0 MiB, and")
        .complains("BELUGA_STORAGE_OVERCOMMIT");
    beluga.types("get pod greedy").exits(1);
    beluga.is_clean();
}

#[test]
fn a_full_disk_at_load_is_told_and_leaves_no_half_image() {
    let beluga = Beluga::fresh();
    let root = beluga.root().display().to_string();
    let sh = |line: String| run(Command::new("sh").args(["-c", &line]), SOON).ok();
    sh(format!(
        "mkdir -p {root} && mount -t tmpfs -o size=1M full {root}"
    ));
    let load = || beluga.run(["load", "-i", &image("busybox")]);
    let full = load().exits(1).complains("No space left on device");
    assert!(full.err.contains(&root), "the place is not named: {full}");
    sh(format!("mount -o remount,size=16M {root}"));
    assert!(!beluga.run(["images"]).ok().out.contains("busybox"));
    beluga.is_clean();
    drop(load().ok());
    beluga.run(["images"]).ok().says("busybox");
    sh(format!("umount {root}"));
}

/// Runs a pod in a mount namespace of its own, in which `change` has been made.
fn run_without_kvm(change: &str) -> Ran {
    let beluga = Beluga::with_busybox();
    let line = format!("{change} && exec beluga run --rm busybox true");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &line])
        .env("BELUGA_ROOT", beluga.root())
        .env("BELUGA_STATE", beluga.state());
    let ran = run(&mut command, SOON).exits(1);
    assert_eq!(beluga.run(["get", "pods", "-o", "name"]).ok().out, "");
    assert!(!beluga.root().join("pods").exists(), "something was begun");
    beluga.is_clean();
    ran
}

#[test]
fn a_host_without_kvm_is_told_before_anything_is_begun() {
    run_without_kvm("mount -t tmpfs none /dev && mknod /dev/null c 1 3")
        .complains("no pod can run here: KVM is absent: there is no /dev/kvm")
        .complains("modprobe kvm_");
}

#[test]
fn a_kvm_that_only_interprets_is_told_before_anything_is_begun() {
    let without = "sed -e s/svm//g -e s/vmx//g /proc/cpuinfo > /tmp/cpuinfo.$$";
    run_without_kvm(&format!(
        "{without} && mount --bind /tmp/cpuinfo.$$ /proc/cpuinfo && rm /tmp/cpuinfo.$$"
    ))
    .complains("no pod can run here: KVM is emulated")
    .complains("make lab");
}
