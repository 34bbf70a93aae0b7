//! Containers that come to a pod while it runs.

use super::*;

fn looker() -> Input {
    Input::Add {
        containers: vec![container("look", ContainerKind::Ephemeral, Never)],
    }
}

fn running() -> Bench {
    let mut pod = Bench::new(vec![container("a", App, Always)]);
    pod.give(Input::Ready);
    pod.started("a");
    pod
}

fn ready(pod: &Bench) -> bool {
    pod.state.status.conditions().contains(&("Ready", true))
}

#[test]
fn it_is_started_when_its_image_is_there_and_never_again() {
    let mut pod = running();
    assert!(pod.give(looker()).is_empty());
    assert_eq!(pod.give(Input::Release { failure: None }), ["start look"]);
    pod.started("look");
    let status = pod.state.status.containers[1].clone();
    assert!(matches!(status.state, ContainerState::Running { .. }));
    assert!(
        !status.ready && ready(&pod),
        "the pod's readiness is its own"
    );
    assert!(pod.exited("look", 3).is_empty());
    assert!(ready(&pod) && pod.phase() == Phase::Running);
    pod.time += 3600 * SECOND;
    assert!(pod.give(Input::Tick).is_empty());
}

#[test]
fn it_can_look_at_a_pod_whose_init_container_hangs() {
    let mut pod = Bench::new(vec![
        container("init", Init, Always),
        container("a", App, Always),
    ]);
    pod.give(Input::Ready);
    pod.started("init");
    pod.give(looker());
    assert_eq!(pod.give(Input::Release { failure: None }), ["start look"]);
    pod.started("look");
    assert_eq!(pod.exited("init", 0), ["start a"]);
}

#[test]
fn one_without_an_image_has_failed_and_nothing_else_has() {
    let mut pod = running();
    pod.give(looker());
    let failure = Some("no such layer".to_owned());
    assert!(pod.give(Input::Release { failure }).is_empty());
    let state = &pod.state.status.containers[1].state;
    let ContainerState::Terminated(end) = state else {
        panic!("{state:?}");
    };
    assert_eq!((end.exit_code, end.reason.as_str()), (128, "StartError"));
    assert!(ready(&pod));
}

#[test]
fn it_does_not_keep_a_pod_alive_and_has_no_say_in_how_it_ended() {
    let mut pod = Bench::new(vec![container("a", App, Never)]);
    pod.give(Input::Ready);
    pod.started("a");
    pod.give(looker());
    pod.give(Input::Release { failure: None });
    pod.started("look");
    assert_eq!(pod.exited("a", 0), ["signal look 15"]);
    assert_eq!(pod.exited("look", 143), ["end"]);
    assert_eq!(pod.phase(), Phase::Succeeded);
    assert_eq!(pod.state.status.exit_code(), Some(0));
}
