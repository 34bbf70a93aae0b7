//! Tests of the state machine: what goes in, what comes out, no processes.

use super::*;

mod bench;
mod ends;
mod ephemeral;
mod life;
mod rollout;
mod sandbox;

use crate::spec::RestartPolicy;
use bench::{Bench, container, plan};

const SIGTERM: i32 = 15;
const SECOND: u64 = 1_000_000_000;

use ContainerKind::{App, Init, Sidecar};
use RestartPolicy::{Always, Never, OnFailure};

#[test]
fn one_container_runs_to_its_end_and_its_code_is_the_pods() {
    for (code, phase) in [(0, Phase::Succeeded), (37, Phase::Failed)] {
        let mut pod = Bench::new(vec![container("a", App, Never)]);
        assert_eq!(pod.give(Input::Ready), ["start a"]);
        assert_eq!(pod.phase(), Phase::Pending);
        pod.started("a");
        assert_eq!(pod.phase(), Phase::Running);
        assert_eq!(pod.exited("a", code), ["end"]);
        assert_eq!(pod.phase(), phase);
        assert_eq!(pod.state.status.exit_code(), Some(code));
    }
}

#[test]
fn init_containers_run_one_after_another_then_the_apps_together() {
    let mut pod = Bench::new(vec![
        container("i1", Init, OnFailure),
        container("side", Sidecar, Always),
        container("i2", Init, OnFailure),
        container("a", App, Always),
        container("b", App, Always),
    ]);
    assert_eq!(pod.give(Input::Ready), ["start i1"]);
    assert!(pod.started("i1").is_empty());
    assert_eq!(pod.exited("i1", 0), ["start side"]);
    assert_eq!(pod.started("side"), ["start i2"]);
    pod.started("i2");
    assert_eq!(pod.phase(), Phase::Pending);
    assert_eq!(pod.exited("i2", 0), ["start a", "start b"]);
}

#[test]
fn a_failing_init_container_blocks_by_its_policy() {
    let mut pod = Bench::new(vec![
        container("i", Init, Never),
        container("a", App, Never),
    ]);
    pod.give(Input::Ready);
    pod.started("i");
    assert_eq!(pod.exited("i", 3), ["end"]);
    assert_eq!(pod.phase(), Phase::Failed);
    assert_eq!(pod.state.status.exit_code(), Some(3));

    let mut pod = Bench::new(vec![
        container("i", Init, OnFailure),
        container("a", App, Always),
    ]);
    pod.give(Input::Ready);
    pod.started("i");
    assert_eq!(pod.exited("i", 3), ["remove", "start i"]);
    pod.started("i");
    assert!(pod.exited("i", 3).is_empty());
    assert_eq!(pod.state.wake_at(), Some(10 * SECOND));
    pod.time = 10 * SECOND;
    assert_eq!(pod.give(Input::Tick), ["remove", "start i"]);
}

#[test]
fn policies_decide_about_exit_0_and_1() {
    let again = |policy, code| {
        let mut pod = Bench::new(vec![container("a", App, policy)]);
        pod.give(Input::Ready);
        pod.started("a");
        pod.exited("a", code);
        pod.phase() == Phase::Running
    };
    assert!(again(Always, 0) && again(Always, 1));
    assert!(!again(OnFailure, 0) && again(OnFailure, 1));
    assert!(!again(Never, 0) && !again(Never, 1));
}

