//! Jobs and CronJobs: what is read of them, and what is refused.

use beluga_runtime::spec::{self, FailureSign, SuccessRule, Workload, WorkloadKind};

fn read(text: &str) -> Result<Workload, Vec<String>> {
    match spec::read("w.yaml", text) {
        Ok(mut read) => Ok(read.workloads.remove(0)),
        Err(error) => Err(error.issues.iter().map(ToString::to_string).collect()),
    }
}

/// A job of four pods with indexes.
fn indexed(more: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: sum}}\nspec:\n  completionMode: Indexed\n  completions: 4\n{more}  template: {{spec: {{restartPolicy: Never, containers: [{{name: a, image: b}}], initContainers: [{{name: i, image: b}}]}}}}\n"
    )
}

#[test]
fn a_job_has_an_end_that_may_wait() {
    let job = |more: &str| read(&indexed(more)).unwrap().job.unwrap();
    let timed = job("  activeDeadlineSeconds: 60\n  ttlSecondsAfterFinished: 9\n");
    assert_eq!(
        (timed.deadline_seconds, timed.ttl_seconds),
        (Some(60), Some(9))
    );
    assert!(!timed.is_suspended && job("  suspend: true\n").is_suspended);
}

#[test]
fn a_job_ends_and_says_how() {
    let text = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: sum}\nspec:\n  template: {spec: {restartPolicy: Never, containers: [{name: a, image: b}]}}\n";
    let sum = read(text).unwrap();
    let job = sum.job.as_ref().unwrap();
    assert_eq!(
        (job.completions, job.parallelism, job.backoff_limit),
        (Some(1), 1, 6)
    );
    assert!(job.replaces_pods && !job.is_indexed && !job.is_suspended);
    assert_eq!(sum.template.spec.name.resolve([0; 5]), "sum-bbbbb");
    let more = "  parallelism: 3\n  ttlSecondsAfterFinished: 9\n  template";
    let more = read(&text.replace("  template", more))
        .unwrap()
        .job
        .unwrap();
    assert_eq!((more.completions, more.ttl_seconds), (None, Some(9)));
    let bad = text
        .replace("restartPolicy: Never, ", "")
        .replace("  template", "  completionMode: Indexed\n  parallelism: 2\n  backoffLimit: -1\n  activeDeadlineSeconds: 0\n  selector: {matchLabels: {a: b}}\n  managedBy: example.org/jobs\n  template");
    assert_eq!(
        read(&bad).unwrap_err(),
        [
            "4:1: spec.completions: required with the completionMode Indexed",
            "7:17: spec.backoffLimit: -1 is not a number from 0",
            "8:26: spec.activeDeadlineSeconds: 0 is not a number of seconds from 1",
            "9:3: spec.selector: is made by the system: leave it out",
            "10:14: spec.managedBy: not supported yet",
            "11:14: spec.template.spec.restartPolicy: required: OnFailure or Never, since a Job ends",
        ]
    );
    let always = text.replace("Never", "Always").replace("batch/v1", "v1");
    assert_eq!(
        read(&always).unwrap_err(),
        [
            "1:13: apiVersion: a Job is of apiVersion batch/v1, not \"v1\"",
            "5:36: spec.template.spec.restartPolicy: \"Always\": the pods of a Job are restarted OnFailure or Never",
        ]
    );
}

