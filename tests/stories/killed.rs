//! SIGKILL at the steps of a start and of a deletion: what was begun is finished or
//! undone, and nothing of it is left over. The gate takes some of the steps,
//! `make soak` all of them.

use crate::lifecycle::one;
use beluga_tests::{Beluga, Doomed, Host, Steps, alone, eventually, say};

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
pub fn a_start_is_cut_short(killed: Killed, skipped: u32, is_whole: bool) {
    alone();
    let beluga = Beluga::with_busybox();
    let (doomed, before) = (Doomed::of(&beluga), Host::now(&beluga));
    let manifest = beluga.root().join("pod.yaml");
    std::fs::write(&manifest, one("half", "Never", "sleep 600")).expect("root is writable");
    let start = ["run", "-d", "-f", &manifest.to_string_lossy()];
    let (mut steps, mut missed) = (Steps::new(skipped), Vec::new());
    loop {
        let (ran, step) = match killed {
            Killed::Command => doomed.command(&mut steps, &start),
            Killed::Supervisor => doomed.start(&mut steps, &start),
        };
        // It has left the namespace that it has made for the VMM, which is there then.
        let is_last = step.is_none() || (!is_whole && doomed.came_to("setns("));
        let when = format!("this was not made: {step:?}\n{ran}");
        is_finished_or_undone(&beluga, &before, &when);
        missed.extend(step);
        if is_last {
            say(&format!("killed {} times: {missed:#?}", missed.len()));
            assert!(missed.len() > 5, "too few steps: {when}");
            return;
        }
    }
}

/// Nothing is left but what can be deleted, and then nothing at all.
pub fn is_finished_or_undone(beluga: &Beluga, before: &Host, when: &str) {
    // A supervisor whose command was killed may be about to end itself.
    eventually(when, || {
        beluga.run(["gc"]).ok();
        (beluga.run(["gc", "--check"]).code == 0).then_some(())
    });
    let pods = beluga.run(["get", "pods", "-o", "name"]).ok().out;
    if !pods.is_empty() {
        let delete = beluga.run(["delete", "pod", "half", "--grace-period", "0"]);
        assert_eq!(delete.code, 0, "{when}\n{pods}\n{delete}");
    }
    before.is_as_before(beluga, when);
}

/// Deletes a pod whose supervisor is killed in the middle, and then those that go on
/// with what is begun, each some steps later than the one before.
pub fn a_deletion_is_cut_short(skipped: u32) {
    alone();
    let beluga = Beluga::with_busybox();
    let (doomed, before) = (Doomed::of(&beluga), Host::now(&beluga));
    let pod = beluga.pod(&one("half", "Never", "sleep 600"));
    let [_, supervisor] = pod.processes();
    // Once the record has it that the pod is to be deleted.
    let delete = ["delete", "pod", "half", "--grace-period", "0"];
    let is_gone = || Host::pods(&beluga).is_empty();
    let mut missed = vec![doomed.doom(supervisor, Steps::new(0).after(1), &delete)];
    let mut steps = Steps::new(skipped);
    while !is_gone() {
        missed.push(doomed.adopt(&mut steps, is_gone));
    }
    assert!(missed.len() > 3 && missed[0].is_some(), "{missed:#?}");
    beluga.is_clean();
    before.is_as_before(&beluga, &format!("these were not made: {missed:#?}"));
    say(&format!(
        "deleted by {} supervisors: {missed:#?}",
        missed.len()
    ));
    std::mem::forget(pod);
}

#[test]
fn b04_a_supervisor_killed_at_any_step_before_its_machine_leaves_nothing() {
    a_start_is_cut_short(Killed::Supervisor, 2, false);
}

#[test]
fn b04_a_command_killed_at_any_step_of_a_start_leaves_nothing() {
    a_start_is_cut_short(Killed::Command, 2, true);
}

#[test]
fn b04_a_deletion_goes_on_whenever_its_supervisor_is_killed() {
    a_deletion_is_cut_short(2);
}
