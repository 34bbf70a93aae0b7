//! How containers end, and what their pod says of it.

use beluga_tests::{Common, run, shared};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// Each container of it has ended in its own way.
static ENDS: Common = Common::new(9, || shared().pod(include_str!("../pods/ends.yaml")));

/// How one of them ended.
fn end(container: &str) -> Value {
    ENDS.pod().container(container)["state"]["terminated"].clone()
}

#[test]
fn b06_restart_policy_never_keeps_the_failure() {
    let pod = ENDS.pod();
    assert_eq!(pod.field("/status/phase"), "Failed");
    let fails = pod.container("fails");
    assert_eq!(fails["state"]["terminated"]["exitCode"], 1);
    assert_eq!(fails["restartCount"], 0);
}

#[test]
fn b09_exit_37_is_37() {
    let end = end("exits-37");
    assert_eq!(
        (&end["exitCode"], &end["reason"]),
        (&37.into(), &"Error".into())
    );
}

#[test]
fn b09_a_kill_is_137_and_orphans_are_reaped() {
    let pod = ENDS.pod();
    let said = pod.logs("killed");
    // Two shells and two commands at most: the orphan is gone two seconds after its end.
    let processes = said.lines().next().and_then(|line| line.parse().ok());
    assert!(matches!(processes, Some(3..=4)), "{said}");
    // The shell's `Killed` comes by the other stream, before the last line or after.
    let lines: Vec<&str> = said
        .lines()
        .skip(1)
        .filter(|line| *line != "Killed")
        .collect();
    assert_eq!(lines, ["inner 137"], "{said}");
}

#[test]
fn b08_the_last_message_of_a_run_is_in_its_status() {
    let end = end("message");
    assert_eq!(end["message"], "out of memory\n");
    let said = shared().run(["describe", "pod", "ends"]).ok();
    said.says("Message:").says("out of memory");
}

#[test]
fn b08_without_a_message_the_end_of_the_output_is_one() {
    let end = end("fallback");
    let message = end["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("line 21\n") && message.ends_with("line 100\n"),
        "{message}"
    );
}

#[test]
fn b06_one_container_has_a_policy_of_its_own() {
    let main = ENDS.pod().container("own-policy");
    assert_eq!(main["restartCount"], 2);
    assert_eq!(main["state"]["terminated"]["exitCode"], 1);
}

#[test]
fn b08_a_failed_start_hook_ends_the_container() {
    let pod = ENDS.pod();
    assert!(pod.container("start-hook")["state"]["terminated"].is_object());
    let said = shared().run(["describe", "pod", "ends"]).ok();
    said.says("FailedPostStartHook")
        .says("PostStartHook failed");
}

#[test]
fn b28_a_sub_path_never_leaves_the_volume() {
    let pod = ENDS.pod();
    let state = pod.container("leaves")["state"].to_string();
    assert!(state.contains("leads out of its volume"), "{state}");
    assert_eq!(pod.logs("leaves"), "");
}

/// The last lines of each container on a terminal, or what a variable makes of them.
fn on_a_terminal(variable: &str) -> String {
    let line = format!("{variable} beluga logs ends --all-containers --prefix --tail 1");
    let mut script = Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "xterm");
    let instance = [
        ("BELUGA_ROOT", shared().root()),
        ("BELUGA_STATE", shared().state()),
    ];
    run(script.envs(instance), Duration::from_secs(60)).ok().out
}

#[test]
fn each_container_has_a_colour_of_its_own_on_a_terminal_only() {
    let _pod = ENDS.pod();
    let shown = on_a_terminal("");
    // By their places in the pod: blue and cyan (ECMA-48, 8.3.117).
    for (colour, container) in [(34, "killed"), (36, "fallback")] {
        let prefix = format!("\u{1b}[{colour}m[pod/ends/{container}]\u{1b}[0m ");
        assert!(shown.contains(&prefix), "{container}: {shown:?}");
    }
    assert!(!on_a_terminal("NO_COLOR=1").contains('\u{1b}'));
    let piped = shared().run(["logs", "ends", "--all-containers", "--prefix"]);
    assert!(!piped.ok().says("[pod/ends/").out.contains('\u{1b}'));
}
