//! Probes and hooks, with a clock that only the test moves.

use super::ends::{bench, event};
use super::*;
use crate::spec::Hooks;
use beluga_proto::probe::{Handler, ProbeKind, ProbeSpec};

use HookKind::{PostStart, PreStop};
use ProbeKind::{Liveness, Readiness, Startup};

fn sleep() -> Option<Handler> {
    Some(Handler::Sleep { seconds: 1 })
}

fn probed(
    name: &str,
    kind: ContainerKind,
    restart: RestartPolicy,
    probes: &[ProbeKind],
) -> ContainerPlan {
    let mut plan = container(name, kind, restart);
    plan.template.probes = probes
        .iter()
        .map(|kind| ProbeSpec {
            kind: *kind,
            handler: Handler::Tcp {
                host: None,
                port: 80,
            },
            initial_delay_seconds: 0,
            period_seconds: 10,
            timeout_seconds: 1,
            success_threshold: 1,
            failure_threshold: 3,
        })
        .collect();
    plan
}

fn hooked(name: &str, post_start: bool, pre_stop: bool) -> ContainerPlan {
    let mut plan = container(name, App, Always);
    plan.hooks = Hooks {
        post_start: sleep().filter(|_| post_start),
        pre_stop: sleep().filter(|_| pre_stop),
    };
    plan
}

impl Bench {
    fn told(&mut self, name: &str, kind: ProbeKind, passed: Option<bool>) -> Vec<String> {
        let id = self.id(name);
        let is_bad = passed != Some(true);
        let news = ProbeNews {
            kind,
            passed,
            failures: u32::from(is_bad),
            message: "failed: no".into(),
        };
        self.give(Input::Probed { id, news })
    }

    fn hook_ended(&mut self, name: &str, hook: HookKind, failed: bool) -> Vec<String> {
        let id = self.id(name);
        self.give(Input::HookEnded { id, hook, failed })
    }

    fn shown(&self, name: &str) -> (bool, bool) {
        let found = self.state.status.containers.iter().find(|c| c.name == name);
        let found = found.unwrap();
        (found.started, found.ready)
    }

    fn holds(&self, condition: &str) -> bool {
        let all = self.state.status.conditions();
        all.iter().any(|(name, holds)| *name == condition && *holds)
    }
}

#[test]
fn readiness_moves_the_conditions_and_nothing_else() {
    let mut pod = bench(&plan(vec![probed("a", App, Always, &[Readiness])]));
    pod.give(Input::Ready);
    pod.started("a");
    assert_eq!((pod.shown("a"), pod.holds("Ready")), ((true, false), false));
    assert!(pod.told("a", Readiness, Some(true)).is_empty());
    assert_eq!((pod.shown("a"), pod.holds("Ready")), ((true, true), true));
    assert!(pod.told("a", Readiness, Some(false)).is_empty());
    assert_eq!(
        (pod.shown("a"), pod.holds("ContainersReady")),
        ((true, false), false)
    );
    assert_eq!(
        event(&pod, "Unhealthy").as_deref(),
        Some("Readiness probe failed: no")
    );
}

#[test]
fn a_failed_liveness_probe_ends_the_run_within_its_grace_and_restarts_it() {
    for (policy, killing) in [
        (
            OnFailure,
            "Container a failed liveness probe, will be restarted",
        ),
        (Never, "Container a failed liveness probe"),
    ] {
        let mut one = probed("a", App, policy, &[Liveness]);
        one.liveness_grace_seconds = Some(5);
        let mut pod = bench(&plan(vec![one, container("b", App, policy)]));
        pod.give(Input::Ready);
        pod.started("a");
        pod.started("b");
        assert!(pod.told("a", Liveness, None).is_empty());
        assert_eq!(pod.told("a", Liveness, Some(false)), ["signal a 15"]);
        assert_eq!(event(&pod, "Killing").as_deref(), Some(killing));
        assert_eq!(pod.state.wake_at(), Some(5 * SECOND));
        pod.time = 5 * SECOND;
        assert_eq!(pod.give(Input::Tick), ["signal a 9"]);
        assert_eq!(pod.state.wake_at(), None, "once is enough");
        // However it ends: it was ended to be started again.
        let again: &[&str] = if policy == Never {
            &[]
        } else {
            &["remove", "start a"]
        };
        assert_eq!(pod.exited("a", 0), again);
    }
}

#[test]
fn startup_stands_before_started_and_ready() {
    let mut pod = bench(&plan(vec![probed("a", App, Always, &[Startup, Readiness])]));
    pod.give(Input::Ready);
    pod.started("a");
    assert_eq!(pod.shown("a"), (false, false));
    pod.told("a", Startup, Some(true));
    assert_eq!(pod.shown("a"), (true, false));
    pod.told("a", Readiness, Some(true));
    assert_eq!(pod.shown("a"), (true, true));
    // The next run begins anew.
    assert_eq!(pod.exited("a", 1), ["remove", "start a"]);
    pod.started("a");
    assert_eq!(pod.shown("a"), (false, false));
    assert_eq!(pod.told("a", Startup, Some(false)), ["signal a 15"]);
    let killing = event(&pod, "Killing");
    assert_eq!(
        killing.as_deref(),
        Some("Container a failed startup probe, will be restarted")
    );
}

