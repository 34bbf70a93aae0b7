//! Containers that are replaced while their pod runs.

use super::super::super::container::Face;
use super::*;
use crate::store::status::ChangeState;

const PATIENCE: Duration = Duration::from_secs(60);

/// A pod of two that runs, with a readiness probe in `a` if so wanted.
fn running(probed: bool) -> Bench {
    let mut a = container("a", App, Always);
    if probed {
        a.template.probes.push(readiness());
    }
    let mut pod = Bench::new(vec![a, container("b", App, Always)]);
    pod.give(Input::Ready);
    pod.started("a");
    pod.started("b");
    pod.time = 100 * SECOND;
    pod
}

fn readiness() -> beluga_proto::probe::ProbeSpec {
    beluga_proto::probe::ProbeSpec {
        kind: beluga_proto::probe::ProbeKind::Readiness,
        handler: beluga_proto::probe::Handler::Sleep { seconds: 0 },
        initial_delay_seconds: 0,
        period_seconds: 1,
        timeout_seconds: 1,
        success_threshold: 1,
        failure_threshold: 1,
    }
}

/// What `a` is to be: of image `v2`, which wants another signal.
fn next(probed: bool) -> Face {
    let mut plan = container("a", App, Always);
    plan.image = "v2".into();
    plan.stop_signal = 3;
    if probed {
        plan.template.probes.push(readiness());
    }
    Face::new(&plan)
}

impl Bench {
    fn replace(&mut self, probed: bool) -> Vec<String> {
        self.give(Input::Replace {
            generation: 7,
            next: vec![(0, next(probed))],
            patience: PATIENCE,
        })
    }

    fn image(&self) -> &str {
        &self.state.status.containers[0].image
    }

    fn change(&self) -> (ChangeState, Option<&str>) {
        let change = self.state.status.change.as_ref().unwrap();
        assert_eq!(change.generation, 7);
        (change.state, change.message.as_deref())
    }

    fn reasons(&self) -> Vec<&str> {
        let events = self.state.status.events.iter();
        events.map(|event| event.reason.as_str()).collect()
    }
}

#[test]
fn one_container_is_replaced_and_its_peer_is_left_alone() {
    let mut pod = running(false);
    let peer = pod.state.status.containers[1].clone();
    assert_eq!(pod.replace(false), ["signal a 15"]);
    assert_eq!(pod.image(), "busybox");
    assert_eq!(pod.exited("a", 0), ["remove", "start a"]);
    assert_eq!(pod.image(), "v2");
    pod.started("a");
    assert_eq!(pod.change(), (ChangeState::Progressing, None));
    // It must run for a moment.
    let moment = pod.state.wake_at().unwrap();
    assert_eq!(moment, pod.time + 3 * SECOND);
    pod.time = moment;
    assert_eq!(pod.give(Input::Tick), ["settle"]);
    assert_eq!(pod.change(), (ChangeState::Done, None));
    assert!(!pod.state.is_changing() && pod.state.wake_at().is_none());
    assert_eq!(pod.state.status.containers[1], peer);
    assert_eq!(pod.state.status.containers[0].restarts, 1);
    // The new one is ended with its own signal.
    let grace = Duration::from_secs(1);
    assert_eq!(
        pod.give(Input::Stop { grace }),
        ["signal a 3", "signal b 15"]
    );
}

#[test]
fn one_that_crashes_is_taken_back_at_once() {
    let mut pod = running(false);
    pod.replace(false);
    pod.exited("a", 0);
    pod.started("a");
    assert_eq!(pod.exited("a", 9), ["roll back", "remove", "start a"]);
    assert_eq!(pod.image(), "busybox");
    let why = "container a: it ended with exit code 9";
    assert_eq!(pod.change(), (ChangeState::RollingBack, Some(why)));
    pod.started("a");
    pod.time += 3 * SECOND;
    assert_eq!(pod.give(Input::Tick), ["settle"]);
    assert_eq!(pod.change(), (ChangeState::RolledBack, Some(why)));
    for reason in ["Killing", "RolloutFailed", "RolledBack"] {
        assert!(pod.reasons().contains(&reason), "{reason}");
    }
}

#[test]
fn one_that_does_not_become_ready_is_taken_back_in_time() {
    let mut pod = running(true);
    pod.replace(true);
    pod.exited("a", 143);
    pod.started("a");
    assert_eq!(pod.state.wake_at(), Some(pod.time + 60 * SECOND));
    pod.time += 60 * SECOND;
    assert_eq!(pod.give(Input::Tick), ["roll back", "signal a 3"]);
    assert_eq!(pod.exited("a", 143), ["remove", "start a"]);
    pod.started("a");
    let id = pod.id("a");
    let news = ProbeNews {
        kind: beluga_proto::probe::ProbeKind::Readiness,
        passed: Some(true),
        failures: 0,
        message: String::new(),
    };
    assert_eq!(pod.give(Input::Probed { id, news }), ["settle"]);
    let why = "container a was not ready within 60 s";
    assert_eq!(pod.change(), (ChangeState::RolledBack, Some(why)));
}

#[test]
fn one_that_cannot_be_started_is_taken_back() {
    let mut pod = running(false);
    pod.replace(false);
    pod.exited("a", 0);
    let id = pod.id("a");
    let failed = Input::StartFailed {
        id,
        exit_code: 127,
        message: "no such command".into(),
    };
    assert_eq!(pod.give(failed), ["roll back", "remove", "start a"]);
    assert!(pod.change().1.unwrap().ends_with("no such command"));
}

#[test]
fn one_that_waits_for_its_back_off_is_replaced_at_once() {
    let mut pod = running(false);
    for _ in 0..2 {
        pod.exited("a", 1);
        pod.started("a");
    }
    pod.exited("a", 1);
    assert!(pod.state.wake_at().unwrap() > pod.time);
    assert_eq!(pod.replace(false), ["remove", "start a"]);
    assert_eq!(pod.image(), "v2");
}

#[test]
fn the_pods_end_ends_a_change() {
    let mut pod = running(false);
    pod.replace(false);
    let grace = Duration::from_secs(1);
    assert!(
        pod.give(Input::Stop { grace })
            .contains(&"settle".to_owned())
    );
    assert_eq!(pod.change().0, ChangeState::RolledBack);
    assert!(!pod.state.is_changing());
}

#[test]
fn a_change_survives_its_supervisor() {
    let mut pod = running(false);
    pod.replace(false);
    let text = serde_json::to_string(&pod.state).unwrap();
    pod.state = serde_json::from_str(&text).unwrap();
    assert_eq!(pod.exited("a", 0), ["remove", "start a"]);
    assert_eq!(pod.image(), "v2");
}
