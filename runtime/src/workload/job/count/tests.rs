use super::super::plan::IndexFailures;
use super::*;
use crate::plan::ContainerKind;
use crate::spec::{self, GivenCondition, Workload};
use crate::store::status::{ContainerState, ContainerStatus, PodStatus, Termination};
use crate::workload::{Kept, members};

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
    count(&mut state, (pods, watched), &job().1.job.unwrap(), 9);
    state
}

/// The same job without rules about failures: a pod that is to go is replaced at once.
fn hasty() -> JobSpec {
    JobSpec {
        waits_for_end: false,
        failure_rules: Vec::new(),
        ..job().1.job.unwrap()
    }
}

fn seen(index: u32) -> Seen {
    Seen {
        of: "u".into(),
        index: Some(index),
        is_heard: true,
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
fn a_pod_that_is_gone_has_failed_unless_the_job_has_sent_it_away() {
    let uid = |at: u8| PodUid::from_random([at; 16]);
    let there = pod(0, Phase::Running, [Some(0), None]);
    let mut watched = Watched::from([
        (there.uid.clone(), seen(0)),
        (uid(8), seen(1)),
        (uid(9), seen(2)),
    ]);
    let mut state = JobState {
        sent_away: [uid(7), uid(9)].into(),
        ..JobState::default()
    };
    let pods = std::slice::from_ref(&there);
    count(&mut state, (pods, &mut watched), &hasty(), 9);
    assert_eq!(watched.keys().collect::<Vec<_>>(), [&there.uid]);
    assert_eq!((state.failed(), state.ended[&uid(8)].index), (1, Some(1)));
    assert!(state.sent_away.is_empty());
    let mut leaving = there;
    leaving.status.deleted = Some(3);
    let active = active(&[leaving]);
    assert_eq!((active.len(), active[0].is_leaving), (1, true));
    assert!(staying(active).is_empty());
}

/// As the job controller: what `isPodFailed` calls failed is a pod with a
/// deletionTimestamp whose phase is not Succeeded, or under Failed the phase alone.
#[test]
fn a_deletion_counts_when_it_begins_and_once() {
    let mut leaving = pod(0, Phase::Running, [Some(0), None]);
    leaving.status.deleted = Some(3);
    let told = |policy: &JobSpec, phase: Phase| {
        let mut state = JobState::default();
        let mut watched = Watched::from([(leaving.uid.clone(), seen(0))]);
        count(
            &mut state,
            (std::slice::from_ref(&leaving), &mut watched),
            policy,
            9,
        );
        let begun = (state.succeeded(), state.failed());
        let mut ended = pod(0, phase, [Some(0), Some(i32::from(phase == Phase::Failed))]);
        ended.status.deleted = Some(3);
        count(&mut state, (&[ended], &mut watched), policy, 9);
        let ended = (state.succeeded(), state.failed());
        count(&mut state, (&[], &mut watched), policy, 9);
        (begun, ended, (state.succeeded(), state.failed()))
    };
    let failed = ((0, 1), (0, 1), (0, 1));
    assert_eq!(told(&hasty(), Phase::Succeeded), failed);
    assert_eq!(told(&hasty(), Phase::Failed), failed);
    let waits = job().1.job.unwrap();
    assert_eq!(told(&waits, Phase::Succeeded), ((0, 0), (1, 0), (1, 0)));
    assert_eq!(told(&waits, Phase::Failed), ((0, 0), (0, 1), (0, 1)));
}

#[test]
fn what_the_job_sends_away_counts_for_nothing_however_it_ends() {
    let mut state = JobState::default();
    let mut sent = [
        pod(0, Phase::Running, [Some(0), None]),
        pod(1, Phase::Running, [Some(0), None]),
    ];
    state.sent_away = sent.iter().map(|pod| pod.uid.clone()).collect();
    sent[1].status.deleted = Some(3);
    // One was told, of the other nobody knows what the runner that was killed has done.
    assert_eq!(untold(&state, &sent), [sent[0].uid.clone()]);
    sent[0].status.deleted = Some(3);
    sent[0].status.phase = Phase::Failed;
    sent[1].status.phase = Phase::Succeeded;
    let text = serde_json::to_string(&state).unwrap();
    let mut state: JobState = serde_json::from_str(&text).unwrap();
    for policy in [hasty(), job().1.job.unwrap()] {
        count(&mut state, (&sent, &mut Watched::new()), &policy, 9);
        assert_eq!(
            (state.succeeded(), state.failed(), &state.failed_by_rule),
            (0, 0, &None)
        );
    }
    count(&mut state, (&[], &mut Watched::new()), &hasty(), 9);
    assert_eq!((state.failed(), state.sent_away.len()), (0, 0));
}

#[test]
fn a_pod_whose_supervisor_has_gone_is_heard_anew_and_stays_known() {
    let there = active(&[pod(0, Phase::Running, [Some(0), None])]);
    let mut watched = Watched::new();
    assert_eq!(unheard("u", &there, &mut watched).len(), 1);
    assert!(unheard("u", &there, &mut watched).is_empty());
    watched.get_mut(&there[0].uid).unwrap().is_heard = false;
    assert_eq!(unheard("u", &there, &mut watched), [there[0].uid.clone()]);
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