#[test]
fn a_job_has_rules_about_how_its_pods_end() {
    let text = indexed(
        "  backoffLimitPerIndex: 1\n  maxFailedIndexes: 2\n  podFailurePolicy:\n    rules:\n    - {action: FailJob, onExitCodes: {containerName: i, operator: NotIn, values: [0, 3]}}\n    - {action: Ignore, onPodConditions: [{type: DisruptionTarget}, {type: Ready, status: \"False\"}]}\n    - {action: FailIndex, onExitCodes: {operator: In, values: [42]}}\n  successPolicy:\n    rules:\n    - {succeededIndexes: \"0,2-3\", succeededCount: 1}\n    - {succeededCount: 3}\n",
    );
    let sum = read(&text).unwrap();
    let job = sum.job.as_ref().unwrap();
    assert_eq!(job.backoff_limit, i32::MAX.unsigned_abs());
    assert_eq!(
        (job.index_backoff_limit, job.max_failed_indexes),
        (Some(1), Some(2))
    );
    assert!(job.waits_for_end);
    let words: Vec<&str> = job
        .failure_rules
        .iter()
        .map(|rule| rule.action.word())
        .collect();
    assert_eq!(words, ["FailJob", "Ignore", "FailIndex"]);
    let FailureSign::Conditions(conditions) = &job.failure_rules[1].sign else {
        panic!("{:?}", job.failure_rules);
    };
    assert_eq!(conditions[0], ("DisruptionTarget".into(), "True".into()));
    let indexes = Some(vec![(0, 0), (2, 3)]);
    let count = Some(1);
    assert_eq!(job.success_rules[0], SuccessRule { indexes, count });
    let spec = &sum.object["spec"];
    assert_eq!(spec["podReplacementPolicy"], "Failed");
    assert_eq!(spec["backoffLimit"], i32::MAX);
    let condition = &spec["podFailurePolicy"]["rules"][1]["onPodConditions"][0];
    assert_eq!(condition["status"], "True");
    let again = read(&sum.object.to_string()).unwrap();
    assert_eq!((&again.object, &again.job), (&sum.object, &sum.job));
    let plain = read(&indexed("")).unwrap();
    assert_eq!(
        plain.object["spec"]["podReplacementPolicy"],
        "TerminatingOrFailed"
    );
    assert!(!plain.job.unwrap().waits_for_end);
}

fn rules(rules: &str) -> String {
    indexed(&format!("  podFailurePolicy: {{rules: {rules}}}\n"))
}

fn success(rule: &str) -> String {
    indexed(&format!("  successPolicy: {{rules: [{rule}]}}\n"))
}

/// Each text has this one error.
fn refused<const N: usize>(cases: [(String, &str); N]) {
    for (text, part) in cases {
        let told = read(&text).expect_err("it is refused");
        let is_it = matches!(told.as_slice(), [only] if only.contains(part));
        assert!(is_it, "{text}: {told:?}");
    }
}

#[test]
fn a_rule_about_failures_has_an_action_and_one_sign() {
    let many = "{action: Count, onPodConditions: [{type: Ready}]},".repeat(21);
    let ready = "onPodConditions: [{type: Ready}]";
    let one = |rule: &str| rules(&format!("[{{{rule}}}]"));
    refused([
        (
            rules(&format!("[{many}]")),
            "podFailurePolicy.rules: 21 are more than 20",
        ),
        (
            one(ready),
            "rules[0].action: required: one of Count, FailIndex, FailJob, Ignore",
        ),
        (
            one(&format!("action: FailJobs, {ready}")),
            "did you mean FailJob?",
        ),
        (
            one(&format!("action: FailIndex, {ready}")),
            "\"FailIndex\" needs spec.backoffLimitPerIndex",
        ),
        (
            one("action: Count"),
            "rules[0]: takes one of onExitCodes and onPodConditions",
        ),
        (
            one(&format!(
                "action: Count, {ready}, onExitCodes: {{operator: In, values: [1]}}"
            )),
            "rules[0]: takes one of",
        ),
        (
            one("action: Count, onPodConditions: [{type: Ready, status: Maybe}]"),
            "onPodConditions[0].status: \"Maybe\" is not one of True, False, Unknown",
        ),
        (
            one("action: Count, onPodConditions: [{status: Unknown}]"),
            "onPodConditions[0].type: required",
        ),
    ]);
    assert!(read(&rules("[]")).is_ok());
}

#[test]
fn a_rule_about_exit_codes_names_those_of_failures() {
    let codes = |codes: &str| rules(&format!("[{{action: FailJob, onExitCodes: {{{codes}}}}}]"));
    refused([
        (
            codes("containerName: main, operator: In, values: [1]"),
            "containerName: \"main\" is the name of no container",
        ),
        (codes("values: [1]"), "operator: required: one of In, NotIn"),
        (codes("operator: In"), "values: required: at least one"),
        (
            codes("operator: In, values: [0, 1]"),
            "values: 0 is no failure",
        ),
        (
            codes("operator: NotIn, values: [2, 1]"),
            "values: must be in rising order",
        ),
        (
            codes("operator: NotIn, values: [2, 2]"),
            "values: must be in rising order",
        ),
    ]);
}

