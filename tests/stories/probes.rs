//! The life of containers as the kubelet has it: last messages, deadlines, stop
//! signals, restarts by rule.

use crate::lifecycle::one;
use beluga_tests::{eventually, shared};

/// A pod like [`one`] with more lines in its container.
fn with(name: &str, restart: &str, line: &str, more: &str) -> String {
    let more: String = more.lines().map(|line| format!("    {line}\n")).collect();
    one(name, restart, line) + &more
}

#[test]
fn b08_the_last_message_of_a_run_is_in_its_status() {
    let line = "echo out of memory > /dev/termination-log; exit 3";
    let pod = shared().pod(&one("b08-message", "Never", line));
    let end = pod.container("main")["state"]["terminated"].clone();
    assert_eq!(end["message"], "out of memory\n");
    let said = shared().run(["describe", "pod", "b08-message"]).ok();
    said.says("Message:").says("out of memory");
}

#[test]
fn b08_without_a_message_the_end_of_the_output_is_one() {
    let pod = shared().pod(&with(
        "b08-fallback",
        "Never",
        "for i in $(seq 100); do echo line $i; done; exit 1",
        "terminationMessagePath: /run/last\nterminationMessagePolicy: FallbackToLogsOnError\nsecurityContext: {readOnlyRootFilesystem: true, runAsUser: 1000}",
    ));
    let end = pod.container("main")["state"]["terminated"].clone();
    let message = end["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("line 21\n") && message.ends_with("line 100\n"),
        "{message}"
    );
}

#[test]
fn b08_a_pod_past_its_deadline_has_failed() {
    let manifest = one(
        "b08-deadline",
        "Always",
        "trap 'exit 0' TERM; while :; do sleep 0.2; done",
    );
    let pod = shared().pod(&manifest.replace("spec:\n", "spec:\n  activeDeadlineSeconds: 3\n"));
    pod.eventually("failed", |status| status["phase"] == "Failed");
    assert_eq!(pod.field("/status/reason"), "DeadlineExceeded");
    assert_eq!(pod.container("main")["restartCount"], 0);
}

#[test]
fn b08_the_manifest_names_the_stop_signal() {
    let manifest = with(
        "b08-signal",
        "Never",
        "trap 'echo usr1; exit 7' USR1; echo set; while :; do sleep 0.2; done",
        "lifecycle: {stopSignal: SIGUSR1}",
    );
    let pod = shared().pod(&manifest.replace("spec:\n", "spec:\n  os: {name: linux}\n"));
    eventually("the trap is set", || {
        (pod.logs("main") == "set\n").then_some(())
    });
    let mut follow = shared().command(["logs", "-f", "b08-signal"]);
    let follow = follow.stdout(std::process::Stdio::piped()).spawn();
    pod.delete();
    let said = follow.expect("beluga").wait_with_output().expect("ended");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "set\nusr1\n");
}

#[test]
fn b06_one_container_has_a_policy_of_its_own() {
    let pod = shared().pod(&with(
        "b06-own",
        "Never",
        "echo x >> /dev/shm/runs; test $(wc -l < /dev/shm/runs) -lt 3 && exit 42; exit 1",
        "restartPolicy: Never\nrestartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]",
    ));
    pod.eventually("failed", |status| status["phase"] == "Failed");
    let main = pod.container("main");
    assert_eq!(main["restartCount"], 2);
    assert_eq!(main["state"]["terminated"]["exitCode"], 1);
}
