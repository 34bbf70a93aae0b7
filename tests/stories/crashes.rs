//! Deaths: of the VMM, of the supervisor, of the guest. Every end has a cause,
//! and nothing is left over.

use crate::lifecycle::one;
use beluga_tests::{Beluga, Pod, eventually, run};
use std::process::Command;
use std::time::{Duration, Instant};

/// Kills the pod's VMM, whose PID its record has.
fn kill_vmm(beluga: &Beluga, pod: &Pod) {
    let path = beluga
        .root()
        .join("pods")
        .join(pod.field("/metadata/uid"))
        .join("record.json");
    let record = std::fs::read_to_string(path).expect("the pod has a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("a record is JSON");
    let pid = record["vmm"]["pid"].to_string();
    run(
        Command::new("kill").args(["-KILL", &pid]),
        Duration::from_secs(10),
    )
    .ok();
}

/// Kills the pod's supervisor.
fn kill_supervisor(pod: &Pod) {
    let pattern = format!("supervise.*{}", pod.field("/metadata/uid"));
    run(
        Command::new("pkill").args(["-KILL", "-f", &pattern]),
        Duration::from_secs(10),
    )
    .ok();
}

#[test]
fn b05_a_killed_vmm_fails_the_pod_within_a_second_and_leaves_nothing() {
    let beluga = Beluga::with_busybox();
    let pod = beluga.pod(&one("killed-vmm", "Always", "sleep 600"));
    kill_vmm(&beluga, &pod);
    let start = Instant::now();
    pod.eventually("failed", |status| status["phase"] == "Failed");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
    let status = pod.object()["status"].clone();
    assert!(
        status.to_string().contains("VMM") || status.to_string().contains("Vmm"),
        "{status:#}"
    );
    pod.delete();
    beluga.is_clean();
}

#[test]
fn b04_a_killed_supervisor_is_replaced_and_no_log_line_is_lost() {
    let beluga = Beluga::with_busybox();
    let line = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; sleep 0.05; done; exit 4";
    let pod = beluga.pod(&one("adopted", "Never", line));
    let ip = pod.ip();
    kill_supervisor(&pod);
    assert_eq!(pod.ip(), ip);
    pod.eventually("ended", |status| status["phase"] == "Failed");
    assert_eq!(pod.container("main")["state"]["terminated"]["exitCode"], 4);
    let expected: String = (1..=200).map(|n| format!("line {n}\n")).collect();
    assert_eq!(pod.logs("main"), expected);
    pod.delete();
    beluga.is_clean();
}

#[test]
fn b04_a_supervisor_killed_in_the_middle_of_a_start_leaks_nothing() {
    let beluga = Beluga::with_busybox();
    let mut start = beluga
        .command(["run", "-d", "-f", "-"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("beluga");
    std::io::Write::write_all(
        &mut start.stdin.take().expect("piped"),
        one("half", "Never", "sleep 600").as_bytes(),
    )
    .expect("manifest");
    // Other stories run beside this one: only a supervisor of this root dies.
    let pattern = format!("beluga supervise .*{}", beluga.root().display());
    eventually("a supervisor", || {
        run(
            Command::new("pkill").args(["-KILL", "-f", &pattern]),
            Duration::from_secs(5),
        )
        .code
        .eq(&0)
        .then_some(())
    });
    start.wait().expect("ended");
    beluga.run(["get", "pods"]).ok();
    beluga
        .run(["delete", "pod", "half", "--ignore-not-found"])
        .ok();
    beluga.is_clean();
}

/// A boot with another kernel or initramfs must fail and say where.
fn boot_fails(variable: &str, content: &[u8], manifest: &str) -> beluga_tests::Ran {
    let beluga = Beluga::with_busybox();
    let file = beluga.root().join("broken");
    std::fs::write(&file, content).expect("root is writable");
    let mut command = beluga.command(["run", "-f", "-"]);
    command.env(variable, &file);
    let ran = beluga_tests::run_with_input(
        &mut command,
        manifest.as_bytes().to_vec(),
        Duration::from_secs(120),
    );
    assert!(ran.code != 0 && ran.code != 124, "{ran}");
    beluga.run(["delete", "pod", "--all"]).ok();
    beluga.is_clean();
    ran
}

#[test]
fn an_initramfs_that_is_none_is_named() {
    boot_fails(
        "BELUGA_INITRAMFS",
        b"this is no archive",
        &one("bad-initramfs", "Never", "true"),
    )
    .complains("initramfs");
}

#[test]
fn a_kernel_that_is_none_is_named() {
    boot_fails(
        "BELUGA_KERNEL",
        &[0x7f; 8192],
        &one("bad-kernel", "Never", "true"),
    )
    .complains("kernel");
}

#[test]
fn a_guest_kernel_that_panics_shows_its_console() {
    // An archive without /init: the kernel finds no program to run.
    let empty = b"07070100000000000000000000000000000000000000010000000000000000000000000000000000000000000000000000000b00000000TRAILER!!!\0\0\0\0";
    boot_fails("BELUGA_INITRAMFS", empty, &one("panics", "Never", "true"))
        .complains("Kernel panic");
}
