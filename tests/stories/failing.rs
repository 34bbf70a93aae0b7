//! A start one of whose system calls fails: what went wrong is told, and nothing of the
//! pod is left over. There is no program to run a machine, so that no start gets further
//! than the last step before it, and each one is undone. The gate takes some of the
//! calls, `make soak` all of them.

use crate::killed::is_finished_or_undone;
use crate::lifecycle::one;
use beluga_tests::failing::each_call;
use beluga_tests::{Beluga, Host, alone, say};

/// Starts a pod again and again, each time another call fails: one in `stride`.
pub fn a_start_fails_at_each_call(stride: usize) {
    alone();
    let beluga = Beluga::with_busybox();
    let before = Host::now(&beluga);
    let manifest = beluga.root().join("pod.yaml");
    std::fs::write(&manifest, one("half", "Never", "sleep 600")).expect("root is writable");
    let command = || {
        let mut command = beluga.command(["run", "-d", "-f", &manifest.to_string_lossy()]);
        command.env("BELUGA_VMM", "/bin/false");
        ((), command)
    };
    let failed = each_call(stride, command, |(), failed| {
        failed.is_told();
        let when = format!("{failed:?}");
        assert_ne!(failed.ran.code, 0, "{when}");
        is_finished_or_undone(&beluga, &before, &when);
    });
    say(&format!("{failed} calls of a start failed"));
    assert!(failed * stride > 100, "{failed} are too few");
}

#[test]
fn b04_a_start_whose_calls_fail_is_told_and_leaves_nothing() {
    a_start_fails_at_each_call(32);
}
