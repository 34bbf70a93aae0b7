//! How a job counts the end of its pods: each once, and never again.
//!
//! ```text
//! Succeeded ───────────────────────────► succeeded
//! Failed ──────────────────────────────► failed, by the rules
//! its deletion begins ─ TerminatingOrFailed ─► failed: it is replaced from here on
//!                     └ Failed ──────────────► nothing yet: it is when it has ended
//! gone, and nobody saw how ────────────► failed
//! sent away by the job itself ─────────► nothing
//! ```

use super::failure::Failure;
use super::plan::{Active, JobState, PodEnd, Verdict};
use crate::engine::PodView;
use crate::spec::JobSpec;
use crate::store::status::Phase;
use crate::workload::members::COMPLETION_INDEX;
use beluga_proto::PodUid;
use std::collections::BTreeMap;

/// The pods that have been there, and what is to be known of them when they are gone.
pub type Watched = BTreeMap<PodUid, Seen>;

/// A pod that has been there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The UID of its job.
    pub of: String,
    /// Its number, in an indexed job.
    pub index: Option<u32>,
    /// Somebody hears what happens to it.
    pub is_heard: bool,
}

/// Notes how pods have ended, or are about to.
pub fn count(
    state: &mut JobState,
    (pods, watched): (&[PodView], &mut Watched),
    job: &JobSpec,
    now: u64,
) {
    for pod in pods {
        if pod.status.phase.is_end() {
            watched.remove(&pod.uid);
        }
        if state.ended.contains_key(&pod.uid) || state.sent_away.contains(&pod.uid) {
            continue;
        }
        if let Some(end) = end_of(state, pod, job, now) {
            state.ended.insert(pod.uid.clone(), end);
        }
    }
    let is_there = |uid: &PodUid| pods.iter().any(|pod| pod.uid == *uid);
    // Somebody has deleted them.
    let lost = watched.extract_if(.., |uid, _| !is_there(uid));
    for (uid, Seen { index, .. }) in lost.filter(|(uid, _)| !state.sent_away.contains(uid)) {
        state.ended.entry(uid).or_insert(PodEnd {
            succeeded: false,
            at: now,
            index,
            verdict: Verdict::Counts,
        });
    }
    // A UID is nobody else's, ever.
    state.sent_away.retain(is_there);
}

/// How a pod has ended that is not counted yet; `None` when it has not.
fn end_of(state: &mut JobState, pod: &PodView, job: &JobSpec, now: u64) -> Option<PodEnd> {
    let (at, verdict) = match pod.status.phase {
        Phase::Succeeded => (pod.status.finished, Verdict::Counts),
        Phase::Failed => {
            let (verdict, why) = Failure::of(pod).judge(&job.failure_rules);
            state.failed_by_rule = state.failed_by_rule.take().or(why);
            (pod.status.finished, verdict)
        }
        // With rules about failures it is waited for: see `spec.podReplacementPolicy`.
        _ if job.waits_for_end => return None,
        _ => (Some(pod.status.deleted?), Verdict::Counts),
    };
    Some(PodEnd {
        succeeded: pod.status.phase == Phase::Succeeded,
        at: at.unwrap_or(now),
        index: index(pod),
        verdict,
    })
}

fn index(pod: &PodView) -> Option<u32> {
    pod.spec.labels.get(COMPLETION_INDEX)?.parse().ok()
}

/// Those that have not ended.
pub fn active(pods: &[PodView]) -> Vec<Active> {
    let live = pods.iter().filter(|pod| !pod.status.phase.is_end());
    live.map(|pod| Active {
        uid: pod.uid.clone(),
        restarts: pod.status.containers.iter().map(|one| one.restarts).sum(),
        index: index(pod),
        is_leaving: pod.status.deleted.is_some(),
    })
    .collect()
}

/// Those whose end nobody has asked for.
pub fn staying(active: Vec<Active>) -> Vec<PodUid> {
    let staying = active.into_iter().filter(|one| !one.is_leaving);
    staying.map(|one| one.uid).collect()
}

/// Those that the job has sent away and that have not been told: its runner was killed
/// in between.
pub fn untold(state: &JobState, pods: &[PodView]) -> Vec<PodUid> {
    let is_untold =
        |pod: &&PodView| pod.status.deleted.is_none() && state.sent_away.contains(&pod.uid);
    let untold = pods.iter().filter(is_untold);
    untold.map(|pod| pod.uid.clone()).collect()
}

/// Those that nobody hears; they are heard from here on.
pub fn unheard(of: &str, active: &[Active], watched: &mut Watched) -> Vec<PodUid> {
    let is_heard = |one: &Active| watched.get(&one.uid).is_some_and(|seen| seen.is_heard);
    let fresh: Vec<&Active> = active.iter().filter(|one| !is_heard(one)).collect();
    for one in &fresh {
        let seen = Seen {
            of: of.to_owned(),
            index: one.index,
            is_heard: true,
        };
        watched.insert(one.uid.clone(), seen);
    }
    fresh.into_iter().map(|one| one.uid.clone()).collect()
}

#[cfg(test)]
mod tests;
