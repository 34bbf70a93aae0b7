//! A VMM that does nothing, or gets no CPU: what is told of its boot. No machine is
//! made: a script stands for the VMM.

use crate::lifecycle::one;
use beluga_tests::{Beluga, Ran, eventually, run, run_with_input};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What comes of a pod whose VMM is a script, to which something is done once it
/// runs, after five seconds of patience.
fn boot_hangs(script: &str, meanwhile: fn(&Path), manifest: &str) -> Ran {
    let beluga = Beluga::with_busybox();
    // A story waits for its turn when it first runs something: the patience of who looks
    // for the VMM does not begin before.
    beluga.run(["version"]).ok();
    let vmm = beluga.root().join("vmm");
    std::fs::write(&vmm, format!("#!/bin/sh\n{script}\n")).expect("root is writable");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&vmm, executable).expect("it is ours");
    let mut command = beluga.command(["run", "-f", "-"]);
    command
        .env("BELUGA_VMM", &vmm)
        .env("BELUGA_BOOT_TIMEOUT", "5");
    let input = manifest.as_bytes().to_vec();
    let ran = std::thread::scope(|scope| {
        scope.spawn(|| meanwhile(&vmm));
        run_with_input(&mut command, input, Duration::from_secs(120))
    });
    assert!(ran.code != 0 && ran.code != 124, "{ran}");
    beluga.run(["delete", "pod", "--all"]).ok();
    beluga.is_clean();
    ran
}

/// Stops it from outside: in its own PID namespace it cannot be.
fn stop(vmm: &Path) {
    eventually("it runs", || {
        let mut stop = Command::new("pkill");
        stop.args(["-STOP", "-f"]).arg(vmm);
        (run(&mut stop, Duration::from_secs(5)).code == 0).then_some(())
    });
}

#[test]
fn a_vmm_that_is_stopped_in_its_boot_is_named() {
    boot_hangs(
        "while :; do sleep 1; done",
        stop,
        &one("stopped", "Never", "true"),
    )
    .complains("hangs while booting (5 s): its VMM, process ")
    .complains(", is stopped")
    .complains("somebody has stopped it (SIGSTOP");
}

/// Leaves it a hundredth of a CPU.
fn starve(vmm: &Path) {
    let group = "/sys/fs/cgroup$(sed s/0::// /proc/$(pgrep -o -f \"$0\")/cgroup)";
    let line = format!("echo 1000 100000 > {group}/cpu.max");
    eventually("it runs", || {
        let mut starve = Command::new("sh");
        starve.args(["-c", &line]).arg(vmm);
        (run(&mut starve, Duration::from_secs(5)).code == 0).then_some(())
    });
}

#[test]
fn a_vmm_without_a_cpu_in_its_boot_is_told_from_one_that_hangs() {
    let manifest = one("starved", "Never", "true");
    boot_hangs("while :; do :; done", starve, &manifest)
        .complains("hangs while booting (5 s): its VMM, process ")
        .complains(" s for a CPU")
        .complains("a larger resources.limits.cpu");
}
