//! What a job does next. Pure: its pods and what has ended so far in, one step
//! out.
//!
//! ```text
//! running ─┬─ a rule says that it has failed ─► Failed: PodFailurePolicy
//!          ├─ more have failed than may ──────► Failed: BackoffLimitExceeded
//!          ├─ its deadline has passed ────────► Failed: DeadlineExceeded
//!          ├─ more indexes failed than may ───► Failed: MaxFailedIndexesExceeded
//!          ├─ all indexes ended, one badly ───► Failed: FailedIndexes
//!          ├─ enough by a rule of success ────► Complete: SuccessPolicy
//!          └─ enough have succeeded ──────────► Complete: CompletionsReached
//! ```

use crate::plan::Tenant;
use crate::settings::Backoff;
use crate::spec::{JobSpec, SuccessRule};
use beluga_proto::PodUid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is on record of a job beside its pods, which may be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    /// The UID of the job; none where an older version has counted.
    #[serde(default)]
    pub of: Option<String>,
    /// When it began, nanoseconds since 1970.
    pub started: Option<u64>,
    /// When it ended.
    pub finished: Option<u64>,
    /// How it ended.
    pub end: Option<JobEnd>,
    /// Pods that have ended: each counts once, and stays counted.
    pub ended: BTreeMap<PodUid, PodEnd>,
    /// Why the job has failed by a rule about one of its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_by_rule: Option<String>,
    /// The profile that its pods are held to, whoever goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Pods whose end the job itself asks for before it has ended: they count for
    /// nothing, however they end. Those that are gone are left out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sent_away: BTreeSet<PodUid>,
    /// It has ended, and its pods have been told to.
    #[serde(default)]
    pub is_over: bool,
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
    /// What its failure means.
    #[serde(default, skip_serializing_if = "Verdict::is_usual")]
    pub verdict: Verdict,
}

/// What the failure of a pod means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It counts against the limits.
    #[default]
    Counts,
    /// It does not.
    Ignored,
    /// It counts, and its index has failed.
    FailsIndex,
}

impl Verdict {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_usual(&self) -> bool {
        *self == Self::Counts
    }
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

