//! Pods whose containers come and go one by one.

use super::*;

fn placed(pod: &mut Bench, at: usize, name: &str) {
    let containers = vec![(at, container(name, App, Never))];
    assert!(pod.give(Input::Place { containers }).is_empty());
    assert!(pod.give(Input::Release { failure: None }).is_empty());
}

fn running() -> Bench {
    let mut pod = Bench::sandbox();
    assert!(pod.give(Input::Ready).is_empty());
    placed(&mut pod, 0, "a");
    assert_eq!(pod.give(Input::Begin { index: 0 }), ["start a"]);
    pod.started("a");
    pod
}

fn end(seconds: u64) -> Input {
    Input::End {
        index: 0,
        grace: Duration::from_secs(seconds),
    }
}

#[test]
fn it_runs_without_containers_and_outlives_them_all() {
    let mut pod = Bench::sandbox();
    pod.give(Input::Ready);
    assert_eq!(pod.phase(), Phase::Running);
    let mut pod = running();
    assert!(pod.exited("a", 1).is_empty());
    pod.time += 3600 * SECOND;
    assert!(pod.give(Input::Tick).is_empty());
    assert_eq!(pod.phase(), Phase::Running);
    let grace = Duration::ZERO;
    assert_eq!(pod.give(Input::Stop { grace }), ["end"]);
}

#[test]
fn a_container_is_started_by_nobody_else_and_once() {
    let mut pod = Bench::sandbox();
    pod.give(Input::Ready);
    let containers = vec![(0, container("a", App, Never))];
    pod.give(Input::Place { containers });
    // Before its image is there.
    assert!(pod.give(Input::Begin { index: 0 }).is_empty());
    assert_eq!(pod.give(Input::Release { failure: None }), ["start a"]);
    assert!(!pod.state.is_waiting(0));
    pod.started("a");
    assert!(pod.give(Input::Begin { index: 0 }).is_empty());
    pod.exited("a", 0);
    assert!(pod.give(Input::Begin { index: 0 }).is_empty());
}

#[test]
fn an_end_is_asked_for_then_made_and_the_more_impatient_wins() {
    let mut pod = running();
    assert_eq!(pod.give(end(30)), ["signal a 15"]);
    assert!(pod.give(end(60)).is_empty());
    pod.time += 10 * SECOND;
    assert!(pod.give(Input::Tick).is_empty());
    assert!(pod.give(end(1)).is_empty());
    pod.time += 2 * SECOND;
    assert_eq!(pod.give(Input::Tick), ["signal a 9"]);
    pod.exited("a", 137);
    assert!(pod.give(end(1)).is_empty());
    let mut pod = running();
    assert_eq!(pod.give(end(0)), ["signal a 9"]);
    assert!(pod.give(end(0)).is_empty());
    pod.exited("a", 137);
    assert_eq!(pod.phase(), Phase::Running);
}

#[test]
fn the_place_of_one_that_was_removed_is_anothers() {
    let mut pod = running();
    assert!(pod.give(Input::Forget { index: 0 }).is_empty());
    assert!(!pod.state.is_free(0), "it runs");
    pod.exited("a", 0);
    assert_eq!(pod.give(Input::Forget { index: 0 }), ["remove"]);
    assert!(pod.state.is_free(0) && pod.state.is_free(1));
    placed(&mut pod, 0, "b");
    assert_eq!(pod.give(Input::Begin { index: 0 }), ["start b"]);
    assert_eq!(pod.state.status.containers.len(), 1);
    assert!(!pod.state.status.containers[0].is_gone);
}