#[test]
fn a_rule_about_success_names_indexes_that_there_are() {
    refused([
        (
            success(""),
            "successPolicy.rules: required: at least one rule",
        ),
        (
            success("{}"),
            "rules[0]: takes succeededIndexes, succeededCount or both",
        ),
        (
            success("{succeededIndexes: 1-4}"),
            "succeededIndexes: \"1-4\" is not below the 4 completions",
        ),
        (
            success("{succeededIndexes: \"0,2\", succeededCount: 3}"),
            "succeededCount: 3 is not from 1 to 2",
        ),
        (
            success("{succeededCount: 0}"),
            "succeededCount: 0 is not from 1 to 4",
        ),
        (
            success("{succeededCount: 1}").replace(": Indexed", ": NonIndexed"),
            "spec.successPolicy: needs the completionMode Indexed",
        ),
    ]);
}

#[test]
fn the_pods_of_a_job_can_be_named() {
    let named = |text: &str, name: &str| text.replace("name: sum", &format!("name: {name}"));
    let plain = |name: &str| named(&indexed("").replace(": Indexed", ": NonIndexed"), name);
    let indexed =
        |name: &str, count: &str| named(&indexed(""), name).replace("s: 4", &format!("s: {count}"));
    let long = |length: usize| "n".repeat(length);
    assert!(read(&plain(&long(63))).is_ok() && read(&plain("a.b")).is_ok());
    assert!(read(&indexed(&long(61), "10")).is_ok() && read(&indexed(&long(60), "11")).is_ok());
    // None of its pods has an index.
    assert!(read(&indexed(&long(63), "0")).is_ok());
    refused([
        (
            plain(&long(64)),
            "3:18: metadata.name: is longer than 63 characters, and is a label of its pods",
        ),
        (
            indexed(&long(64), "1"),
            "metadata.name: is longer than 63 characters, and is a label of its pods",
        ),
        (
            indexed(&long(62), "1"),
            "metadata.name: with the last index (-0) it is its pod's hostname, which is longer than 63",
        ),
        (
            indexed(&long(61), "11"),
            "metadata.name: with the last index (-10) it is its pod's hostname, which is longer than 63",
        ),
        (
            indexed("a.b", "1"),
            "metadata.name: with the last index (-0) it is its pod's hostname, which must be lower-case",
        ),
        (plain("Sum"), "metadata.name: \"Sum\""),
    ]);
}

#[test]
fn limits_of_a_job_need_what_they_limit() {
    let limit = |more: &str| indexed(&format!("  backoffLimitPerIndex: {more}\n"));
    let replaced = |policy: &str| format!("  podReplacementPolicy: {policy}\n");
    refused([
        (
            limit("-1"),
            "backoffLimitPerIndex: -1 is not a number from 0",
        ),
        (
            indexed("  maxFailedIndexes: 1\n"),
            "spec.maxFailedIndexes: needs spec.backoffLimitPerIndex",
        ),
        (
            limit("0\n  maxFailedIndexes: 5"),
            "spec.maxFailedIndexes: 5 are more than the 4 completions",
        ),
        (
            limit("0").replace(": Indexed", ": NonIndexed"),
            "spec.backoffLimitPerIndex: needs the completionMode Indexed",
        ),
        (
            limit("0").replace(": Never", ": OnFailure"),
            "spec.template.spec.restartPolicy: \"OnFailure\": backoffLimitPerIndex needs Never",
        ),
        (
            rules("[]").replace(": Never", ": OnFailure"),
            "spec.template.spec.restartPolicy: \"OnFailure\": podFailurePolicy needs Never",
        ),
        (
            rules("[]").replace("  podF", &(replaced("TerminatingOrFailed") + "  podF")),
            "spec.podReplacementPolicy: \"TerminatingOrFailed\": with a podFailurePolicy",
        ),
        (
            indexed(&replaced("Never")),
            "spec.podReplacementPolicy: \"Never\" is not one of",
        ),
    ]);
}

