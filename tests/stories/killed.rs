//! SIGKILL at the steps of a start and of a deletion: what was begun is finished or
//! undone, and nothing of it is left over. The gate takes some of the steps,
//! `make soak` all of them.

use crate::lifecycle::one;
use beluga_tests::{Beluga, Doomed, Host, alone, say};

/// Who is killed in a start.
#[derive(Clone, Copy)]
pub enum Killed {
    /// The command that starts a pod.
    Command,
    /// The pod's supervisor.
    Supervisor,
}

/// Starts a pod again and again, each time killed some steps later: until once it has
/// a machine, or, of all of them, until there is nothing left to kill.
pub fn a_start_is_cut_short(killed: Killed, stride: usize, is_whole: bool) {
    alone();
    let beluga = Beluga::with_busybox();
    let (doomed, before) = (Doomed::of(&beluga), Host::now(&beluga));
    let manifest = beluga.root().join("pod.yaml");
    std::fs::write(&manifest, one("half", "Never", "sleep 600")).expect("root is writable");
    for at in (1..).step_by(stride) {
        let start = ["run", "-d", "-f", &manifest.to_string_lossy()];
        let (ran, step) = match killed {
            Killed::Command => doomed.command(at, &start),
            Killed::Supervisor => doomed.start(at, &start),
        };
        // It has left the namespace that it has made for the VMM, which is there then.
        let has_machine = doomed.came_to("setns(");
        let is_last = step.is_none() || (!is_whole && has_machine);
        let when = format!("step {at} was {step:?}\n{ran}");
        is_finished_or_undone(&beluga, &before, &when);
        if is_last {
            say(&format!(
                "killed at {at} steps at most, by {stride}: {step:?}"
            ));
            assert!(at > 10, "too few steps: {when}");
            return;
        }
    }
}

/// Nothing is left but what can be deleted, and then nothing at all.
fn is_finished_or_undone(beluga: &Beluga, before: &Host, when: &str) {
    let told = beluga.run(["gc"]);
    assert_eq!(told.code, 0, "{when}\n{told}");
    let check = beluga.run(["gc", "--check"]);
    assert_eq!(check.code, 0, "{when}\n{told}\n{check}");
    let pods = beluga.run(["get", "pods", "-o", "name"]).ok().out;
    if !pods.is_empty() {
        let delete = beluga.run(["delete", "pod", "half", "--grace-period", "0"]);
        assert_eq!(delete.code, 0, "{when}\n{pods}\n{delete}");
    }
    before.is_as_before(beluga, when);
}

/// Deletes a pod whose supervisor is killed in the middle, and then those that go on
/// with what is begun, each some steps later than the one before.
pub fn a_deletion_is_cut_short(stride: usize) {
    alone();
    let beluga = Beluga::with_busybox();
    let (doomed, before) = (Doomed::of(&beluga), Host::now(&beluga));
    let pod = beluga.pod(&one("half", "Never", "sleep 600"));
    let [_, supervisor] = pod.processes();
    // Once the record has it that the pod is to be deleted.
    let delete = ["delete", "pod", "half", "--grace-period", "0"];
    let mut steps = vec![doomed.doom(supervisor, 6, &delete)];
    let is_gone = || Host::pods(&beluga).is_empty();
    for at in (1..).step_by(stride) {
        steps.push(doomed.adopt(at, is_gone));
        if is_gone() {
            break;
        }
    }
    assert!(steps.len() > 3 && steps[0].is_some(), "{steps:#?}");
    beluga.is_clean();
    before.is_as_before(&beluga, &format!("these were not made: {steps:#?}"));
    say(&format!(
        "deleted by {} supervisors: {steps:#?}",
        steps.len()
    ));
    std::mem::forget(pod);
}

#[test]
fn b04_a_supervisor_killed_at_any_step_before_its_machine_leaves_nothing() {
    a_start_is_cut_short(Killed::Supervisor, 5, false);
}

#[test]
fn b04_a_command_killed_at_any_step_of_a_start_leaves_nothing() {
    a_start_is_cut_short(Killed::Command, 5, true);
}

#[test]
fn b04_a_deletion_goes_on_whenever_its_supervisor_is_killed() {
    a_deletion_is_cut_short(5);
}
