//! Stories that are too long for the gate: `make soak`.

use crate::workloads::{deployment, distinct, own_volumes, pods};
use beluga_tests::{Beluga, run, say};
use std::time::{Duration, Instant};

/// Longest that fifty pods may take on two emulated CPUs.
const LONG: Duration = Duration::from_secs(30 * 60);

/// Memory of the host that is in use, in MiB.
fn used_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).unwrap_or_default()
    };
    (kib("MemTotal:") - kib("MemAvailable:")) / 1024
}

/// Starts fifty pods: the time until it is said, the time until they are ready.
fn fifty(beluga: &Beluga) -> [Duration; 2] {
    let begun = Instant::now();
    let file = beluga.root().join("fifty.yaml");
    std::fs::write(&file, deployment("fifty", 50)).expect("a manifest");
    run(beluga.command(["apply", "-f"]).arg(&file), LONG).ok();
    let started = begun.elapsed();
    let goal = "--for=jsonpath={.status.readyReplicas}=50";
    let words = ["wait", "deployment/fifty", goal, "--timeout=20m"];
    run(&mut beluga.command(words), LONG).ok();
    [started, begun.elapsed()]
}

#[test]
fn b15_fifty_pods_of_one_deployment() {
    let beluga = Beluga::with_busybox();
    let before = used_mib();
    let times = fifty(&beluga);
    let memory = used_mib().saturating_sub(before);
    let fifty = pods(&beluga, "fifty");
    for pointer in ["/metadata/name", "/metadata/uid", "/status/podIP"] {
        assert_eq!(distinct(&fifty, pointer), 50, "{pointer}");
    }
    own_volumes(&beluga, &fifty);
    let end = Instant::now();
    run(&mut beluga.command(["delete", "deployment", "fifty"]), LONG).ok();
    assert!(pods(&beluga, "fifty").is_empty());
    beluga.is_clean();
    tell(times, memory, end.elapsed());
}

fn tell([started, ready]: [Duration; 2], memory: u64, gone: Duration) {
    say(&format!(
        "fifty pods: begun in {started:.0?}, ready in {ready:.0?}, {memory} MiB of the host, gone in {gone:.0?}"
    ));
}

#[test]
fn b11_a_container_that_crashes_two_hundred_times_leaves_nothing_behind() {
    // Two hundred after a hundred to warm up.
    crate::restarts::leave_nothing_behind(&[100, 200, 300]);
}

#[test]
fn ten_pods_of_one_image_have_it_once() {
    crate::shared_image::is_there_once(10);
}

#[test]
fn a_clock_that_was_set_wrong_is_right_again_within_a_minute() {
    crate::guest::clock::is_right_again();
}

#[test]
fn a_start_fails_at_each_of_its_calls() {
    crate::failing::a_start_fails_at_each_call(1);
}

#[test]
fn a_start_and_a_deletion_are_cut_short_at_every_step() {
    crate::killed::a_start_is_cut_short(crate::killed::Killed::Command, 0, true);
    crate::killed::a_start_is_cut_short(crate::killed::Killed::Supervisor, 0, true);
    crate::killed::a_deletion_is_cut_short(0);
}
