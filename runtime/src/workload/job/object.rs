//! A job as people and tools see it.

use super::plan::JobState;
use crate::spec::JobSpec;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The status of a job of which `active` pods have not ended, `ready` of them
/// being ready; times are written by `stamp`.
#[must_use]
pub fn status(
    job: &JobSpec,
    state: &JobState,
    (active, ready): (usize, usize),
    stamp: impl Fn(u64) -> String,
) -> Value {
    let mut out = json!({
        "active": active,
        "ready": ready,
        "succeeded": state.succeeded(),
        "failed": state.failed(),
    });
    if let Some(started) = state.started {
        out["startTime"] = json!(stamp(started));
    }
    let mut conditions = Vec::new();
    if job.is_suspended && state.end.is_none() {
        conditions.push(json!({
            "type": "Suspended",
            "status": "True",
            "reason": "JobSuspended",
            "message": "Job suspended",
        }));
    }
    if let Some(end) = &state.end {
        let at = state.finished.map(&stamp);
        // The first of the two is what the controller says while pods are still ending.
        let kinds = if end.complete {
            ["SuccessCriteriaMet", "Complete"]
        } else {
            ["FailureTarget", "Failed"]
        };
        for kind in kinds {
            conditions.push(json!({
                "type": kind,
                "status": "True",
                "reason": end.reason,
                "message": end.message,
                "lastTransitionTime": at,
            }));
        }
        if end.complete {
            out["completionTime"] = json!(at);
        }
    }
    out["conditions"] = json!(conditions);
    if job.is_indexed {
        out["completedIndexes"] = json!(ranges(&state.succeeded_indexes()));
    }
    if job.index_backoff_limit.is_some() {
        out["failedIndexes"] = json!(ranges(&state.failed_indexes(job)));
    }
    out
}

/// `0-2,5`.
#[must_use]
pub fn ranges(indexes: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let run = |(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

/// The STATUS column of `get jobs`.
#[must_use]
pub fn word(job: &JobSpec, state: &JobState) -> &'static str {
    match &state.end {
        Some(end) if end.complete => "Complete",
        Some(_) => "Failed",
        None if job.is_suspended => "Suspended",
        None => "Running",
    }
}

/// How long a job has run, or ran.
#[must_use]
pub fn duration(state: &JobState, now: u64) -> Option<Duration> {
    let end = state.finished.unwrap_or(now);
    Some(Duration::from_nanos(end.saturating_sub(state.started?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_written_as_kubernetes_does() {
        assert_eq!(ranges(&BTreeSet::new()), "");
        assert_eq!(ranges(&BTreeSet::from([0, 1, 2, 5, 7, 8])), "0-2,5,7,8");
    }
}
