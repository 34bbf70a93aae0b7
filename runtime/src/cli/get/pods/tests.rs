use super::*;
use crate::cli::{object, yaml};
use crate::spec;
use crate::store::status::{Phase, PodStatus, Termination, VmEnd};
use beluga_proto::PodUid;

fn ended(code: i32, reason: &str) -> ContainerState {
    ContainerState::Terminated(Termination {
        exit_code: code,
        signal: None,
        reason: reason.into(),
        message: None,
        started: Some(1_700_000_000_000_000_000),
        finished: 1_700_000_001_000_000_000,
        id: None,
    })
}

fn waiting(reason: &str) -> ContainerState {
    ContainerState::Waiting {
        reason: reason.into(),
        message: None,
    }
}

fn running() -> ContainerState {
    ContainerState::Running {
        started: 1_700_000_000_000_000_000,
    }
}

/// A pod of an init container and two app containers.
fn pod(phase: Phase, states: [ContainerState; 3]) -> PodView {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  initContainers: [{name: i, image: b}]\n  containers: [{name: x, image: b}, {name: y, image: b}]\n";
    let document = spec::parse("pod.yaml", text).unwrap().remove(0);
    let kinds = [ContainerKind::Init, ContainerKind::App, ContainerKind::App];
    let containers = ["i", "x", "y"].iter().zip(kinds).zip(states);
    PodView {
        uid: PodUid::from_random([1; 16]),
        name: "p".into(),
        namespace: "default".into(),
        manifest: serde_json::to_value(&document.pod).unwrap(),
        spec: document.spec,
        plan: None,
        status: PodStatus {
            phase,
            ips: vec!["10.0.0.2".parse().unwrap()],
            containers: containers
                .map(|((name, kind), state)| ContainerStatus {
                    name: (*name).into(),
                    kind,
                    image: "b".into(),
                    image_id: "sha256:b".into(),
                    id: None,
                    ready: matches!(state, ContainerState::Running { .. }),
                    started: false,
                    state,
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

#[test]
fn the_status_column_is_the_one_of_kubectl() {
    use Phase::{Failed, Pending, Running, Succeeded};
    let good = || ended(0, "Completed");
    for (phase, states, shown) in [
        (
            Pending,
            [
                waiting("PodInitializing"),
                waiting("PodInitializing"),
                waiting("PodInitializing"),
            ],
            "Init:0/1",
        ),
        (
            Pending,
            [
                waiting("CrashLoopBackOff"),
                waiting("PodInitializing"),
                waiting("PodInitializing"),
            ],
            "Init:CrashLoopBackOff",
        ),
        (
            Failed,
            [
                ended(1, "Error"),
                waiting("PodInitializing"),
                waiting("PodInitializing"),
            ],
            "Init:Error",
        ),
        (
            Pending,
            [
                good(),
                waiting("ContainerCreating"),
                waiting("ContainerCreating"),
            ],
            "ContainerCreating",
        ),
        (Running, [good(), running(), running()], "Running"),
        (Running, [good(), good(), running()], "Running"),
        (
            Running,
            [good(), running(), waiting("CrashLoopBackOff")],
            "CrashLoopBackOff",
        ),
        (Succeeded, [good(), good(), good()], "Completed"),
        (
            Failed,
            [good(), ended(137, "OOMKilled"), good()],
            "OOMKilled",
        ),
    ] {
        assert_eq!(status(&pod(phase, states)), shown);
    }
    let mut leaving = pod(Running, [good(), running(), running()]);
    leaving.status.deleted = Some(1);
    assert_eq!(status(&leaving), "Terminating");
    assert_eq!(ready(&leaving), "2/2");
}

#[test]
fn a_pod_that_somebody_has_stopped_says_so_whatever_its_containers_were_at() {
    let good = || ended(0, "Completed");
    for states in [
        [good(), ended(143, "Error"), good()],
        [good(), good(), good()],
        [
            ended(137, "Error"),
            waiting("PodInitializing"),
            waiting("PodInitializing"),
        ],
    ] {
        let mut stopped = pod(Phase::Failed, states);
        stopped.status.deleted = Some(1);
        stopped.status.reason = Some("Stopped".into());
        assert_eq!(status(&stopped), "Stopped");
    }
}

#[test]
fn a_machine_that_ended_is_told_with_the_phase_and_a_kubelets_reason_as_it_is() {
    let mut pod = pod(
        Phase::Failed,
        [0, 137, 137].map(|code| ended(code, "Error")),
    );
    for (reason, shown) in [
        ("VmmKilled", "Failed:VmmKilled"),
        ("HostRestarted", "Failed:HostRestarted"),
        ("DeadlineExceeded", "DeadlineExceeded"),
    ] {
        pod.status.reason = Some(reason.into());
        pod.status.vm_end = Some(VmEnd {
            is_host_oom: false,
            cause: None,
            detail: "the VMM was ended by signal 9".into(),
            exit_code: None,
            signal: Some(9),
            last_stamp: None,
            reached: None,
            console: String::new(),
        });
        assert_eq!(status(&pod), shown);
    }
}

#[test]
fn the_object_is_a_pod_of_kubernetes_and_a_manifest_again() {
    let pod = pod(
        Phase::Running,
        [ended(0, "Completed"), running(), ended(1, "Error")],
    );
    let object = object::object(&pod);
    assert_eq!(object["status"]["podIP"], "10.0.0.2");
    assert_eq!(object["status"]["qosClass"], "BestEffort");
    let statuses = &object["status"]["containerStatuses"];
    assert_eq!(statuses[1]["state"]["terminated"]["exitCode"], 1);
    let typed: k8s_openapi::api::core::v1::Pod = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(typed.status.unwrap().phase.as_deref(), Some("Running"));
    let again = spec::parse("pod.yaml", &yaml(&object).unwrap()).unwrap();
    assert_eq!(again[0].spec, pod.spec);
}