const CRON: &str = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: night, namespace: bank}\nspec:\n  schedule: \"0 3 * * *\"\n  concurrencyPolicy: Forbid\n  suspend: true\n  jobTemplate:\n    metadata: {name: other, labels: {app: night}, annotations: {a: b}}\n    spec:\n      backoffLimit: 2\n      template:\n        spec: {restartPolicy: Never, containers: [{name: a, image: b}]}\n";

const NOW: spec::Reading<'_> = spec::Reading {
    namespace: None,
    now: Some([0; 5]),
    made: None,
};

fn now(text: &str) -> Result<Workload, Vec<String>> {
    match spec::read_as("w.yaml", text, NOW) {
        Ok(mut read) => Ok(read.workloads.remove(0)),
        Err(error) => Err(error.issues.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn the_job_of_a_cron_job_is_run_where_that_is_asked_for() {
    let night = now(CRON).unwrap();
    assert_eq!(
        (night.kind, night.name.as_str()),
        (WorkloadKind::Job, "night-bbbbb")
    );
    assert_eq!(night.namespace, "bank");
    assert_eq!(night.job.as_ref().unwrap().backoff_limit, 2);
    assert_eq!(night.labels["app"], "night");
    let annotations = &night.object["metadata"]["annotations"];
    assert_eq!(annotations["cronjob.kubernetes.io/instantiate"], "manual");
    assert_eq!(annotations["a"], "b");
    assert_eq!(
        night.template.warnings,
        ["without a cluster these fields have no effect: spec.concurrencyPolicy, spec.suspend"]
    );
    assert_eq!(night.cron_job.as_deref(), Some("night"));
    for (name, is_its) in [
        ("night-bbbbb", true),
        ("night-bbbb", false),
        ("night-a-bbbbb", false),
        ("nigh-bbbbb", false),
        ("nightbbbbbb", false),
        ("night-b-b.b", false),
    ] {
        assert_eq!(
            spec::is_job_of("night", name, &night.object),
            is_its,
            "{name}"
        );
    }
    let clock = serde_json::json!({"metadata": {"annotations": {"a": "b"}}});
    assert!(!spec::is_job_of("night", "night-bbbbb", &clock));
    // What is kept of it is a job like others.
    let again = read(&night.object.to_string()).unwrap();
    assert_eq!((again.object, again.job), (night.object, night.job));
    let told = read(CRON).unwrap_err();
    assert_eq!(
        told,
        [
            "2:7: kind: CronJob is not supported: no daemon is here to start its Job by the clock (beluga run --now -f FILE runs its Job once; cron or a systemd timer can do so)"
        ]
    );
}

#[test]
fn errors_of_a_cron_job_are_told_with_their_place_in_it() {
    let bad = "apiVersion: batch/v1beta1\nkind: CronJob\nmetadata: {nam: night}\nspec:\n  scedule: x\n  concurrencyPolicy: allow\n  jobTemplate:\n    metadata: {lables: {a: b}}\n    template: {}\n    spec:\n      completions: -1\n      template:\n        spec: {containers: [{name: a, image: b, prots: []}]}\n";
    assert_eq!(
        now(bad).unwrap_err(),
        [
            "1:13: apiVersion: a CronJob is of apiVersion batch/v1, not \"batch/v1beta1\"",
            "3:1: metadata.name: required: the CronJob's name",
            "3:12: metadata.nam: unknown field (did you mean name?)",
            "4:1: spec.schedule: required",
            "5:3: spec.scedule: unknown field (did you mean schedule?)",
            "6:22: spec.concurrencyPolicy: \"allow\" is not one of Allow, Forbid, Replace (did you mean Allow?)",
            "8:16: spec.jobTemplate.metadata.lables: unknown field (did you mean labels?)",
            "9:5: spec.jobTemplate.template: unknown field",
            "11:20: spec.jobTemplate.spec.completions: -1 is not a number from 0",
            "13:9: spec.jobTemplate.spec.template.spec.restartPolicy: required: OnFailure or Never, since a Job ends",
            "13:49: spec.jobTemplate.spec.template.spec.containers[0].prots: unknown field (did you mean ports?)",
        ]
    );
    let long = CRON.replace("name: night", &format!("name: {}", "n".repeat(53)));
    assert_eq!(
        now(&long).unwrap_err(),
        ["3:18: metadata.name: longer than 52 characters"]
    );
}