#[test]
fn back_off_doubles_and_starts_again_after_a_long_run() {
    let mut pod = Bench::new(vec![container("a", App, Always)]);
    pod.give(Input::Ready);
    pod.started("a");
    // The first restart waits for nothing.
    assert_eq!(pod.exited("a", 1), ["remove", "start a"]);
    let mut waits = Vec::new();
    for _ in 0..7 {
        pod.started("a");
        pod.exited("a", 1);
        let until = pod.state.wake_at().unwrap();
        waits.push((until - pod.time) / SECOND);
        pod.time = until;
        assert_eq!(pod.give(Input::Tick), ["remove", "start a"]);
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(pod.state.status.containers[0].restarts, 8);
    pod.started("a");
    pod.time += 600 * SECOND;
    assert_eq!(pod.exited("a", 1), ["remove", "start a"]);
    pod.started("a");
    pod.exited("a", 1);
    assert_eq!(pod.state.wake_at(), Some(pod.time + 10 * SECOND));
}

#[test]
fn stopping_signals_apps_together_and_sidecars_last_in_reverse() {
    let mut pod = Bench::new(vec![
        container("s1", Sidecar, Always),
        container("s2", Sidecar, Always),
        container("a", App, Always),
        container("b", App, Always),
    ]);
    pod.give(Input::Ready);
    for name in ["s1", "s2", "a", "b"] {
        pod.started(name);
    }
    let grace = Duration::from_secs(30);
    assert_eq!(
        pod.give(Input::Stop { grace }),
        ["signal a 15", "signal b 15"]
    );
    assert!(pod.exited("a", 0).is_empty());
    assert_eq!(pod.exited("b", 0), ["signal s2 15"]);
    assert_eq!(pod.exited("s2", 143), ["signal s1 15"]);
    assert_eq!(pod.exited("s1", 143), ["end"]);
    assert_eq!(pod.phase(), Phase::Succeeded);
    assert_eq!(pod.state.status.reason.as_deref(), Some("Stopped"));
}

#[test]
fn what_outlives_the_grace_is_killed_and_what_outlives_that_is_left_behind() {
    let mut pod = Bench::new(vec![
        container("a", App, Always),
        container("b", App, Always),
    ]);
    pod.give(Input::Ready);
    pod.started("a");
    pod.started("b");
    let grace = Duration::from_secs(2);
    pod.give(Input::Stop { grace });
    pod.time = 2 * SECOND;
    assert_eq!(pod.give(Input::Tick), ["signal a 9", "signal b 9"]);
    assert!(pod.exited("a", 137).is_empty());
    pod.time = pod.state.wake_at().unwrap();
    assert_eq!(pod.give(Input::Tick), ["end"]);
    assert_eq!(pod.phase(), Phase::Failed);
}

#[test]
fn a_second_request_may_shorten_the_grace_but_not_lengthen_it() {
    let mut pod = Bench::new(vec![container("a", App, Always)]);
    pod.give(Input::Ready);
    pod.started("a");
    for (seconds, kill_at) in [(30, 30), (60, 30), (1, 1)] {
        let grace = Duration::from_secs(seconds);
        pod.give(Input::Stop { grace });
        assert_eq!(pod.state.wake_at(), Some(kill_at * SECOND));
    }
}

#[test]
fn a_container_that_is_still_starting_is_signalled_when_it_has() {
    let mut pod = Bench::new(vec![container("a", App, Always)]);
    pod.give(Input::Ready);
    let grace = Duration::from_secs(30);
    assert!(pod.give(Input::Stop { grace }).is_empty());
    assert_eq!(pod.started("a"), ["signal a 15"]);
}

#[test]
fn sidecars_are_stopped_when_the_apps_have_ended_for_good() {
    let mut pod = Bench::new(vec![
        container("s", Sidecar, Always),
        container("a", App, OnFailure),
    ]);
    pod.give(Input::Ready);
    pod.started("s");
    pod.started("a");
    assert_eq!(pod.exited("a", 0), ["signal s 15"]);
    assert_eq!(pod.exited("s", 143), ["end"]);
    assert_eq!(
        pod.phase(),
        Phase::Succeeded,
        "a sidecar's end says nothing"
    );
    assert_eq!(pod.state.status.reason, None, "nobody has stopped it");
}

#[test]
fn a_dead_vm_fails_every_container_and_never_succeeds() {
    let mut pod = Bench::new(vec![
        container("a", App, Never),
        container("b", App, Always),
    ]);
    pod.give(Input::Ready);
    pod.started("a");
    pod.exited("a", 0);
    pod.started("b");
    pod.give(Input::VmEnded {
        reason: "VmmKilled".into(),
        message: "killed".into(),
    });
    assert_eq!(pod.phase(), Phase::Failed);
    let ContainerState::Terminated(end) = &pod.state.status.containers[1].state else {
        panic!("b is not terminated");
    };
    assert_eq!(end.exit_code, 137);
    assert_eq!(pod.state.status.reason.as_deref(), Some("VmmKilled"));
}

#[test]
fn a_vm_that_ends_before_its_containers_ran_ends_them_too() {
    let mut pod = Bench::new(vec![container("a", App, Always)]);
    pod.give(Input::VmEnded {
        reason: "CannotBoot".into(),
        message: "no init".into(),
    });
    let ContainerState::Terminated(end) = &pod.state.status.containers[0].state else {
        panic!("a is not terminated");
    };
    assert_eq!(
        (end.reason.as_str(), end.started),
        (crate::store::status::UNKNOWN, None)
    );
}

#[test]
fn a_command_that_cannot_be_started_counts_as_a_failure() {
    let mut pod = Bench::new(vec![container("a", App, Never)]);
    pod.give(Input::Ready);
    let id = pod.id("a");
    let end = pod.give(Input::StartFailed {
        id,
        exit_code: 127,
        message: "no such command".into(),
    });
    assert_eq!(end, ["end"]);
    assert_eq!(pod.state.status.exit_code(), Some(127));
}

#[test]
fn reports_of_unknown_or_ended_runs_change_nothing() {
    let mut pod = Bench::new(vec![container("a", App, Always)]);
    pod.give(Input::Ready);
    pod.started("a");
    let before = pod.state.clone();
    let id = ContainerId::from_random([9; 16]);
    let exit = ProcessExit {
        code: 0,
        signal: None,
        oom_killed: false,
        unix_nanos: 0,
    };
    assert!(
        pod.give(Input::Exited {
            id: id.clone(),
            exit,
            message: None,
        })
        .is_empty()
    );
    assert!(pod.give(Input::Started { id }).is_empty());
    assert_eq!(pod.state, before);
}

#[test]
fn the_state_goes_on_from_the_record() {
    let mut pod = Bench::new(vec![
        container("i", Init, OnFailure),
        container("a", App, Always),
    ]);
    pod.give(Input::Ready);
    pod.started("i");
    let text = serde_json::to_string(&pod.state).unwrap();
    pod.state = serde_json::from_str(&text).unwrap();
    assert_eq!(pod.exited("i", 0), ["start a"]);
}
