//! The checks of `beluga conformance`, each as a story of its behaviour: they are
//! run once, for all of them.

use beluga_tests::{Beluga, SOON, eventually, run, shared, skip};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

static CHECKS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let mut command = shared().command(["conformance", "-o", "json"]);
    let ran = run(&mut command, SOON * 15);
    let said: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran}"));
    said["checks"].as_array().cloned().unwrap_or_default()
});

/// Holds the story of a behaviour to what the command says of it.
#[track_caller]
fn holds(behaviour: u32) {
    let mut all = CHECKS.iter();
    let check = all.find(|check| check["behaviour"] == behaviour);
    let check = check.unwrap_or_else(|| panic!("no check of {behaviour}"));
    let why = check["reason"].as_str().unwrap_or_default();
    match check["result"].as_str() {
        Some("passed") => {}
        Some("skipped") => skip(&format!("conformance::b{behaviour:02}_conformance"), why),
        _ => panic!("{}\n{why}", check["what"]),
    }
}

/// Where the checks of an instance have theirs.
fn beside(beluga: &Beluga) -> PathBuf {
    let mut name = beluga.root().as_os_str().to_owned();
    name.push("-conformance");
    name.into()
}

/// Checks that have a pod, which nobody waits for.
fn checks(beluga: &Beluga) -> Child {
    let mut checks = beluga.command(["conformance", "1"]);
    let child = checks.stdout(Stdio::null()).spawn().expect("beluga");
    let pods = beside(beluga).join("pods");
    eventually("a pod of the checks", || {
        let mut entries = std::fs::read_dir(&pods).ok()?;
        entries.next().map(drop)
    });
    child
}

#[test]
fn interrupted_checks_leave_nothing_behind() {
    let beluga = Beluga::fresh();
    let mut child = checks(&beluga);
    // Two at once would have each other's pods.
    let second = beluga.run(["conformance", "1"]).exits(1);
    drop(second.complains("checks are being run already"));
    let kill = ["-INT", &child.id().to_string()];
    let kill = Command::new("kill").args(kill).status().expect("kill");
    assert!(kill.success());
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    let place = beside(&beluga);
    assert!(!place.exists(), "{}", place.display());
}

#[test]
fn what_cannot_be_checked_is_told() {
    let beluga = Beluga::fresh();
    let refused = beluga.run(["conformance", "14", "40-41"]).exits(2);
    drop(refused.complains("there is no check 40: they are 1 to 35"));
    let table = beluga.run(["conformance", "14"]).ok();
    drop(
        table
            .says("NUMBER   RESULT   SECONDS   BEHAVIOUR\n14       passed ")
            .says("1 passed, 0 failed, 0 skipped"),
    );
    assert!(!beside(&beluga).exists());
}

#[test]
fn b01_conformance() {
    holds(1);
}

#[test]
fn b02_conformance() {
    holds(2);
}

#[test]
fn b03_conformance() {
    holds(3);
}

#[test]
fn b04_conformance() {
    holds(4);
}

#[test]
fn b05_conformance() {
    holds(5);
}

#[test]
fn b06_conformance() {
    holds(6);
}

#[test]
fn b07_conformance() {
    holds(7);
}

#[test]
fn b08_conformance() {
    holds(8);
}

#[test]
fn b09_conformance() {
    holds(9);
}

#[test]
fn b10_conformance() {
    holds(10);
}

#[test]
fn b11_conformance() {
    holds(11);
}

#[test]
fn b12_conformance() {
    holds(12);
}

#[test]
fn b13_conformance() {
    holds(13);
}

#[test]
fn b14_conformance() {
    holds(14);
}

#[test]
fn b15_conformance() {
    holds(15);
}

#[test]
fn b16_conformance() {
    holds(16);
}

#[test]
fn b17_conformance() {
    holds(17);
}

#[test]
fn b18_conformance() {
    holds(18);
}

#[test]
fn b19_conformance() {
    holds(19);
}

#[test]
fn b20_conformance() {
    holds(20);
}

#[test]
fn b21_conformance() {
    holds(21);
}

#[test]
fn b22_conformance() {
    holds(22);
}

#[test]
fn b23_conformance() {
    holds(23);
}

#[test]
fn b24_conformance() {
    holds(24);
}

#[test]
fn b25_conformance() {
    holds(25);
}

#[test]
fn b26_conformance() {
    holds(26);
}

#[test]
fn b27_conformance() {
    holds(27);
}

#[test]
fn b28_conformance() {
    holds(28);
}

#[test]
fn b29_conformance() {
    holds(29);
}

#[test]
fn b30_conformance() {
    holds(30);
}

#[test]
fn b31_conformance() {
    holds(31);
}

#[test]
fn b32_conformance() {
    holds(32);
}

#[test]
fn b33_conformance() {
    holds(33);
}

#[test]
fn b34_conformance() {
    holds(34);
}

#[test]
fn b35_conformance() {
    holds(35);
}
