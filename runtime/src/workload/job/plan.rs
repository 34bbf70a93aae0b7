//! What a job does next. Pure: its pods and what has ended so far in, one step
//! out.
//!
//! ```text
//! running ─┬─ enough have succeeded ──────────► Complete
//!          ├─ more have failed than may ──────► Failed: BackoffLimitExceeded
//!          └─ its deadline has passed ────────► Failed: DeadlineExceeded
//! ```

use crate::settings::Backoff;
use crate::spec::JobSpec;
use beluga_proto::PodUid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is on record of a job beside its pods, which may be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    /// When it began, nanoseconds since 1970.
    pub started: Option<u64>,
    /// When it ended.
    pub finished: Option<u64>,
    /// How it ended.
    pub end: Option<JobEnd>,
    /// Pods that have ended: each counts once, and stays counted.
    pub ended: BTreeMap<PodUid, PodEnd>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// Whether it is complete.
    pub complete: bool,
    /// In one word.
    pub reason: String,
    /// In one sentence.
    pub message: String,
}

/// How one of its pods ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEnd {
    /// Whether it succeeded.
    pub succeeded: bool,
    /// When, nanoseconds since 1970.
    pub at: u64,
    /// Its number, in an indexed job.
    pub index: Option<u32>,
}

impl JobState {
    /// How many pods have succeeded: of an indexed job, how many indexes.
    #[must_use]
    pub fn succeeded(&self) -> u32 {
        let good = self.ended.values().filter(|end| end.succeeded);
        let indexes: BTreeSet<u32> = good.clone().filter_map(|end| end.index).collect();
        let without = good.filter(|end| end.index.is_none()).count();
        u32::try_from(indexes.len() + without).unwrap_or(u32::MAX)
    }

