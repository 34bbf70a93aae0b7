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

use crate::settings::Backoff;
use crate::spec::{JobSpec, SuccessRule};
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
    /// Why the job has failed by a rule about one of its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_by_rule: Option<String>,
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
    let missing = wanted.saturating_sub(taken.len());
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
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn job(completions: Option<u32>, parallelism: u32) -> JobSpec {
        JobSpec {
            completions,
            parallelism,
            backoff_limit: 2,
            index_backoff_limit: None,
            max_failed_indexes: None,
            failure_rules: Vec::new(),
            success_rules: Vec::new(),
            waits_for_end: false,
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
            is_leaving: false,
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
                verdict: Verdict::Counts,
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

    /// Of an indexed job: `0s 1f 2i 3x` are index 0 that succeeded, and failures of
    /// others that count, are ignored, or are final; all a second apart.
    fn by_index(ends: &str) -> JobState {
        let one = |(at, text): (u8, &str)| {
            let (index, how) = text.split_at(text.len() - 1);
            let end = PodEnd {
                succeeded: how == "s",
                at: u64::from(at) * SECOND,
                index: index.parse().ok(),
                verdict: match how {
                    "i" => Verdict::Ignored,
                    "x" => Verdict::FailsIndex,
                    _ => Verdict::Counts,
                },
            };
            (uid(100 + at), end)
        };
        JobState {
            started: Some(0),
            ended: (0u8..).zip(ends.split_whitespace()).map(one).collect(),
            ..JobState::default()
        }
    }

    fn per_index() -> JobSpec {
        JobSpec {
            is_indexed: true,
            backoff_limit: u32::MAX,
            index_backoff_limit: Some(1),
            ..job(Some(4), 2)
        }
    }

    fn told(job: &JobSpec, ends: &str, active: &[Active], seconds: u64) -> String {
        let now = (seconds * SECOND, &Backoff::default());
        match step(job, &by_index(ends), active, now) {
            JobStep::Start(which) => {
                let which: Vec<u32> = which.into_iter().flatten().collect();
                format!("start {which:?}")
            }
            JobStep::End(end) => format!("{}: {}", end.reason, end.message),
            JobStep::Delete(which) => format!("delete {}", which.len()),
            JobStep::Await(time) => format!("await {:?}", time.map(|time| time.as_secs())),
        }
    }

    #[test]
    fn each_index_fails_and_waits_for_itself() {
        let job = per_index();
        assert_eq!(told(&job, "", &[], 0), "start [0, 1]");
        // 0 waits for 10 s, the others do not.
        assert_eq!(told(&job, "0f", &[], 1), "start [1, 2]");
        assert_eq!(told(&job, "0f", &[], 10), "start [0, 1]");
        assert_eq!(told(&job, "0f 1s 2s 3s", &[], 4), "await Some(6)");
        // A second failure is one too many; a rule may let it pass, or need but one.
        assert_eq!(told(&job, "0f 0f", &[], 60), "start [1, 2]");
        assert_eq!(told(&job, "0f 0i", &[], 60), "start [0, 1]");
        assert_eq!(told(&job, "0x", &[], 60), "start [1, 2]");
        let end = "FailedIndexes: Job has failed indexes";
        assert_eq!(told(&job, "0x 1s 2s 3s", &[], 60), end);
        let end = "CompletionsReached: Reached expected number of succeeded pods";
        assert_eq!(told(&job, "0f 0s 1s 2s 3s", &[], 60), end);
        let strict = JobSpec {
            max_failed_indexes: Some(1),
            ..job
        };
        assert_eq!(told(&strict, "0x 1s", &[], 60), "start [2, 3]");
        let end = told(&strict, "0x 1x", &[], 60);
        assert!(end.starts_with("MaxFailedIndexesExceeded: "), "{end}");
    }

    #[test]
    fn failed_indexes_are_told_with_what_is_behind_them() {
        let state = by_index("0f 0i 0f 1f 2x 3i");
        assert_eq!(state.failed(), 4);
        assert_eq!(state.failed_indexes(&per_index()), BTreeSet::from([0, 2]));
        let failures = state.index_failures(&per_index());
        assert_eq!((failures[&0].counted, failures[&0].ignored), (2, 1));
        assert!(state.failed_indexes(&job(Some(4), 2)).is_empty());
    }

    #[test]
    fn ignored_failures_do_not_count_but_are_waited_after() {
        let one = JobSpec {
            is_indexed: true,
            ..job(Some(1), 1)
        };
        assert_eq!(told(&one, "0i 0i 0i 0i", &[], 3), "await Some(80)");
        assert_eq!(told(&one, "0i 0i 0i 0i", &[], 90), "start [0]");
        let end = told(&one, "0f 0f 0f", &[], 3);
        assert!(end.starts_with("BackoffLimitExceeded: "), "{end}");
        let mut state = by_index("0f");
        state.failed_by_rule = Some("that is why".into());
        let step = step(&one, &state, &[], (SECOND, &Backoff::default()));
        assert!(
            matches!(step, JobStep::End(end) if end.reason == "PodFailurePolicy" && !end.complete)
        );
    }

    #[test]
    fn a_job_is_complete_by_its_rules_of_success() {
        let job = JobSpec {
            success_rules: vec![
                SuccessRule {
                    indexes: Some(vec![(0, 0), (2, 3)]),
                    count: None,
                },
                SuccessRule {
                    indexes: Some(vec![(0, 1)]),
                    count: Some(1),
                },
                SuccessRule {
                    indexes: None,
                    count: Some(3),
                },
            ],
            is_indexed: true,
            ..job(Some(9), 2)
        };
        for (ends, end) in [
            ("2s 3s", "start [0, 1]"),
            ("2s 3s 3s", "start [0, 1]"),
            ("1s", "SuccessPolicy: Matched rules at index 1"),
            ("2s 3s 0s", "SuccessPolicy: Matched rules at index 0"),
            ("4s 5s 6s", "SuccessPolicy: Matched rules at index 2"),
        ] {
            assert_eq!(told(&job, ends, &[], 60), end, "{ends}");
        }
    }

    #[test]
    fn a_pod_on_its_way_out_is_replaced_at_once_or_when_it_is_gone() {
        let mut pods = active(1);
        pods[0].index = Some(0);
        pods[0].is_leaving = true;
        let waits = JobSpec {
            waits_for_end: true,
            ..per_index()
        };
        assert_eq!(told(&per_index(), "", &pods, 0), "start [0, 1]");
        assert_eq!(told(&waits, "", &pods, 0), "start [1]");
        let one = JobSpec {
            parallelism: 1,
            ..waits
        };
        assert_eq!(told(&one, "", &pods, 0), "await None");
    }

    #[test]
    fn counts_of_an_older_version_are_read() {
        let text = r#"{"started": 1, "finished": null, "end": null, "ended":
            {"00000000-0000-4000-8000-000000000001": {"succeeded": false, "at": 5, "index": 2}}}"#;
        let state: JobState = serde_json::from_str(text).unwrap();
        assert_eq!((state.failed(), state.failed_by_rule), (1, None));
    }
}
