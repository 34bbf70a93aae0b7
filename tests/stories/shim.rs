//! containerd runs containers in microVMs: Debian's containerd, its `ctr`, and the
//! built shim.

mod cri;
mod uses;

use beluga_tests::containerd::{Containerd, RUNTIME, Release};
use beluga_tests::eventually;

/// Runs until it is told to end, which it does at once.
const WAITS: &str = "trap 'exit 9' TERM; while :; do sleep 1 & wait; done";

#[test]
fn ctr_runs_a_container_to_its_end_and_leaves_nothing() {
    let containerd = Containerd::start(Release::Bookworm, "");
    let line = "echo out; echo err >&2; touch /x && ls /; exit 37";
    let ran = containerd.run(&["--rm"], "ends", line).exits(37);
    assert!(
        ran.out.starts_with("out\n") && ran.out.contains("\nx\n"),
        "{ran}"
    );
    ran.complains("err");
    let refused = containerd.run(&["--net-host"], "refused", "true");
    refused.exits(1).complains("hostNetwork is not supported");
    eventually("the shims have gone", || {
        containerd.shims().is_empty().then_some(())
    });
    containerd.is_clean();
}

#[test]
fn containerd_2_is_told_what_the_runtime_can_do() {
    let containerd = Containerd::start(Release::Forky, "");
    let asked = ["plugins", "inspect-runtime", "--runtime", RUNTIME];
    let told = containerd.ctr(&asked).ok();
    told.tells(&["\"Version\"", "\"mountOptions\"", "\"rro\""]);
}

#[test]
fn a_task_is_asked_things_while_it_runs() {
    let containerd = Containerd::start(Release::Bookworm, "");
    containerd.run(&["-d"], "waits", WAITS).ok();
    containerd.until("waits", "RUNNING");
    commands_run_in_it(&containerd);
    let ctr = |line: &str| containerd.ctr(&line.split(' ').collect::<Vec<_>>());
    let metrics = ctr("task metrics waits").ok();
    metrics.tells(&["memory.usage", "pids.current"]);
    pause_and_resume(&containerd);
    ctr("task kill -s TERM waits").ok();
    containerd.until("waits", "STOPPED");
    ctr("task delete waits").complains("exit code 9");
    containerd.is_clean();
    ctr("container delete waits").ok();
}

fn pause_and_resume(containerd: &Containerd) {
    let task = |words: &[&str]| containerd.ctr(&[&["task"], words].concat());
    task(&["pause", "waits"]).ok();
    containerd.until("waits", "PAUSED");
    let refused = task(&["exec", "--exec-id", "three", "waits", "true"]).exits(1);
    refused.complains("cannot exec in a paused container");
    task(&["resume", "waits"]).ok();
    containerd.until("waits", "RUNNING");
}

fn commands_run_in_it(containerd: &Containerd) {
    let exec = ["task", "exec", "--exec-id"];
    let line = ["one", "waits", "/bin/sh", "-c", "echo in it; exit 5"];
    let ran = containerd.ctr(&[&exec[..], &line].concat()).exits(5);
    ran.says("in it");
    let cat = [&exec[..], &["two", "waits", "cat"]].concat();
    let ran = containerd.feed(&cat, b"back and forth\n").ok();
    ran.says("back and forth");
}
