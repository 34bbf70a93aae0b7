//! What is left where everything that could clean up was killed, stopped or
//! removed by hand: `gc` names it and takes it away.

use crate::lifecycle::one;
use beluga_tests::{Beluga, Pod, kill, run, runs};
use std::process::Command;
use std::time::{Duration, Instant};

/// Sends a signal to processes.
#[track_caller]
fn signal(name: &str, pids: &[u32]) {
    let mut kill = Command::new("kill");
    kill.args(["-s", name])
        .args(pids.iter().map(u32::to_string));
    run(&mut kill, Duration::from_secs(10)).ok();
}

fn sleeper<'a>(beluga: &'a Beluga, name: &str) -> Pod<'a> {
    beluga.pod(&one(name, "Always", "exec sleep 600"))
}

#[test]
fn b04_gc_finds_a_pod_whose_vmm_and_supervisor_were_killed() {
    let beluga = Beluga::with_busybox();
    let pod = sleeper(&beluga, "both-killed");
    let [vmm, supervisor] = pod.processes();
    kill(&[supervisor, vmm]);
    let told = beluga.run(["gc", "--check"]).exits(1);
    told.says("whose VMM and supervisor are gone")
        .says("cgroup");
    beluga.run(["gc"]).ok();
    beluga.is_clean();
    assert_eq!(pod.field("/status/phase"), "Failed");
    pod.delete();
}

#[test]
fn b04_gc_ends_a_pod_whose_directory_was_removed_by_hand() {
    let beluga = Beluga::with_busybox();
    let pod = sleeper(&beluga, "no-directory");
    let [vmm, supervisor] = pod.processes();
    let uid = pod.field("/metadata/uid");
    std::fs::remove_dir_all(beluga.root().join("pods").join(uid)).expect("we may remove it");
    let mut told = beluga.run(["gc", "--check"]).exits(1);
    for pid in [vmm, supervisor] {
        told = told.says(&format!("process {pid} of the pod"));
    }
    beluga.run(["gc"]).ok().says("removed: interface");
    beluga.is_clean();
    for pid in [vmm, supervisor] {
        assert!(!runs(pid), "process {pid} runs on");
    }
}

#[test]
fn b04_gc_finds_what_no_claim_has() {
    let beluga = Beluga::fresh();
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: kept}\nspec: \
                 {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}\n";
    let told = beluga.feed(["apply", "-f", "-"], claim.as_bytes()).ok();
    drop(told.complains("a directory is bounded by the host's disk alone"));
    let of_claims = beluga.root().join("objects/default/persistentvolumeclaim");
    std::fs::write(of_claims.join("kept.dir/file"), "kept").expect("written");
    beluga.is_clean();
    let left = ["half.dir", ".removed-1"].map(|name| of_claims.join(name));
    for directory in &left {
        std::fs::create_dir_all(directory.join("below")).expect("a directory");
    }
    let told = beluga.run(["gc", "--check"]).exits(1);
    drop(told.says("half.dir without a claim"));
    beluga.run(["gc"]).ok().says("removed: ");
    assert!(!left.iter().any(|one| one.exists()) && of_claims.join("kept.dir/file").exists());
    beluga.run(["delete", "pvc", "kept"]).ok();
    assert!(!of_claims.join("kept.dir").exists());
    beluga.is_clean();
}

#[test]
fn b04_gc_takes_stray_mounts_away_and_not_what_is_mounted() {
    let beluga = Beluga::fresh();
    let [host, entry] = [
        beluga.root().join("of-the-host"),
        beluga.state().join("mounts/stray/data"),
    ];
    for directory in [&host, &entry] {
        std::fs::create_dir_all(directory).expect("a directory");
    }
    std::fs::write(host.join("kept"), "kept").expect("written");
    let mut mount = Command::new("mount");
    run(
        mount.arg("--bind").args([&host, &entry]),
        Duration::from_secs(10),
    )
    .ok();
    beluga.run(["gc", "--check"]).exits(1).says("mounts below ");
    beluga.run(["gc"]).ok().says("removed: mounts below ");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("Linux");
    assert!(!mounts.contains(&entry.display().to_string()), "{mounts}");
    assert!(host.join("kept").exists() && !entry.exists());
    beluga.is_clean();
}

#[test]
fn b09_a_pod_is_deleted_by_force_though_its_supervisor_stands_still() {
    let beluga = Beluga::with_busybox();
    let pod = sleeper(&beluga, "silent");
    let [vmm, supervisor] = pod.processes();
    for (what, process) in [("VMM", vmm), ("supervisor", supervisor)] {
        signal("CONT", &[vmm, supervisor]);
        signal("STOP", &[process]);
        let told = beluga.run(["exec", "silent", "--", "true"]).exits(1);
        told.complains(&format!("its {what}, process {process}, is stopped"))
            .complains(&format!("kill -CONT {process}"));
    }
    let started = Instant::now();
    let delete = ["delete", "pod", "silent", "--force", "--grace-period", "0"];
    beluga.run(delete).ok();
    assert!(started.elapsed() < Duration::from_secs(60));
    beluga.is_clean();
}