#[test]
fn a_sidecar_s_startup_probe_holds_the_next_one_back() {
    let mut pod = bench(&plan(vec![
        probed("s", Sidecar, Always, &[Startup, Readiness]),
        container("i", Init, OnFailure),
        container("a", App, Always),
    ]));
    pod.give(Input::Ready);
    assert!(pod.started("s").is_empty());
    assert_eq!(pod.told("s", Startup, Some(true)), ["start i"]);
    pod.started("i");
    assert_eq!(pod.exited("i", 0), ["start a"]);
    pod.started("a");
    assert!(pod.holds("Initialized") && !pod.holds("Ready"));
    pod.told("s", Readiness, Some(true));
    assert!(pod.holds("Ready"));
}

#[test]
fn news_of_a_probe_may_come_before_the_start_s_own() {
    let mut pod = bench(&plan(vec![probed("a", App, Always, &[Readiness])]));
    pod.give(Input::Ready);
    pod.told("a", Readiness, Some(true));
    assert_eq!(pod.shown("a"), (true, true));
    pod.started("a");
    assert_eq!(pod.shown("a"), (true, true));
}

#[test]
fn nobody_sees_a_container_run_before_its_start_hook_has_ended() {
    let mut pod = bench(&plan(vec![hooked("a", true, false)]));
    pod.give(Input::Ready);
    assert_eq!(pod.started("a"), ["hook a PostStart"]);
    assert_eq!(
        (pod.phase(), pod.shown("a")),
        (Phase::Pending, (false, false))
    );
    assert!(pod.hook_ended("a", PostStart, false).is_empty());
    assert_eq!(
        (pod.phase(), pod.shown("a")),
        (Phase::Running, (true, true))
    );
}

#[test]
fn a_failed_start_hook_ends_the_run() {
    let mut pod = bench(&plan(vec![hooked("a", true, true)]));
    pod.give(Input::Ready);
    pod.started("a");
    assert_eq!(pod.hook_ended("a", PostStart, true), ["hook a PreStop"]);
    assert_eq!(
        (event(&pod, "FailedPostStartHook"), event(&pod, "Killing")),
        (
            Some("PostStartHook failed".into()),
            Some("FailedPostStartHook".into())
        )
    );
    assert_eq!(pod.hook_ended("a", PreStop, true), ["signal a 15"]);
    assert_eq!(
        event(&pod, "FailedPreStopHook").as_deref(),
        Some("PreStopHook failed")
    );
    assert_eq!(pod.exited("a", 143), ["remove", "start a"]);
}

#[test]
fn stop_signals_wait_for_their_hooks_and_hooks_for_nobody() {
    let mut sidecar = hooked("s", false, true);
    (sidecar.kind, sidecar.restart) = (Sidecar, Always);
    let mut pod = bench(&plan(vec![
        sidecar,
        hooked("a", false, true),
        container("b", App, Always),
    ]));
    pod.give(Input::Ready);
    for name in ["s", "a", "b"] {
        pod.started(name);
    }
    let grace = Duration::from_secs(30);
    assert_eq!(
        pod.give(Input::Stop { grace }),
        ["hook s PreStop", "hook a PreStop", "signal b 15"]
    );
    let now = Now {
        boot: 10 * SECOND,
        unix: 0,
    };
    let open = pod.state.open_hooks(now);
    let left = Some(Duration::from_secs(20));
    assert_eq!(open[1], (pod.id("a"), PreStop, left));
    assert_eq!(pod.hook_ended("a", PreStop, false), ["signal a 15"]);
    assert!(
        pod.hook_ended("s", PreStop, false).is_empty(),
        "not its turn"
    );
    pod.exited("a", 0);
    assert_eq!(pod.exited("b", 0), ["signal s 15"]);
    assert_eq!(pod.exited("s", 0), ["end"]);
}

#[test]
fn a_hook_that_takes_the_whole_grace_period_leaves_two_seconds() {
    let mut pod = bench(&plan(vec![hooked("a", false, true)]));
    pod.give(Input::Ready);
    pod.started("a");
    let grace = Duration::from_secs(5);
    assert_eq!(pod.give(Input::Stop { grace }), ["hook a PreStop"]);
    pod.time = 5 * SECOND;
    assert_eq!(pod.give(Input::Tick), ["signal a 15"]);
    assert_eq!(pod.state.wake_at(), Some(7 * SECOND));
    pod.time = 7 * SECOND;
    assert_eq!(pod.give(Input::Tick), ["signal a 9"]);
}

#[test]
fn without_a_grace_period_there_is_no_hook() {
    let mut pod = bench(&plan(vec![hooked("a", false, true)]));
    pod.give(Input::Ready);
    pod.started("a");
    let grace = Duration::ZERO;
    assert_eq!(pod.give(Input::Stop { grace }), ["signal a 9"]);
}

#[test]
fn a_stop_in_the_middle_of_a_start_hook_ends_the_run() {
    let mut pod = bench(&plan(vec![hooked("a", true, false)]));
    pod.give(Input::Ready);
    pod.started("a");
    let grace = Duration::from_secs(5);
    assert_eq!(pod.give(Input::Stop { grace }), ["signal a 15"]);
    assert!(pod.hook_ended("a", PostStart, true).is_empty());
    assert_eq!(pod.exited("a", 143), ["end"]);
}
