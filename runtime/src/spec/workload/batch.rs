//! Jobs: pods that come to an end.

use super::rules::{self, FailureRule, SuccessRule};
use super::{Parts, TEMPLATE, Update, Workload, WorkloadKind, finish, without_spec, workload};
use crate::spec::Issue;
use crate::spec::check::Check;
use crate::spec::decode::decode_around;
use crate::spec::names;
use crate::spec::yaml::Node;
use k8s_openapi::api::batch::v1 as batch;
use serde_json::json;

/// Failed pods after which a job has failed, when it does not say.
const BACKOFF_LIMIT: u32 = 6;

/// The same where each index has a limit of its own, which is as good as none.
const UNLIMITED: u32 = i32::MAX.unsigned_abs();

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
    /// More failures than these of one index are the index's.
    pub index_backoff_limit: Option<u32>,
    /// More failed indexes than these are the job's.
    pub max_failed_indexes: Option<u32>,
    /// What is made of pods that fail.
    pub failure_rules: Vec<FailureRule>,
    /// When it is complete before all of its indexes are.
    pub success_rules: Vec<SuccessRule>,
    /// A pod that is on its way out is replaced when it is gone, not before.
    pub waits_for_end: bool,
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
    pods_can_be_named(
        metadata.name.as_deref().unwrap_or_default(),
        &job,
        &mut check,
    );
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
    let is_per_index = spec.backoff_limit_per_index.is_some();
    filled
        .backoff_limit
        .get_or_insert(if is_per_index { i32::MAX } else { 6 });
    let waits = spec.pod_failure_policy.is_some();
    filled.pod_replacement_policy.get_or_insert(
        if waits {
            "Failed"
        } else {
            "TerminatingOrFailed"
        }
        .into(),
    );
    let rules = filled.pod_failure_policy.iter_mut();
    let rules = rules.flat_map(|policy| &mut policy.rules);
    for condition in rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten()) {
        condition.status.get_or_insert("True".into());
    }
    filled.completion_mode.get_or_insert("NonIndexed".into());
    filled.suspend.get_or_insert(false);
    let workload = workload(parts, json!(filled), &mut check);
    Some(finish(workload, check, issues))
}

/// As the API server: the name is the value of a label of each pod, and with the index
/// behind it the hostname of a pod with an index.
fn pods_can_be_named(name: &str, job: &JobSpec, check: &mut Check<'_>) {
    // What is no name at all is told as such.
    if names::subdomain(name).is_err() {
        return;
    }
    if let Err(why) = names::label_value(name) {
        let message = format!("{why}, and is a label of its pods (job-name)");
        check.wrong("metadata.name", message);
    } else if let (true, Some(last)) = (job.is_indexed, job.completions)
        && last > 0
        && let Err(why) = names::label(&format!("{name}-{}", last - 1))
    {
        let message = format!(
            "with the last index (-{}) it is its pod's hostname, which {why}",
            last - 1
        );
        check.wrong("metadata.name", message);
    }
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
        success_policy: _, // below, like the others
        suspend,
        template,
        ttl_seconds_after_finished,
    } = spec;
    check.unsupported(
        "spec",
        &[
            ("managedBy", managed_by.is_some()),
            ("manualSelector", *manual_selector == Some(true)),
        ],
    );
    if selector.is_some() && *manual_selector != Some(true) {
        check.wrong("spec.selector", "is made by the system: leave it out");
    }
    let waits_for_end = waits(
        pod_replacement_policy.as_deref(),
        pod_failure_policy.is_some(),
        check,
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
    let backoff_limit = number("backoffLimit", *backoff_limit);
    let index_backoff_limit = number("backoffLimitPerIndex", *backoff_limit_per_index);
    let max_failed_indexes = number("maxFailedIndexes", *max_failed_indexes);
    let ttl = number("ttlSecondsAfterFinished", *ttl_seconds_after_finished);
    if parallelism.is_none() {
        found = found.or(Some(1));
    }
    if is_indexed {
        check_indexed(found, parallel, check);
    } else {
        needs_indexes(spec, check);
    }
    if max_failed_indexes.is_some() && backoff_limit_per_index.is_none() {
        check.wrong("spec.maxFailedIndexes", "needs spec.backoffLimitPerIndex");
    }
    if let (Some(most), Some(all)) = (max_failed_indexes, found)
        && is_indexed
        && most > all
    {
        let message = format!("{most} are more than the {all} completions");
        check.wrong("spec.maxFailedIndexes", message);
    }
    needs_new_pods(spec, check);
    let default = backoff_limit_per_index.map_or(BACKOFF_LIMIT, |_| UNLIMITED);
    let deadline_seconds = active_deadline_seconds.and_then(|seconds| deadline(seconds, check));
    let pod = template.spec.as_ref();
    let policy = pod.and_then(|pod| pod.restart_policy.as_deref());
    JobSpec {
        completions: found,
        parallelism: parallel,
        backoff_limit: backoff_limit.unwrap_or(default),
        index_backoff_limit,
        max_failed_indexes,
        failure_rules: rules::failure(spec, check),
        success_rules: rules::success(spec, found, check),
        waits_for_end,
        is_indexed,
        deadline_seconds,
        ttl_seconds: ttl.map(u64::from),
        is_suspended: suspend.unwrap_or_default(),
        replaces_pods: policy == Some("Never"),
    }
}

/// Whether a pod is replaced when it is gone, not as soon as it is to go: what a
/// failure means is known at its end only.
fn waits(policy: Option<&str>, has_rules: bool, check: &mut Check<'_>) -> bool {
    let path = "spec.podReplacementPolicy";
    let waits = check.choice(
        path,
        policy,
        &[("TerminatingOrFailed", false), ("Failed", true)],
    );
    if has_rules && policy == Some("TerminatingOrFailed") {
        let message = "\"TerminatingOrFailed\": with a podFailurePolicy it is Failed";
        check.wrong(path, message);
    }
    waits || has_rules
}

/// What means something to pods with indexes only.
fn needs_indexes(spec: &batch::JobSpec, check: &mut Check<'_>) {
    for (field, given) in [
        (
            "backoffLimitPerIndex",
            spec.backoff_limit_per_index.is_some(),
        ),
        ("maxFailedIndexes", spec.max_failed_indexes.is_some()),
        ("successPolicy", spec.success_policy.is_some()),
    ] {
        if given {
            let message = "needs the completionMode Indexed";
            check.wrong(&format!("spec.{field}"), message);
        }
    }
}

/// What counts pods that fail: with OnFailure their containers start again.
fn needs_new_pods(spec: &batch::JobSpec, check: &mut Check<'_>) {
    let pod = spec.template.spec.as_ref();
    if pod.and_then(|pod| pod.restart_policy.as_deref()) != Some("OnFailure") {
        return;
    }
    for (field, given) in [
        ("podFailurePolicy", spec.pod_failure_policy.is_some()),
        (
            "backoffLimitPerIndex",
            spec.backoff_limit_per_index.is_some(),
        ),
    ] {
        if given {
            let path = format!("{TEMPLATE}.spec.restartPolicy");
            check.wrong(&path, format!("\"OnFailure\": {field} needs Never"));
        }
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
