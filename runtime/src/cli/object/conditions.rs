//! A pod's conditions in the kubelet's words (`pkg/kubelet/status/generate.go`).

use super::rfc3339;
use crate::engine::PodView;
use crate::plan::ContainerKind;
use crate::store::status::{ContainerStatus, Phase};
use serde_json::{Value, json};

/// All of them: the four of every pod, those that others have given it, and that
/// of a change of resources.
pub fn of(pod: &PodView) -> Vec<Value> {
    let own = pod.conditions().map(|(kind, holds)| {
        let word = if holds { "True" } else { "False" };
        let mut out = json!({
            "type": kind, "status": word, "lastProbeTime": null,
            "lastTransitionTime": rfc3339(pod.transition(kind)),
        });
        let (reason, message) = why(pod, kind, holds);
        tell(&mut out, reason, message.as_deref());
        out
    });
    let all = own.into_iter().chain(given(pod));
    all.chain(resizing(pod)).collect()
}

fn tell(condition: &mut Value, reason: Option<&str>, message: Option<&str>) {
    for (key, text) in [("reason", reason), ("message", message)] {
        if let Some(text) = text {
            condition[key] = json!(text);
        }
    }
}

/// Why a condition holds or does not, where that needs a reason.
fn why(pod: &PodView, kind: &str, holds: bool) -> (Option<&'static str>, Option<String>) {
    let phase = pod.status.phase;
    let none = (None, None);
    match (kind, holds) {
        ("Initialized", true) if phase == Phase::Succeeded => (Some("PodCompleted"), None),
        ("Initialized", false) => {
            let is_incomplete = |one: &ContainerStatus| match one.kind {
                ContainerKind::Init => !one.ready,
                ContainerKind::Sidecar => !one.started,
                ContainerKind::App | ContainerKind::Ephemeral => false,
            };
            named(pod, "ContainersNotInitialized", "incomplete", is_incomplete)
        }
        ("ContainersReady" | "Ready", false) if phase == Phase::Succeeded => {
            (Some("PodCompleted"), None)
        }
        ("ContainersReady" | "Ready", false) if phase == Phase::Failed => (Some("PodFailed"), None),
        ("ContainersReady" | "Ready", false) => {
            let unready = named(pod, "ContainersNotReady", "unready", |one| {
                let lasts = matches!(one.kind, ContainerKind::App | ContainerKind::Sidecar);
                lasts && !one.is_gone && !one.ready
            });
            match gates(pod).filter(|_| kind == "Ready" && unready == none) {
                Some(missing) => (Some("ReadinessGatesNotReady"), Some(missing)),
                None => unready,
            }
        }
        _ => none,
    }
}

/// A reason that names containers, if there are any.
fn named(
    pod: &PodView,
    reason: &'static str,
    word: &str,
    is_one: impl Fn(&ContainerStatus) -> bool,
) -> (Option<&'static str>, Option<String>) {
    let all = pod.status.containers.iter().filter(|one| is_one(one));
    let names: Vec<&str> = all.map(|one| one.name.as_str()).collect();
    if names.is_empty() {
        return (None, None);
    }
    let message = format!("containers with {word} status: [{}]", names.join(" "));
    (Some(reason), Some(message))
}

/// Why a pod whose containers are ready is not.
fn gates(pod: &PodView) -> Option<String> {
    let why = pod
        .missing_gates()
        .map(|gate| match pod.spec.conditions.get(gate) {
            None => {
                format!("corresponding condition of pod readiness gate {gate:?} does not exist.")
            }
            Some(given) => format!(
                "the status of pod readiness gate {gate:?} is not \"True\", but {}",
                given.status
            ),
        });
    let why: Vec<String> = why.collect();
    (!why.is_empty()).then(|| why.join(", "))
}

/// The conditions that others have given the pod.
fn given(pod: &PodView) -> impl Iterator<Item = Value> {
    pod.spec.conditions.iter().map(|(kind, given)| {
        let mut out = json!({
            "type": kind, "status": given.status,
            "lastTransitionTime": rfc3339(given.since), "lastProbeTime": null,
        });
        tell(&mut out, given.reason.as_deref(), given.message.as_deref());
        out
    })
}