    /// How many pods have failed.
    #[must_use]
    pub fn failed(&self) -> u32 {
        let count = self.ended.values().filter(|end| !end.succeeded).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// A pod of the job that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// Which.
    pub uid: PodUid,
    /// How often its containers were restarted.
    pub restarts: u32,
    /// Its number, in an indexed job.
    pub index: Option<u32>,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStep {
    /// Pods are started: each with its index, or without.
    Start(Vec<Option<u32>>),
    /// Pods that are too many go.
    Delete(Vec<PodUid>),
    /// The job ends; what still runs goes.
    End(JobEnd),
    /// Until a pod ends or, where one is given, this time passes.
    Await(Option<Duration>),
}

/// The next step; `now` in nanoseconds since 1970.
#[must_use]
pub fn step(
    job: &JobSpec,
    state: &JobState,
    active: &[Active],
    (now, backoff): (u64, &Backoff),
) -> JobStep {
    if let Some(end) = end(job, state, active, now) {
        return JobStep::End(end);
    }
    let wanted = wanted(job, state, active);
    let deadline = deadline(job, state).map(|at| Duration::from_nanos(at.saturating_sub(now)));
    match active.len().cmp(&wanted) {
        std::cmp::Ordering::Equal => JobStep::Await(deadline),
        std::cmp::Ordering::Greater => {
            let surplus = active.iter().rev().take(active.len() - wanted);
            JobStep::Delete(surplus.map(|one| one.uid.clone()).collect())
        }
        std::cmp::Ordering::Less => {
            let wait = wait(state, now, backoff);
            if wait.is_zero() {
                JobStep::Start(fresh(job, state, active, wanted - active.len()))
            } else {
                JobStep::Await(Some(deadline.map_or(wait, |deadline| deadline.min(wait))))
            }
        }
    }
}

fn deadline(job: &JobSpec, state: &JobState) -> Option<u64> {
    if job.is_suspended {
        return None;
    }
    let nanos = job.deadline_seconds?.saturating_mul(1_000_000_000);
    Some(state.started?.saturating_add(nanos))
}

fn end(job: &JobSpec, state: &JobState, active: &[Active], now: u64) -> Option<JobEnd> {
    let end = |complete, reason: &str, message: &str| {
        Some(JobEnd {
            complete,
            reason: reason.to_owned(),
            message: message.to_owned(),
        })
    };
    let restarts: u32 = active.iter().map(|one| one.restarts).sum();
    // As the job controller: restarts count where no new pods are made.
    let restarted = !job.replaces_pods
        && if job.backoff_limit == 0 {
            restarts > 0
        } else {
            restarts >= job.backoff_limit
        };
    if state.failed() > job.backoff_limit || restarted {
        let message = "Job has reached the specified backoff limit";
        return end(false, "BackoffLimitExceeded", message);
    }
    if deadline(job, state).is_some_and(|at| at <= now) {
        let message = "Job was active longer than specified deadline";
        return end(false, "DeadlineExceeded", message);
    }
    let is_complete = match job.completions {
        Some(completions) => state.succeeded() >= completions,
        None => state.succeeded() > 0 && active.is_empty(),
    };
    let message = "Reached expected number of succeeded pods";
    is_complete.then(|| end(true, "CompletionsReached", message))?
}

/// How many pods shall run now.
fn wanted(job: &JobSpec, state: &JobState, active: &[Active]) -> usize {
    if job.is_suspended {
        return 0;
    }
    let count = match job.completions {
        Some(completions) => job
            .parallelism
            .min(completions.saturating_sub(state.succeeded())),
        // Nobody knows how much is left once one has found that nothing is.
        None if state.succeeded() > 0 => return active.len().min(job.parallelism as usize),
        None => job.parallelism,
    };
    count as usize
}

/// How long the next pod waits: longer with each failure, from the last one on.
fn wait(state: &JobState, now: u64, backoff: &Backoff) -> Duration {
    let last = state
        .ended
        .values()
        .filter(|end| !end.succeeded)
        .map(|end| end.at)
        .max();
    let Some(last) = last else {
        return Duration::ZERO;
    };
    // A success after it has shown that things go well again.
    let later = state
        .ended
        .values()
        .any(|end| end.succeeded && end.at > last);
    if later {
        return Duration::ZERO;
    }
    let since = Duration::from_nanos(now.saturating_sub(last));
    backoff
        .wait(state.failed().saturating_sub(1))
        .saturating_sub(since)
}

fn fresh(job: &JobSpec, state: &JobState, active: &[Active], count: usize) -> Vec<Option<u32>> {
    if !job.is_indexed {
        return vec![None; count];
    }
    let done = state
        .ended
        .values()
        .filter(|end| end.succeeded)
        .filter_map(|end| end.index);
    let taken: BTreeSet<u32> = done
        .chain(active.iter().filter_map(|one| one.index))
        .collect();
    let indexes = (0..job.completions.unwrap_or_default()).filter(|at| !taken.contains(at));
    indexes.take(count).map(Some).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn job(completions: Option<u32>, parallelism: u32) -> JobSpec {
        JobSpec {
            completions,
            parallelism,
            backoff_limit: 2,
            is_indexed: false,
            deadline_seconds: None,
            ttl_seconds: None,
            is_suspended: false,
            replaces_pods: true,
        }
    }

    fn uid(at: u8) -> PodUid {
        PodUid::from_random([at; 16])
    }

    fn active(count: u8) -> Vec<Active> {
        let one = |at| Active {
            uid: uid(at),
            restarts: 0,
            index: None,
        };
        (0..count).map(one).collect()
    }

    /// `s` succeeded, `f` failed, a second apart.
    fn state(ends: &str) -> JobState {
        let one = |(at, c): (u8, char)| {
            let end = PodEnd {
                succeeded: c == 's',
                at: u64::from(at) * SECOND,
                index: None,
            };
            (uid(100 + at), end)
        };
        JobState {
            started: Some(0),
            ended: (0u8..).zip(ends.chars()).map(one).collect(),
            ..JobState::default()
        }
    }

    fn next(job: &JobSpec, ends: &str, count: u8, seconds: u64) -> String {
        let backoff = Backoff::default();
        let step = step(
            job,
            &state(ends),
            &active(count),
            (seconds * SECOND, &backoff),
        );
        match step {
            JobStep::Start(which) => format!("start {}", which.len()),
            JobStep::Delete(which) => format!("delete {}", which.len()),
            JobStep::End(end) => end.reason,
            JobStep::Await(None) => "await".into(),
            JobStep::Await(Some(time)) => format!("await {}", time.as_secs()),
        }
    }

    #[test]
    fn a_job_runs_until_enough_have_succeeded() {
        let three = job(Some(3), 2);
        assert_eq!(next(&three, "", 0, 0), "start 2");
        assert_eq!(next(&three, "", 2, 0), "await");
        assert_eq!(next(&three, "s", 1, 0), "start 1");
        assert_eq!(next(&three, "ss", 1, 0), "await");
        assert_eq!(next(&three, "sss", 0, 0), "CompletionsReached");
        assert_eq!(next(&three, "ss", 2, 0), "delete 1");
        let queue = job(None, 2);
        assert_eq!(next(&queue, "", 0, 0), "start 2");
        assert_eq!(next(&queue, "s", 1, 0), "await");
        assert_eq!(next(&queue, "ss", 0, 0), "CompletionsReached");
    }

    #[test]
    fn failures_are_waited_after_and_counted() {
        let one = job(Some(1), 1);
        // 10 s after the first, 20 s after the second, which was at 1 s.
        assert_eq!(next(&one, "f", 0, 3), "await 7");
        assert_eq!(next(&one, "f", 0, 10), "start 1");
        assert_eq!(next(&one, "ff", 0, 11), "await 10");
        assert_eq!(next(&one, "fff", 0, 11), "BackoffLimitExceeded");
        assert_eq!(next(&job(Some(2), 1), "fs", 0, 1), "start 1");
    }

    #[test]
    fn restarts_count_where_pods_are_not_replaced() {
        let in_place = JobSpec {
            replaces_pods: false,
            ..job(Some(1), 1)
        };
        let mut pods = active(1);
        let backoff = Backoff::default();
        let mut told = |restarts| {
            pods[0].restarts = restarts;
            step(&in_place, &state(""), &pods, (0, &backoff))
        };
        assert_eq!(told(1), JobStep::Await(None));
        assert!(matches!(told(2), JobStep::End(end) if end.reason == "BackoffLimitExceeded"));
    }

    #[test]
    fn a_job_has_a_deadline_and_may_be_suspended() {
        let short = JobSpec {
            deadline_seconds: Some(60),
            ..job(Some(1), 1)
        };
        assert_eq!(next(&short, "", 1, 10), "await 50");
        assert_eq!(next(&short, "", 1, 60), "DeadlineExceeded");
        let suspended = JobSpec {
            is_suspended: true,
            ..short
        };
        assert_eq!(next(&suspended, "", 1, 90), "delete 1");
        assert_eq!(next(&suspended, "", 0, 90), "await");
    }

    #[test]
    fn each_index_is_done_once() {
        let indexed = JobSpec {
            is_indexed: true,
            ..job(Some(4), 3)
        };
        let mut state = state("sf");
        for (end, index) in state.ended.values_mut().zip([1, 2]) {
            end.index = Some(index);
        }
        let mut running = active(1);
        running[0].index = Some(0);
        let backoff = Backoff::default();
        let step = step(&indexed, &state, &running, (60 * SECOND, &backoff));
        assert_eq!(step, JobStep::Start(vec![Some(2), Some(3)]));
    }
}
