//! The processes that serve directories of the host: their lives and deaths.

use super::{SHARE, place, pod};
use crate::crashes::kill_supervisor;
use beluga_tests::{Beluga, Pod, Ran, SOON, eventually, run, shared};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Each of its volumes is served by a process: one that is left alone, one that is
/// killed, one that hangs.
const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: served}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: kept, hostPath: {path: PLACE/data}}
  - {name: lost, hostPath: {path: PLACE/lost}}
  - {name: stuck, hostPath: {path: PLACE/stuck}}
  containers:
  - name: main
    image: busybox
    command: [sleep, infinity]
    volumeMounts: [{name: kept, mountPath: /v}, {name: stuck, mountPath: /stuck}]
  - name: reads
    image: busybox
    command: [sh, -c, 'while sleep 0.2; do cat /lost/note >/dev/null 2>/tmp/error || break; done; cat /tmp/error; sleep 600']
    volumeMounts: [{name: lost, mountPath: /lost}]
";

/// The directories of those volumes, with a file in each.
fn directories() -> PathBuf {
    let place = place("share-served");
    for name in ["lost", "stuck"] {
        fs::create_dir(place.join(name)).expect("a directory");
        fs::copy(place.join("data/note"), place.join(name).join("note")).expect("a file");
    }
    place
}

/// The processes that serve the pod's volumes, by volume.
fn servers(pod: &Pod) -> BTreeMap<String, String> {
    let record = pod.record();
    let shares = record["shares"].as_array().into_iter().flatten();
    let told = |one: &Value| {
        Some((
            one["volume"].as_str()?.to_owned(),
            one["process"]["pid"].to_string(),
        ))
    };
    shares.filter_map(told).collect()
}

fn signal(which: &str, pid: &str) -> Ran {
    let mut kill = Command::new("kill");
    run(kill.args([which, pid]), Duration::from_secs(10))
}

#[test]
fn shares_outlive_their_supervisor_and_end_with_their_pod_whatever_has_become_of_them() {
    let place = directories();
    let beluga = Beluga::with_busybox();
    let pod = pod(&beluga, MANIFEST, &place);
    let before = servers(&pod);
    one_that_is_killed_is_an_error_and_an_event_and_no_hang(&pod, &before["lost"]);
    they_outlive_their_supervisor(&beluga, &pod, &place);
    one_that_hangs_keeps_nobody_else(&pod, &before["stuck"]);
    pod.delete();
    for server in before.values() {
        assert_ne!(signal("-KILL", server).code, 0, "it has ended");
    }
    beluga.is_clean();
}

fn they_outlive_their_supervisor(beluga: &Beluga, pod: &Pod, place: &Path) {
    let before = servers(pod);
    kill_supervisor(pod);
    let note = pod.sh("main", "cat /v/note; echo back > /v/back");
    assert_eq!(note, "from the host");
    let back = fs::read_to_string(place.join("data/back")).expect("made");
    assert_eq!(back, "back\n");
    assert_eq!(servers(pod), before);
    beluga.is_clean();
}

fn one_that_is_killed_is_an_error_and_an_event_and_no_hang(pod: &Pod, server: &str) {
    assert_eq!(pod.logs("reads"), "");
    signal("-KILL", server).ok();
    let said = eventually("an error", || {
        Some(pod.logs("reads")).filter(|log| !log.is_empty())
    });
    assert!(said.contains("not connected"), "{said}");
    assert!(pod.exec("reads", "ls /lost").took < SOON);
    let events = pod.described();
    events.tells(&["VolumeLost", "was ended by signal 9"]);
    assert_eq!(pod.field("/status/phase"), "Running");
}

fn one_that_hangs_keeps_nobody_else(pod: &Pod, server: &str) {
    signal("-STOP", server).ok();
    pod.sh("main", "cat /stuck/note >/dev/null 2>&1 &");
    let on = pod.sh("main", "echo everything else goes on");
    assert_eq!(on, "everything else goes on");
}

#[test]
fn a_server_sees_its_directory_and_nothing_else() {
    let line = format!("audit {} -o json", SHARE.1.name());
    let audit = shared().types(&line).ok().json();
    let processes = audit["processes"].as_array().expect("processes");
    let serves = |one: &&Value| {
        one["role"]
            .as_str()
            .is_some_and(|role| role.starts_with("share "))
    };
    let servers = processes.iter().filter(serves);
    assert_ne!(servers.map(has_nothing_else).count(), 0);
}

/// Asserts that a server has its directory, and no rights.
fn has_nothing_else(server: &Value) {
    assert_eq!(server["root"], json!([]), "{server:#}");
    for kind in ["mnt", "net", "pid", "ipc", "uts", "cgroup"] {
        assert_eq!(server["ownNamespaces"][kind], true, "{kind}: {server:#}");
    }
    assert_eq!(server["refused"], json!([]), "{server:#}");
    assert_eq!(server["newPrivileges"], false);
    let threads = server["threads"].as_array().expect("threads");
    assert_eq!(threads.len(), 1, "{server:#}");
    assert_eq!(threads[0]["seccomp"], "filter", "{server:#}");
}