    /// How many pods have failed, but for those that a rule lets pass.
    #[must_use]
    pub fn failed(&self) -> u32 {
        let bad = self.failures();
        let count = bad.filter(|end| end.verdict != Verdict::Ignored).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn failures(&self) -> impl Iterator<Item = &PodEnd> {
        self.ended.values().filter(|end| !end.succeeded)
    }

    /// Which indexes have succeeded.
    pub fn succeeded_indexes(&self) -> BTreeSet<u32> {
        let good = self.ended.values().filter(|end| end.succeeded);
        good.filter_map(|end| end.index).collect()
    }

    /// How the pods of each index have failed that has a limit of its own.
    pub fn index_failures(&self, job: &JobSpec) -> BTreeMap<u32, IndexFailures> {
        let mut found: BTreeMap<u32, IndexFailures> = BTreeMap::new();
        let Some(limit) = job.index_backoff_limit else {
            return found;
        };
        for end in self.failures() {
            let Some(index) = end.index else { continue };
            let of_index = found.entry(index).or_default();
            match end.verdict {
                Verdict::Ignored => of_index.ignored += 1,
                Verdict::Counts => of_index.counted += 1,
                Verdict::FailsIndex => {
                    of_index.counted += 1;
                    of_index.is_final = true;
                }
            }
            of_index.is_final |= of_index.counted > limit;
            of_index.last = of_index.last.max(end.at);
        }
        found
    }

    /// Which indexes have failed.
    pub fn failed_indexes(&self, job: &JobSpec) -> BTreeSet<u32> {
        let all = self.index_failures(job).into_iter();
        all.filter(|(_, one)| one.is_final)
            .map(|(at, _)| at)
            .collect()
    }
}

/// How the pods of one index have failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexFailures {
    /// How many that count.
    pub counted: u32,
    /// How many that a rule lets pass.
    pub ignored: u32,
    /// The index gets no other pod.
    pub is_final: bool,
    /// When the last one failed, nanoseconds since 1970.
    pub last: u64,
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
    /// Its end has been asked for.
    pub is_leaving: bool,
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

/// Most pods that are started before the next look at those that there are: one of
/// them may have ended the job.
const AT_ONCE: usize = 16;

/// The next step; `now` in nanoseconds since 1970.
#[must_use]
pub fn step(
    job: &JobSpec,
    state: &JobState,
    active: &[Active],
    (now, backoff): (u64, &Backoff),
) -> JobStep {
    let staying: Vec<&Active> = active.iter().filter(|one| !one.is_leaving).collect();
    if let Some(end) = end(job, state, &staying, now) {
        return JobStep::End(end);
    }
    let wanted = wanted(job, state, staying.len());
    let deadline = deadline(job, state).map(|at| Duration::from_nanos(at.saturating_sub(now)));
    if let Some(surplus) = staying.len().checked_sub(wanted).filter(|more| *more > 0) {
        let surplus = staying.iter().rev().take(surplus);
        return JobStep::Delete(surplus.map(|one| one.uid.clone()).collect());
    }
    let taken: Vec<&Active> = if job.waits_for_end {
        active.iter().collect()
    } else {
        staying
    };
    let missing = wanted.saturating_sub(taken.len()).min(AT_ONCE);
    if missing == 0 {
        return JobStep::Await(deadline);
    }
    match fresh(job, state, &taken, (missing, now, backoff)) {
        Ok(which) => JobStep::Start(which),
        Err(wait) => {
            let waits = [wait, deadline];
            JobStep::Await(waits.into_iter().flatten().min())
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

fn ended(complete: bool, reason: &str, message: &str) -> Option<JobEnd> {
    Some(JobEnd {
        complete,
        reason: reason.to_owned(),
        message: message.to_owned(),
    })
}

/// How the job ends, if it does now: in the order of the job controller.
fn end(job: &JobSpec, state: &JobState, active: &[&Active], now: u64) -> Option<JobEnd> {
    if let Some(why) = &state.failed_by_rule {
        return ended(false, "PodFailurePolicy", why);
    }
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
        return ended(false, "BackoffLimitExceeded", message);
    }
    if deadline(job, state).is_some_and(|at| at <= now) {
        let message = "Job was active longer than specified deadline";
        return ended(false, "DeadlineExceeded", message);
    }
    if let Some(end) = end_by_index(job, state) {
        return Some(end);
    }
    let is_complete = match job.completions {
        Some(completions) => state.succeeded() >= completions,
        None => state.succeeded() > 0 && active.is_empty(),
    };
    let message = "Reached expected number of succeeded pods";
    is_complete.then(|| ended(true, "CompletionsReached", message))?
}

/// What the indexes that have ended mean for the job.
fn end_by_index(job: &JobSpec, state: &JobState) -> Option<JobEnd> {
    if !job.is_indexed {
        return None;
    }
    let (good, bad) = (state.succeeded_indexes(), state.failed_indexes(job));
    let most = job.max_failed_indexes.map(|most| most as usize);
    if most.is_some_and(|most| bad.len() > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return ended(false, "MaxFailedIndexesExceeded", message);
    }
    let all = job.completions.unwrap_or_default() as usize;
    if !bad.is_empty() && bad.len() + good.len() >= all {
        return ended(false, "FailedIndexes", "Job has failed indexes");
    }
    let mut rules = job.success_rules.iter();
    let at = rules.position(|rule| is_met(rule, &good))?;
    let message = format!("Matched rules at index {at}");
    ended(true, "SuccessPolicy", &message)
}

/// Whether enough indexes have succeeded.
fn is_met(rule: &SuccessRule, good: &BTreeSet<u32>) -> bool {
    let Some(runs) = &rule.indexes else {
        return rule.count.is_some_and(|count| good.len() >= count as usize);
    };
    let there = runs
        .iter()
        .map(|(first, last)| good.range(first..=last).count());
    let wanted = runs.iter().map(|(first, last)| (last - first) as usize + 1);
    let there: usize = there.sum();
    let wanted = rule.count.map_or(wanted.sum(), |count| count as usize);
    there >= wanted
}

/// How many pods shall run now, of which `active` do.
fn wanted(job: &JobSpec, state: &JobState, active: usize) -> usize {
    if job.is_suspended {
        return 0;
    }
    let failed = u32::try_from(state.failed_indexes(job).len()).unwrap_or(u32::MAX);
    let succeeded = state.succeeded();
    let count = match job.completions {
        Some(completions) => {
            let over = succeeded.saturating_add(failed);
            job.parallelism.min(completions.saturating_sub(over))
        }
        // Nobody knows how much is left once one has found that nothing is.
        None if succeeded > 0 => return active.min(job.parallelism as usize),
        None => job.parallelism,
    };
    count as usize
}

/// How long the next pod waits: longer with each failure, from the last one on.
fn wait(state: &JobState, now: u64, backoff: &Backoff) -> Duration {
    let Some(last) = state.failures().map(|end| end.at).max() else {
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
    // Those that count for nothing else count here, as in Kubernetes.
    let count = u32::try_from(state.failures().count()).unwrap_or(u32::MAX);
    since(last, count, (now, backoff))
}

/// What is left of the wait after the last of so many failures.
fn since(last: u64, count: u32, (now, backoff): (u64, &Backoff)) -> Duration {
    let since = Duration::from_nanos(now.saturating_sub(last));
    backoff.wait(count.saturating_sub(1)).saturating_sub(since)
}

/// The pods that are started next, `count` of them at most, beside those that
/// are there; otherwise how long none is.
fn fresh(
    job: &JobSpec,
    state: &JobState,
    there: &[&Active],
    (count, now, backoff): (usize, u64, &Backoff),
) -> Result<Vec<Option<u32>>, Option<Duration>> {
    let pause = match job.index_backoff_limit {
        None => wait(state, now, backoff),
        Some(_) => Duration::ZERO,
    };
    if !pause.is_zero() {
        return Err(Some(pause));
    }
    if !job.is_indexed {
        return Ok(vec![None; count]);
    }
    let mut taken = state.succeeded_indexes();
    taken.extend(there.iter().filter_map(|one| one.index));
    let failures = state.index_failures(job);
    // Each index that has a limit of its own waits for itself.
    let pause = |at: &u32| {
        let one = failures.get(at)?;
        let count = one.counted.saturating_add(one.ignored);
        Some(since(one.last, count, (now, backoff))).filter(|pause| !pause.is_zero())
    };
    let is_final = |at: &u32| failures.get(at).is_some_and(|one| one.is_final);
    let indexes = 0..job.completions.unwrap_or_default();
    let open = || {
        indexes
            .clone()
            .filter(|at| !taken.contains(at) && !is_final(at))
    };
    let ready = open().filter(|at| pause(at).is_none());
    let ready: Vec<_> = ready.take(count).map(Some).collect();
    if ready.is_empty() {
        return Err(open().filter_map(|at| pause(&at)).min());
    }
    Ok(ready)
}

#[cfg(test)]
mod tests;
