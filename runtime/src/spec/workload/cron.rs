//! CronJobs: nothing here keeps time, but their Job may be run now, as
//! `kubectl create job --from` does.

use super::{Workload, batch as job, without_spec};
use crate::spec::Issue;
use crate::spec::check::Check;
use crate::spec::decode::decode_around;
use crate::spec::found::below;
use crate::spec::yaml::{Node, Scalar, Value};
use crate::spec::{PodName, meta, names};
use k8s_openapi::api::batch::v1 as batch;
use serde_json::Value as Json;

/// Where a CronJob has its Job, and that its pod.
const JOB: &str = "spec.jobTemplate";
const POD: &str = "spec.jobTemplate.spec.template";

/// Longest name, as in Kubernetes: those of its jobs are longer.
const MAX_NAME: usize = 52;

/// How many characters a job's name has more, but for the dash.
const RANDOM: usize = 5;

/// What tells the job from one that the clock has started.
const MANUAL: (&str, &str) = ("cronjob.kubernetes.io/instantiate", "manual");

/// Converts a CronJob to the Job that it starts, whose name ends in `random`.
pub fn now(tree: &Node, random: [u8; RANDOM], issues: &mut Vec<Issue>) -> Option<Workload> {
    let template = tree.get("spec").and_then(|spec| spec.get("jobTemplate"));
    let mut own = tree.clone();
    // The Job is looked at by itself.
    without(&mut own, &["spec", "jobTemplate"], "spec");
    let decoded = decode_around::<batch::CronJob>(&own, POD);
    issues.extend(decoded.issues);
    let batch::CronJob {
        metadata,
        spec,
        status: _, // the system's own
    } = decoded.value?;
    let mut check = Check::new(tree, &decoded.masked);
    let Some(spec) = spec else {
        return without_spec(check, issues);
    };
    let identity = meta::object(&metadata, "the CronJob's name", &mut check);
    if identity.name.len() > MAX_NAME {
        let message = format!("longer than {MAX_NAME} characters");
        check.wrong("metadata.name", message);
    }
    own_fields(&spec, &mut check);
    if template.is_none() {
        check.wrong(JOB, "required: the Job that it starts");
    }
    let (wrong, mut warnings) = check.finish();
    issues.extend(wrong);
    // A name that is refused has been told already.
    let cron_job = identity.name.clone();
    let base = Some(identity.name).filter(|name| names::subdomain(name).is_ok());
    let base = base.unwrap_or_else(|| "x".to_owned());
    let name = PodName::Generate(format!("{base}-")).resolve(random);
    let before = issues.len();
    let found = job::job(&job_of(tree, template?, &name), issues);
    for issue in issues.iter_mut().skip(before) {
        issue.path = below(JOB, &issue.path);
    }
    let mut workload = found?;
    workload.template.stand_in(JOB);
    warnings.append(&mut workload.template.warnings);
    workload.template.warnings = warnings;
    workload.cron_job = Some(cron_job);
    Some(workload)
}

/// Whether a Job that is kept was made of the CronJob of that name.
pub fn is_job_of(cron_job: &str, name: &str, job: &Json) -> bool {
    let ending = name.strip_prefix(cron_job);
    let ending = ending.and_then(|rest| rest.strip_prefix('-'));
    let is_random = |text: &str| {
        let mut bytes = text.bytes();
        text.len() == RANDOM && bytes.all(|byte| byte.is_ascii_alphanumeric())
    };
    let (key, value) = MANUAL;
    ending.is_some_and(is_random) && job["metadata"]["annotations"][key] == value
}

/// The five fields of cron(5), or a word for them.
fn schedule(text: &str) -> Result<(), &'static str> {
    const WORDS: [&str; 7] = [
        "@yearly",
        "@annually",
        "@monthly",
        "@weekly",
        "@daily",
        "@midnight",
        "@hourly",
    ];
    const MONTHS: &str = "jan feb mar apr may jun jul aug sep oct nov dec";
    const DAYS: &str = "sun mon tue wed thu fri sat";
    if text.contains("TZ=") {
        return Err("must not have a time zone: timeZone says it");
    }
    if text.starts_with("@every ") || WORDS.contains(&text) {
        return Ok(());
    }
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else {
        return Err(
            "is no schedule: it has five fields, or is one of @hourly, @daily and their like",
        );
    };
    let months: Vec<&str> = MONTHS.split(' ').collect();
    let days: Vec<&str> = DAYS.split(' ').collect();
    for (field, least, most, names) in [
        (minute, 0, 59, &[][..]),
        (hour, 0, 23, &[]),
        (day, 1, 31, &[]),
        (month, 1, 12, &months),
        (weekday, 0, 6, &days),
    ] {
        let number = |text: &str| -> Option<usize> {
            let lower = text.to_ascii_lowercase();
            let named = names.iter().position(|name| *name == lower);
            let found = named.map(|at| at + least).or_else(|| text.parse().ok())?;
            (least..=most).contains(&found).then_some(found)
        };
        let is_range = |text: &str| match text.split_once('-') {
            _ if matches!(text, "*" | "?") => true,
            Some((from, to)) => matches!((number(from), number(to)), (Some(a), Some(b)) if a <= b),
            None => number(text).is_some(),
        };
        let is_good = |one: &str| match one.split_once('/') {
            Some((range, step)) => {
                is_range(range) && step.parse::<u32>().is_ok_and(|step| step > 0)
            }
            None => is_range(one),
        };
        if !field.split(',').all(is_good) {
            return Err(
                "is no schedule: minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-6",
            );
        }
    }
    Ok(())
}

