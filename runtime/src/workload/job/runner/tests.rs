use super::super::plan::IndexFailures;
use super::*;
use crate::plan::ContainerKind;
use crate::spec::{self, GivenCondition};
use crate::store::status::{ContainerState, ContainerStatus, PodStatus, Termination};
use crate::workload::members;

const JOB: &str = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: sum}\nspec:\n  completionMode: Indexed\n  completions: 4\n  backoffLimitPerIndex: 1\n  podFailurePolicy:\n    rules:\n    - {action: FailJob, onExitCodes: {containerName: i, operator: In, values: [7]}}\n    - {action: FailIndex, onExitCodes: {operator: In, values: [42]}}\n    - {action: Ignore, onPodConditions: [{type: x/y}]}\n  template:\n    spec:\n      restartPolicy: Never\n      initContainers: [{name: i, image: b}]\n      containers: [{name: a, image: b}]\n";

fn job() -> (Kept, Workload) {
    let workload = spec::read("job.yaml", JOB).unwrap().workloads.remove(0);
    let kept = Kept {
        object: workload.object.clone(),
        uid: "u".into(),
        created: 0,
        generation: 1,
        revision: 1,
    };
    (kept, workload)
}

/// A pod of an index whose init container and container have ended, or not.
fn pod(index: u8, phase: Phase, codes: [Option<i32>; 2]) -> PodView {
    let (kept, workload) = job();
    let of_index = Some(u32::from(index));
    let document = members::pod(&kept, &workload, of_index, IndexFailures::default()).unwrap();
    let one = |((name, kind), code): ((&str, ContainerKind), Option<i32>)| ContainerStatus {
        name: name.into(),
        kind,
        image: "b".into(),
        image_id: "sha256:b".into(),
        id: None,
        ready: false,
        started: false,
        state: match code {
            None => ContainerState::Running { started: 1 },
            Some(exit_code) => ContainerState::Terminated(Termination {
                exit_code,
                signal: None,
                reason: "Error".into(),
                message: None,
                started: Some(1),
                finished: 2,
                id: None,
            }),
        },
        last_termination: None,
        restarts: 0,
        resources: None,
        resizing: None,
        is_gone: false,
    };
    let kinds = [("i", ContainerKind::Init), ("a", ContainerKind::App)];
    PodView {
        uid: PodUid::from_random([index; 16]),
        name: format!("sum-{index}"),
        namespace: "default".into(),
        manifest: serde_json::to_value(&document.pod).unwrap(),
        spec: document.spec,
        plan: None,
        status: PodStatus {
            phase,
            finished: phase.is_end().then_some(5),
            containers: kinds.into_iter().zip(codes).map(one).collect(),
            ..PodStatus::default()
        },
    }
}

/// What is counted of these pods; those that are watched too and not there are gone.
fn counted(pods: &[PodView], watched: &mut Watched) -> JobState {
    let mut state = JobState::default();
    let rules = job().1.job.unwrap().failure_rules;
    count(&mut state, (pods, watched), &rules, 9);
    state
}

fn seen(index: u32, was_leaving: bool) -> Seen {
    Seen {
        index: Some(index),
        was_leaving,
    }
}

#[test]
fn each_pod_that_has_ended_is_judged_by_the_rules() {
    let mut given = pod(3, Phase::Failed, [Some(0), Some(1)]);
    let condition = GivenCondition {
        status: "True".into(),
        reason: None,
        message: None,
        since: 0,
    };
    given.spec.conditions.insert("x/y".into(), condition);
    let pods = [
        pod(0, Phase::Running, [Some(0), None]),
        pod(1, Phase::Failed, [Some(0), Some(42)]),
        pod(2, Phase::Failed, [Some(0), Some(7)]),
        given,
    ];
    let state = counted(&pods, &mut Watched::new());
    let told = |at: usize| state.ended.get(&pods[at].uid).map(|end| end.verdict);
    assert_eq!(told(0), None);
    assert_eq!(told(1), Some(Verdict::FailsIndex));
    // The rule about 7 is about the init container.
    assert_eq!(told(2), Some(Verdict::Counts));
    assert_eq!(told(3), Some(Verdict::Ignored));
    assert_eq!((state.failed(), &state.failed_by_rule), (2, &None));
    let state = counted(
        &[pod(1, Phase::Failed, [Some(7), None])],
        &mut Watched::new(),
    );
    let expected = "Container i for pod default/sum-1 failed with exit code 7 matching FailJob \
                    rule at index 0";
    assert_eq!(state.failed_by_rule.as_deref(), Some(expected));
}

#[test]
fn a_pod_that_is_gone_has_failed_unless_it_was_to_go() {
    let uid = |at: u8| PodUid::from_random([at; 16]);
    let there = pod(0, Phase::Running, [Some(0), None]);
    let mut watched = Watched::from([
        (there.uid.clone(), seen(0, false)),
        (uid(8), seen(1, false)),
        (uid(9), seen(2, true)),
    ]);
    let state = counted(std::slice::from_ref(&there), &mut watched);
    assert_eq!(watched.keys().collect::<Vec<_>>(), [&there.uid]);
    assert_eq!((state.failed(), state.ended[&uid(8)].index), (1, Some(1)));
    let mut leaving = there;
    leaving.status.deleted = Some(3);
    let active = active(&[leaving]);
    assert_eq!((active.len(), active[0].is_leaving), (1, true));
    assert!(staying(active).is_empty());
}

#[test]
fn a_pod_knows_how_often_its_index_was_tried() {
    let (kept, workload) = job();
    let failures = IndexFailures {
        counted: 1,
        ignored: 2,
        ..IndexFailures::default()
    };
    let pod = members::pod(&kept, &workload, Some(2), failures).unwrap();
    let annotation = |name: &str| {
        let key = format!("batch.kubernetes.io/job-index-{name}failure-count");
        pod.spec.annotations.get(&key).cloned()
    };
    assert_eq!(annotation(""), Some("1".into()));
    assert_eq!(annotation("ignored-"), Some("2".into()));
}
