//! Jobs: pods that come to an end.

use super::{Parts, TEMPLATE, Update, Workload, WorkloadKind, finish, without_spec, workload};
use crate::spec::Issue;
use crate::spec::check::Check;
use crate::spec::decode::decode_around;
use crate::spec::yaml::Node;
use k8s_openapi::api::batch::v1 as batch;
use serde_json::json;

/// Failed pods after which a job has failed, when it does not say.
const BACKOFF_LIMIT: u32 = 6;

/// Most pods of a job at once, and most indexes, as in Kubernetes.
const MAX_INDEXED: u32 = 100_000;

/// What a job shall come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// How many pods must succeed; without it one, when all others have ended.
    pub completions: Option<u32>,
    /// How many run at once.
    pub parallelism: u32,
    /// More failures than these are the job's.
    pub backoff_limit: u32,
    /// Each completion has a number.
    pub is_indexed: bool,
    /// Seconds after which the job has failed.
    pub deadline_seconds: Option<u64>,
    /// Seconds after its end at which it is deleted with its pods.
    pub ttl_seconds: Option<u64>,
    /// It shall have no pods for now.
    pub is_suspended: bool,
    /// Pods that fail are replaced by new ones; otherwise containers restart.
    pub replaces_pods: bool,
}

/// Converts a Job.
pub fn job(tree: &Node, issues: &mut Vec<Issue>) -> Option<Workload> {
    let decoded = decode_around::<batch::Job>(tree, TEMPLATE);
    issues.extend(decoded.issues);
    let batch::Job {
        metadata,
        spec,
        status: _, // the system's own
    } = decoded.value?;
    let mut check = Check::new(tree, &decoded.masked);
    let Some(spec) = spec else {
        return without_spec(check, issues);
    };
    let job = job_spec(&spec, &mut check);
    let empty = Default::default();
    let parts = Parts {
        kind: WorkloadKind::Job,
        metadata: &metadata,
        template: &spec.template,
        selector: &empty,
        replicas: job.parallelism,
        update: Update::OnDelete,
        progress_seconds: u32::MAX,
        ordinals: None,
        claims: &[],
        job: Some(job),
    };
    let mut filled = spec.clone();
    filled.parallelism.get_or_insert(1);
    // Without either, one pod that succeeds is all.
    if spec.parallelism.is_none() {
        filled.completions.get_or_insert(1);
    }
    filled.backoff_limit.get_or_insert(6);
    filled.completion_mode.get_or_insert("NonIndexed".into());
    filled.suspend.get_or_insert(false);
    let workload = workload(parts, json!(filled), &mut check);
    Some(finish(workload, check, issues))
}

#[expect(clippy::too_many_lines, reason = "every field of a Job once")]
fn job_spec(spec: &batch::JobSpec, check: &mut Check<'_>) -> JobSpec {
    let batch::JobSpec {
        active_deadline_seconds,
        backoff_limit,
        backoff_limit_per_index,
        completion_mode,
        completions,
        managed_by,
        manual_selector,
        max_failed_indexes,
        parallelism,
        pod_failure_policy,
        pod_replacement_policy,
        selector,
        success_policy,
        suspend,
        template,
        ttl_seconds_after_finished,
    } = spec;
    check.unsupported(
        "spec",
        &[
            ("backoffLimitPerIndex", backoff_limit_per_index.is_some()),
            ("managedBy", managed_by.is_some()),
            ("manualSelector", *manual_selector == Some(true)),
            ("maxFailedIndexes", max_failed_indexes.is_some()),
            ("podFailurePolicy", pod_failure_policy.is_some()),
            ("successPolicy", success_policy.is_some()),
        ],
    );
    if selector.is_some() && *manual_selector != Some(true) {
        check.wrong("spec.selector", "is made by the system: leave it out");
    }
    check.choice(
        "spec.podReplacementPolicy",
        pod_replacement_policy.as_deref(),
        // A pod is replaced when it has ended, which is both.
        &[("TerminatingOrFailed", ()), ("Failed", ())],
    );
    let is_indexed = check.choice(
        "spec.completionMode",
        completion_mode.as_deref(),
        &[("NonIndexed", false), ("Indexed", true)],
    );
    let mut number = |field: &str, value: Option<i32>| -> Option<u32> {
        let path = format!("spec.{field}");
        check.number(&path, i64::from(value?), "a number from 0")
    };
    let mut found = number("completions", *completions);
    let parallel = number("parallelism", *parallelism).unwrap_or(1);
    let backoff_limit = number("backoffLimit", *backoff_limit).unwrap_or(BACKOFF_LIMIT);
    let ttl = number("ttlSecondsAfterFinished", *ttl_seconds_after_finished);
    if parallelism.is_none() {
        found = found.or(Some(1));
    }
    if is_indexed {
        check_indexed(found, parallel, check);
    }
    let deadline_seconds = active_deadline_seconds.and_then(|seconds| deadline(seconds, check));
    let pod = template.spec.as_ref();
    let policy = pod.and_then(|pod| pod.restart_policy.as_deref());
    JobSpec {
        completions: found,
        parallelism: parallel,
        backoff_limit,
        is_indexed,
        deadline_seconds,
        ttl_seconds: ttl.map(u64::from),
        is_suspended: suspend.unwrap_or_default(),
        replaces_pods: policy == Some("Never"),
    }
}

fn check_indexed(completions: Option<u32>, parallelism: u32, check: &mut Check<'_>) {
    if completions.is_none() {
        check.wrong(
            "spec.completions",
            "required with the completionMode Indexed",
        );
    }
    let amounts = [
        ("completions", completions),
        ("parallelism", Some(parallelism)),
    ];
    for (field, value) in amounts {
        if value.is_some_and(|value| value > MAX_INDEXED) {
            let message = format!("more than {MAX_INDEXED} with the completionMode Indexed");
            check.wrong(&format!("spec.{field}"), message);
        }
    }
}

fn deadline(seconds: i64, check: &mut Check<'_>) -> Option<u64> {
    let good = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
    if good.is_none() {
        let path = "spec.activeDeadlineSeconds";
        check.wrong(path, format!("{seconds} is not a number of seconds from 1"));
    }
    good
}
