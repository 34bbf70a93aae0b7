//! Where Beluga keeps what it writes: a place that is full, and two of them.

use crate::lifecycle::one;
use beluga_tests::{Beluga, Ran, SOON, eventually, image, run};
use std::process::Command;

/// A shell line on the host.
fn sh(line: &str) -> Ran {
    run(Command::new("sh").args(["-c", line]), SOON).ok()
}

/// An instance whose root is a file system of 8 MiB, with busybox in it.
struct Small(Beluga);

impl Small {
    fn new() -> Self {
        let beluga = Beluga::fresh();
        let root = beluga.root().display().to_string();
        let mount = format!("mkdir -p {root} && mount -t tmpfs -o size=8M full {root}");
        sh(&mount);
        beluga.run(["load", "-i", &image("busybox")]).ok();
        Self(beluga)
    }

    fn is_full(&self) -> Option<()> {
        let look = format!("df --output=avail {} | tail -1", self.0.root().display());
        (sh(&look).text() == "0").then_some(())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let umount = Command::new("umount").arg(self.0.root()).status();
        assert!(umount.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn b32_a_full_disk_of_the_host_does_not_keep_a_pod_from_anything_else() {
    let small = Small::new();
    let beluga = &small.0;
    let pod = beluga.pod(&one("full", "Never", "sleep 600"));
    let fill = "dd if=/dev/zero of=/f bs=1M count=20 conv=fsync >/dev/null 2>&1 &";
    pod.sh("main", fill);
    eventually("the disk is full", || small.is_full());
    // The guest waits for the host's room, and sees no error; who writes nothing
    // does not wait.
    let said = pod.sh("main", "echo still here; pidof dd >&2");
    assert_eq!(said, "still here");
    let told = || pod.described().out.contains("file system is full");
    eventually("it is told", || told().then_some(()));
    pod.delete();
    beluga.types("get pods -o name").ok().prints("");
    beluga.is_clean();
}

/// `beluga --root …` with everything else left to Beluga.
fn at(beluga: &Beluga, line: &str) -> String {
    let mut command = Command::new("beluga");
    command.arg("--root").arg(beluga.root());
    command.args(shlex::split(line).expect("closed quotes"));
    command.env_remove("BELUGA_STATE");
    run(&mut command, SOON * 2).ok().out
}

/// A root with a pod, called as that of any other, which has a number of its own.
fn root_with_a_pod(number: u32) -> Beluga {
    let beluga = Beluga::with_busybox();
    let note = format!("'echo {number} > /n; sleep 600'");
    let run = format!("run -dq --rm --name=same busybox sh -c {note}");
    assert_eq!(at(&beluga, &run), "same\n");
    beluga
}

/// The address of its pod.
fn address(beluga: &Beluga) -> String {
    let table = at(beluga, "get pods -o wide");
    let ip = table.split_whitespace().nth(13).unwrap_or_default();
    ip.to_owned()
}

#[test]
fn two_roots_without_a_state_keep_apart() {
    let [first, second] = [1, 2].map(root_with_a_pod);
    for (beluga, number) in [(&first, "1\n"), (&second, "2\n")] {
        assert_eq!(at(beluga, "get pods -o name"), "pod/same\n");
        assert_eq!(at(beluga, "exec same cat /n"), number);
    }
    assert!(address(&first).starts_with("10."));
    assert_ne!(address(&first), address(&second));
    for line in ["delete pod same --now", "gc", "gc --check"] {
        at(&first, line);
    }
    assert_eq!(at(&second, "exec same cat /n"), "2\n");
    // It was to be removed when it ends, whatever ends it.
    at(&second, "stop -t 0 same");
    assert_eq!(at(&second, "get pods -o name"), "");
    at(&second, "gc --check");
}
