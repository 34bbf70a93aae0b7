//! The processes that serve directories of the host: their lives and deaths.

use super::{SHARE, one, place, pod};
use crate::crashes::kill_supervisor;
use beluga_tests::{Beluga, Pod, Ran, SOON, eventually, run, shared};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// The processes that serve the pod's volumes.
fn servers(beluga: &Beluga, pod: &Pod) -> Vec<String> {
    let uid = pod.field("/metadata/uid");
    let path = beluga.root().join("pods").join(uid).join("record.json");
    let record = fs::read_to_string(path).expect("the pod has a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("a record is JSON");
    let shares = record["shares"].as_array().into_iter().flatten();
    shares
        .map(|one| one["process"]["pid"].to_string())
        .collect()
}

fn signal(which: &str, pid: &str) -> Ran {
    let mut kill = Command::new("kill");
    run(kill.args([which, pid]), Duration::from_secs(10))
}

fn kill(pid: &str) -> Ran {
    signal("-KILL", pid)
}

const WORK: &str = "while sleep 0.2; do cat /v/note >/dev/null 2>/tmp/error || break; done; \
                    cat /tmp/error; sleep 600";

#[test]
fn a_killed_server_is_an_error_and_an_event_and_no_hang() {
    let place = place("share-killed");
    let beluga = Beluga::with_busybox();
    let manifest = one("killed", WORK, "{path: PLACE/data}", "readOnly: false");
    let pod = pod(&beluga, &manifest, &place);
    let server = servers(&beluga, &pod).remove(0);
    kill(&server).ok();
    let said = eventually("an error", || {
        Some(pod.logs("main")).filter(|log| !log.is_empty())
    });
    assert!(said.contains("not connected"), "{said}");
    assert!(pod.try_exec("main", &["ls", "/v"]).took < SOON);
    let events = beluga.run(["describe", "pod", "killed"]).ok();
    events.says("VolumeLost").says("was ended by signal 9");
    assert_eq!(pod.field("/status/phase"), "Running");
    pod.delete();
    beluga.is_clean();
}

#[test]
fn a_server_sees_its_directory_and_nothing_else() {
    let ran = shared().run(["audit", SHARE.1.name(), "-o", "json"]).ok();
    let audit: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let servers = audit["processes"].as_array().expect("processes");
    let servers = servers.iter().filter(|one| one["role"] != "vmm");
    let mut count = 0;
    for server in servers {
        count += 1;
        assert_eq!(server["root"], serde_json::json!([]), "{server:#}");
        for kind in ["mnt", "net", "pid", "ipc", "uts", "cgroup"] {
            assert_eq!(server["ownNamespaces"][kind], true, "{kind}: {server:#}");
        }
        assert_eq!(server["refused"], serde_json::json!([]), "{server:#}");
        assert_eq!(server["newPrivileges"], false);
        let threads = server["threads"].as_array().expect("threads");
        let filtered = threads.iter().filter(|one| one["seccomp"] == "filter");
        assert_eq!(filtered.count(), 1, "{server:#}");
        assert_eq!(threads.len(), 1, "{server:#}");
    }
    assert!(count > 0);
}

#[test]
fn a_server_that_hangs_does_not_keep_its_pod() {
    let place = place("share-hangs");
    let beluga = Beluga::with_busybox();
    let manifest = one(
        "hangs",
        "sleep 600",
        "{path: PLACE/data}",
        "readOnly: false",
    );
    let pod = pod(&beluga, &manifest, &place);
    let server = servers(&beluga, &pod).remove(0);
    signal("-STOP", &server).ok();
    pod.sh("main", "cat /v/note >/dev/null 2>&1 &");
    assert_eq!(
        pod.sh("main", "echo everything else goes on"),
        "everything else goes on"
    );
    pod.delete();
    assert_ne!(kill(&server).code, 0, "it has ended");
    beluga.is_clean();
}

#[test]
fn a_share_outlives_its_supervisor_and_ends_with_its_pod() {
    let place = place("share-adopted");
    let beluga = Beluga::with_busybox();
    let manifest = one(
        "adopted",
        "sleep 600",
        "{path: PLACE/data}",
        "readOnly: false",
    );
    let pod = pod(&beluga, &manifest, &place);
    let server = servers(&beluga, &pod).remove(0);
    kill_supervisor(&pod);
    assert_eq!(
        pod.sh("main", "cat /v/note; echo back > /v/back"),
        "from the host"
    );
    assert_eq!(
        fs::read_to_string(place.join("data/back")).expect("made"),
        "back\n"
    );
    assert_eq!(servers(&beluga, &pod), [server.as_str()]);
    beluga.is_clean();
    pod.delete();
    assert_ne!(kill(&server).code, 0, "it has ended");
    beluga.is_clean();
}