/// A change of resources that waits for memory.
fn resizing(pod: &PodView) -> Option<Value> {
    let mut all = pod.status.containers.iter();
    let why = all.find_map(|one| one.resizing.as_ref())?;
    Some(json!({
        "type": "PodResizeInProgress", "status": "True", "reason": "Error", "message": why,
        "lastTransitionTime": rfc3339(pod.transition("")), "lastProbeTime": null,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, GivenCondition};
    use crate::store::status::{ContainerState, PodStatus};
    use beluga_proto::PodUid;

    /// A pod of an init container and two app containers, which are ready or not.
    fn pod(phase: Phase, ready: [bool; 3]) -> PodView {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  readinessGates: [{conditionType: x/y}]\n  initContainers: [{name: i, image: b}]\n  containers: [{name: a, image: b}, {name: b, image: b}]\n";
        let document = spec::parse("pod.yaml", text).unwrap().remove(0);
        let kinds = [ContainerKind::Init, ContainerKind::App, ContainerKind::App];
        let containers = ["i", "a", "b"].iter().zip(kinds).zip(ready);
        PodView {
            uid: PodUid::from_random([1; 16]),
            name: "p".into(),
            namespace: "default".into(),
            manifest: serde_json::to_value(&document.pod).unwrap(),
            spec: document.spec,
            plan: None,
            status: PodStatus {
                phase,
                containers: containers
                    .map(|((name, kind), ready)| ContainerStatus {
                        name: (*name).into(),
                        kind,
                        image: "b".into(),
                        image_id: "sha256:b".into(),
                        id: None,
                        ready,
                        started: ready,
                        state: ContainerState::Waiting {
                            reason: "ContainerCreating".into(),
                            message: None,
                        },
                        last_termination: None,
                        restarts: 0,
                        resources: None,
                        resizing: None,
                        is_gone: false,
                    })
                    .collect(),
                ..PodStatus::default()
            },
        }
    }

    /// A condition's status, reason, message and time.
    fn told(pod: &PodView, kind: &str) -> [String; 4] {
        let all = of(pod);
        let one = all.iter().find(|one| one["type"] == kind).unwrap();
        ["status", "reason", "message", "lastTransitionTime"]
            .map(|field| one[field].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn reasons_are_the_kubelets() {
        use Phase::{Failed, Pending, Running, Succeeded};
        let gate = "corresponding condition of pod readiness gate \"x/y\" does not exist.";
        for (phase, ready, kind, status, reason, message) in [
            (
                Pending,
                [false; 3],
                "Initialized",
                "False",
                "ContainersNotInitialized",
                "containers with incomplete status: [i]",
            ),
            (
                Running,
                [true, false, false],
                "ContainersReady",
                "False",
                "ContainersNotReady",
                "containers with unready status: [a b]",
            ),
            (
                Running,
                [true, true, false],
                "Ready",
                "False",
                "ContainersNotReady",
                "containers with unready status: [b]",
            ),
            (
                Running,
                [true; 3],
                "Ready",
                "False",
                "ReadinessGatesNotReady",
                gate,
            ),
            (Running, [true; 3], "ContainersReady", "True", "", ""),
            (
                Succeeded,
                [true, false, false],
                "Ready",
                "False",
                "PodCompleted",
                "",
            ),
            (
                Succeeded,
                [true, false, false],
                "Initialized",
                "True",
                "PodCompleted",
                "",
            ),
            (
                Failed,
                [true, false, false],
                "ContainersReady",
                "False",
                "PodFailed",
                "",
            ),
        ] {
            let [is, why, what, _] = told(&pod(phase, ready), kind);
            assert_eq!(
                [is.as_str(), &why, &what],
                [status, reason, message],
                "{kind} {phase}"
            );
        }
    }

    #[test]
    fn a_condition_is_as_old_as_its_last_change() {
        let second = |at: u64| at * 1_000_000_000;
        let time = |pod: &PodView, kind: &str| told(pod, kind)[3].clone();
        let mut pod = pod(Phase::Running, [true, true, false]);
        assert_eq!(time(&pod, "Ready"), "1970-01-01T00:00:00Z");
        pod.status.keep_transitions(second(1));
        pod.status.keep_transitions(second(2));
        pod.status.containers[2].ready = true;
        pod.status.keep_transitions(second(3));
        pod.status.keep_transitions(second(4));
        assert_eq!(time(&pod, "Initialized"), "1970-01-01T00:00:01Z");
        assert_eq!(time(&pod, "ContainersReady"), "1970-01-01T00:00:03Z");
        // It never was: the gate's condition is not there.
        assert_eq!(time(&pod, "Ready"), "1970-01-01T00:00:00Z");
        for (status, since, shown) in [
            ("False", 2, "1970-01-01T00:00:02Z"),
            ("True", 2, "1970-01-01T00:00:03Z"),
            ("True", 5, "1970-01-01T00:00:05Z"),
            ("False", 6, "1970-01-01T00:00:06Z"),
        ] {
            let given = GivenCondition {
                status: status.into(),
                reason: None,
                message: None,
                since: second(since),
            };
            pod.spec.conditions.insert("x/y".into(), given);
            assert_eq!(time(&pod, "Ready"), shown, "{status} {since}");
        }
    }
}
