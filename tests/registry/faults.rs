//! Pulls that are killed, that meet, and that find no room.

use beluga_tests::registry::{Puller, Registry, Wants, sh};
use beluga_tests::{SOON, run};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An image of several layers that do not compress, some 20 MB, in a registry.
fn large(registry: &Registry) -> String {
    let dir = registry.place().join("large");
    let line = format!(
        "mkdir {dir} && cd {dir} && umoci init --layout oci && umoci new --image oci:latest \
         && for n in 1 2 3 4 5; do mkdir layer$n && head -c 4000000 /dev/urandom > layer$n/data$n \
         && umoci insert --image oci:latest layer$n /layer$n; done",
        dir = dir.display()
    );
    sh(&line).ok();
    let from = format!("oci:{}/oci:latest", dir.display());
    registry.push(&from, "large", "");
    registry.name("large")
}

#[test]
fn a_pull_that_is_killed_ten_times_goes_on() {
    let registry = Registry::start(Wants::default());
    let name = large(&registry);
    let whole = Puller::new();
    let begun = Instant::now();
    whole.run(&["pull", &name]).ok();
    let span = begun.elapsed();
    let puller = Puller::new();
    for number in 1..=10 {
        let mut command = puller.command(&["pull", &name]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("beluga");
        // Spread over a pull's length; each is a little longer than the last.
        std::thread::sleep(span * number / 20);
        let _ = child.kill();
        let _ = child.wait();
        // The store is whole: it can be read, and nothing has a name too early.
        let listed = puller.run(&["images", "-q"]).ok().out;
        assert!(listed.lines().count() <= 1, "{listed}");
    }
    puller.run(&["pull", &name]).ok();
    let ids = |puller: &Puller| puller.run(&["images", "-q"]).ok().out;
    assert_eq!(ids(&puller), ids(&whole));
    assert_eq!(puller.store(), whole.store());
}

#[test]
fn what_a_killed_pull_has_is_not_sent_again() {
    let registry = Registry::start(Wants::default());
    let name = large(&registry);
    let puller = Puller::new();
    let mut child = puller
        .command(&["pull", &name])
        .stderr(Stdio::null())
        .spawn()
        .expect("beluga");
    let end = Instant::now() + SOON;
    let has_one = || puller.beluga.root().join("images/layers").read_dir();
    while has_one().map_or(0, Iterator::count) == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(has_one().map_or(0, Iterator::count) > 0);
    let ran = puller.run(&["pull", &name]).ok();
    ran.complains("is there already");
}

#[test]
fn two_pulls_at_a_time_do_the_work_once() {
    let registry = Registry::start(Wants::default());
    let name = large(&registry);
    let puller = Puller::new();
    let both: Vec<_> = std::thread::scope(|scope| {
        let pulls = [(); 2].map(|()| scope.spawn(|| puller.run(&["pull", &name]).ok()));
        pulls.map(|pull| pull.join().expect("a pull")).into()
    });
    let done = |text: &str| text.lines().filter(|line| line.contains(": done,")).count();
    let sum: usize = both.iter().map(|ran| done(&ran.err)).sum();
    assert_eq!(sum, 5, "{}\n{}", both[0], both[1]);
}

#[test]
fn a_full_disk_is_told_and_leaves_room() {
    let registry = Registry::start(Wants::default());
    let name = large(&registry);
    let puller = Puller::new();
    let root = puller.beluga.root().display().to_string();
    // A file system of 12 MB in a mount namespace of its own; after the failure it is empty.
    let line = format!(
        "mkdir -p {root} && mount -t tmpfs -o size=12m none {root} || exit 77; \
         beluga --root {root} pull {name}; code=$?; \
         find {root}/images/blobs {root}/images/layers {root}/images/ingest -type f | wc -l; exit $code"
    );
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &line]);
    let ran = run(&mut command, SOON);
    if ran.code == 77 || ran.err.contains("unshare") {
        beluga_tests::skip(
            "a_full_disk_is_told_and_leaves_room",
            "no mount namespaces here",
        );
        return;
    }
    let ran = ran.exits(1).complains("No space left on device");
    assert_eq!(ran.text(), "0", "{ran}");
}