/// What a CronJob says of itself.
fn own_fields(spec: &batch::CronJobSpec, check: &mut Check<'_>) {
    let batch::CronJobSpec {
        concurrency_policy,
        failed_jobs_history_limit,
        job_template: _,
        schedule,
        starting_deadline_seconds,
        successful_jobs_history_limit,
        suspend,
        time_zone,
    } = spec;
    // That it has no effect is what running it now means.
    check.shape("spec.schedule", schedule, self::schedule);
    let policy = concurrency_policy.as_deref();
    let words = [("Allow", true), ("Forbid", false), ("Replace", false)];
    let is_allowed = check.choice("spec.concurrencyPolicy", policy, &words);
    let (failed, good) = (failed_jobs_history_limit, successful_jobs_history_limit);
    check.ignore(
        "spec",
        &[
            ("concurrencyPolicy", !is_allowed),
            ("failedJobsHistoryLimit", failed.is_some()),
            ("successfulJobsHistoryLimit", good.is_some()),
            (
                "startingDeadlineSeconds",
                starting_deadline_seconds.is_some(),
            ),
            ("suspend", *suspend == Some(true)),
            ("timeZone", time_zone.is_some()),
        ],
    );
}

/// Takes a field of the object at a path away.
fn without(node: &mut Node, path: &[&str], field: &str) {
    let Value::Object(entries) = &mut node.value else {
        return;
    };
    match path {
        [] => entries.retain(|(key, _)| key != field),
        [first, rest @ ..] => {
            let inside = entries.iter_mut().find(|(key, _)| key == first);
            if let Some((_, inside)) = inside {
                without(inside, rest, field);
            }
        }
    }
}

/// The Job as a document of its own, with its places in the text.
fn job_of(tree: &Node, template: &Node, name: &str) -> Node {
    let metadata = tree.locate("metadata");
    let text = |at: &Node, text: &str| Node {
        value: Value::Scalar(Scalar {
            text: text.to_owned(),
            plain: false,
        }),
        ..at.clone()
    };
    let mut entries = vec![(
        "name".to_owned(),
        text(metadata.locate("metadata.name"), name),
    )];
    let namespace = metadata.get("namespace").cloned();
    entries.extend(namespace.map(|one| ("namespace".to_owned(), one)));
    // Of its template's metadata these are the Job's; other fields are none of it.
    let given = template.get("metadata");
    let labels = given.and_then(|given| given.get("labels")).cloned();
    entries.extend(labels.map(|labels| ("labels".to_owned(), labels)));
    let annotations = given.and_then(|given| given.get("annotations"));
    let mut annotations = annotations.cloned().unwrap_or_else(|| Node {
        value: Value::Object(Vec::new()),
        ..metadata.clone()
    });
    if let Value::Object(entries) = &mut annotations.value {
        let (key, value) = MANUAL;
        entries.retain(|(present, _)| present != key);
        entries.push((key.to_owned(), text(metadata, value)));
    }
    entries.push(("annotations".to_owned(), annotations));
    let metadata = Node {
        value: Value::Object(entries),
        ..given.unwrap_or(metadata).clone()
    };
    let spec = template.get("spec").cloned();
    let spec = spec.map(|spec| ("spec".to_owned(), spec));
    let fields = [("metadata".to_owned(), metadata)];
    let mut job = Node {
        value: Value::Object(fields.into_iter().chain(spec).collect()),
        ..template.clone()
    };
    job.assign_paths(String::new());
    job
}

#[cfg(test)]
mod tests {
    use super::schedule;

    #[test]
    fn schedules_are_those_of_cron() {
        for good in [
            "*/5 * * * *",
            "0 0 1 JAN-mar,12 ?",
            "5-10/2 0 * * sun",
            "@daily",
            "@every 1h30m",
        ] {
            assert_eq!(schedule(good), Ok(()), "{good}");
        }
        for bad in [
            "bad",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * * 7",
            "*/0 * * * *",
            "9-1 * * * *",
            "TZ=UTC * * * * *",
            "@never",
        ] {
            assert!(schedule(bad).is_err(), "{bad}");
        }
    }
}
