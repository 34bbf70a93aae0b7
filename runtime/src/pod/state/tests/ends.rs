//! Ends: by a deadline, with a last message, by rules of restart.

use super::*;
use crate::spec::RestartRule;

pub(super) fn bench(plan: &Plan) -> Bench {
    Bench {
        state: PodState::new(plan, Now { boot: 0, unix: 0 }),
        time: 0,
        backoff: Backoff::default(),
        log: Vec::new(),
    }
}

pub(super) fn event(pod: &Bench, reason: &str) -> Option<String> {
    let events = pod.state.status.events.iter();
    events
        .rev()
        .find(|event| event.reason == reason)
        .map(|event| event.message.clone())
}

#[test]
fn a_pod_fails_at_its_deadline_however_its_containers_end() {
    let mut plan = plan(vec![container("a", App, Always)]);
    plan.active_deadline_seconds = Some(5);
    let mut pod = bench(&plan);
    pod.time = SECOND;
    pod.give(Input::Ready);
    pod.started("a");
    assert_eq!(pod.state.wake_at(), Some(6 * SECOND));
    pod.time = 6 * SECOND;
    assert_eq!(pod.give(Input::Tick), ["signal a 15"]);
    assert_eq!(
        event(&pod, "DeadlineExceeded").as_deref(),
        Some("Pod was active on the node longer than the specified deadline")
    );
    assert_eq!(pod.exited("a", 0), ["end"]);
    assert_eq!(pod.phase(), Phase::Failed);
    assert_eq!(pod.state.status.reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn a_deadline_ends_init_containers_as_well() {
    let mut plan = plan(vec![
        container("i", Init, OnFailure),
        container("a", App, Always),
    ]);
    plan.active_deadline_seconds = Some(1);
    let mut pod = bench(&plan);
    pod.give(Input::Ready);
    pod.started("i");
    pod.time = SECOND;
    assert_eq!(pod.give(Input::Tick), ["signal i 15"]);
    assert_eq!(pod.exited("i", 143), ["end"]);
    assert_eq!(pod.phase(), Phase::Failed);
}

#[test]
fn last_messages_are_kept_and_share_twelve_kibibytes() {
    for (count, most) in [(1, 4096), (3, 4096), (4, 3072)] {
        let names = ["a", "b", "c", "d"];
        let containers = names[..count].iter();
        let containers = containers.map(|name| container(name, App, Never)).collect();
        let mut pod = bench(&plan(containers));
        pod.give(Input::Ready);
        pod.started("a");
        let exit = ProcessExit {
            code: 1,
            signal: None,
            oom_killed: false,
            unix_nanos: 0,
        };
        let (id, message) = (pod.id("a"), Some("ä".repeat(4096)));
        pod.give(Input::Exited { id, exit, message });
        let ContainerState::Terminated(end) = &pod.state.status.containers[0].state else {
            panic!("a is not terminated");
        };
        assert_eq!(end.message.as_ref().map(String::len), Some(most));
        let told = event(&pod, "Error");
        assert_eq!(told.as_deref(), Some("Container a exited with 1"));
    }
}

#[test]
fn rules_stand_before_the_policy() {
    let again = |codes: &[i32], negated, code| {
        let mut one = container("a", App, Never);
        one.restart_rules = vec![RestartRule {
            exit_codes: codes.to_vec(),
            negated,
        }];
        let mut pod = bench(&plan(vec![one]));
        pod.give(Input::Ready);
        pod.started("a");
        pod.exited("a", code) == ["remove", "start a"]
    };
    assert!(again(&[42, 43], false, 42) && !again(&[42, 43], false, 1));
    assert!(!again(&[42], true, 42) && again(&[42], true, 0));
}
