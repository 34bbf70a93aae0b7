//! Where Beluga keeps what it writes: a place that is full, and two of them.

use crate::lifecycle::one;
use beluga_tests::{Beluga, Ran, SOON, eventually, image, run};
use std::process::Command;

/// A shell line on the host.
fn sh(line: &str) -> Ran {
    run(Command::new("sh").args(["-c", line]), SOON).ok()
}

#[test]
fn b32_a_full_disk_of_the_host_does_not_keep_a_pod_from_anything_else() {
    let beluga = Beluga::fresh();
    let root = beluga.root().display().to_string();
    sh(&format!(
        "mkdir -p {root} && mount -t tmpfs -o size=8M full {root}"
    ));
    beluga.run(["load", "-i", &image("busybox")]).ok();
    let pod = beluga.pod(&one("full", "Never", "sleep 600"));
    pod.sh(
        "main",
        "dd if=/dev/zero of=/f bs=1M count=20 conv=fsync >/dev/null 2>&1 &",
    );
    eventually("the disk is full", || {
        let left = sh(&format!("df --output=avail {root} | tail -1")).text() == "0";
        left.then_some(())
    });
    // The guest waits for the host's room, and sees no error; who writes nothing
    // does not wait.
    assert_eq!(
        pod.sh("main", "echo still here; pidof dd >&2"),
        "still here"
    );
    eventually("it is told", || {
        let told = beluga.run(["describe", "pod", "full"]).ok();
        told.out.contains("file system is full").then_some(())
    });
    pod.delete();
    assert_eq!(beluga.run(["get", "pods", "-o", "name"]).ok().out, "");
    beluga.is_clean();
    sh(&format!("umount {root}"));
}

/// `beluga --root …` with everything else left to Beluga.
fn at(beluga: &Beluga, words: &[&str]) -> Ran {
    let mut command = Command::new("beluga");
    command.arg("--root").arg(beluga.root()).args(words);
    run(command.env_remove("BELUGA_STATE"), SOON * 2).ok()
}

#[test]
fn two_roots_without_a_state_keep_apart() {
    let both = [Beluga::with_busybox(), Beluga::with_busybox()];
    for (beluga, line) in both
        .iter()
        .zip(["echo 1 > /n; sleep 600", "echo 2 > /n; sleep 600"])
    {
        at(
            beluga,
            &["run", "-d", "--name=same", "busybox", "sh", "-c", line],
        );
    }
    let [first, second] = &both;
    for (beluga, number) in [(first, "1\n"), (second, "2\n")] {
        assert_eq!(at(beluga, &["get", "pods", "-o", "name"]).out, "pod/same\n");
        assert_eq!(at(beluga, &["exec", "same", "cat", "/n"]).out, number);
    }
    let address = |one| at(one, &["get", "pods", "-o", "wide"]).out;
    let address = |one| address(one).split_whitespace().nth(13).map(str::to_owned);
    assert!(address(first).is_some_and(|ip| ip.starts_with("10.")));
    assert_ne!(address(first), address(second));
    at(first, &["delete", "pod", "same", "--now"]);
    at(first, &["gc"]);
    at(first, &["gc", "--check"]);
    assert_eq!(at(second, &["exec", "same", "cat", "/n"]).out, "2\n");
    at(second, &["delete", "pod", "same", "--now"]);
    at(second, &["gc", "--check"]);
}
