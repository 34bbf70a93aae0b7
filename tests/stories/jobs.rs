//! Jobs: pods that come to an end.

use crate::workloads::{apply, pods};
use beluga_tests::{eventually, shared};

/// A Job of three indexes, of which two are enough, and what its pods wait for.
fn counting(is_suspended: bool, word: &str) -> String {
    format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: count}}
data: {{word: {word}}}
---
apiVersion: batch/v1
kind: Job
metadata: {{name: count}}
spec:
  suspend: {is_suspended}
  completionMode: Indexed
  completions: 3
  parallelism: 1
  backoffLimit: 0
  successPolicy: {{rules: [{{succeededCount: 2}}]}}
  template:
    metadata: {{labels: {{app: count}}}}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      volumes: [{{name: told, configMap: {{name: count}}}}]
      containers:
      - name: main
        image: busybox
        command: [sh, -c, 'until grep -q go /told/word; do sleep 1; done; echo index $JOB_COMPLETION_INDEX on $(hostname)']
        volumeMounts: [{{name: told, mountPath: /told}}]
"
    )
}

/// A value of the Job of that name.
#[track_caller]
fn value(path: &str) -> String {
    let form = format!("jsonpath={{{path}}}");
    let ran = shared().run(["get", "job", "count", "-o", &form]).ok();
    ran.text().to_owned()
}

/// What the last pod of an index of a Job has said.
#[track_caller]
fn logs(job: &str, index: u32) -> String {
    let label = format!("app={job},batch.kubernetes.io/job-completion-index={index}");
    let name = shared().run(["get", "pods", "-l", &label, "-o", "name"]);
    shared().run(["logs", name.ok().text()]).ok().out
}

/// Waits until the Job's only pod runs, and takes it away.
#[track_caller]
fn suspend() {
    eventually("its first pod runs", || {
        let phase = |pod: &serde_json::Value| pod["status"]["phase"] == "Running";
        pods(shared(), "count").iter().any(phase).then_some(())
    });
    apply(shared(), &counting(true, "wait"));
    eventually("it has no pod", || {
        pods(shared(), "count").is_empty().then_some(())
    });
    assert_eq!(value(".status.conditions[*].type"), "Suspended");
}

#[test]
fn a_job_is_suspended_goes_on_and_is_complete_by_its_success_policy() {
    apply(shared(), &counting(false, "wait"));
    suspend();
    // With backoffLimit 0 a pod that counted would be the end of it.
    apply(shared(), &counting(false, "go"));
    let complete = "--for=condition=Complete";
    let wait = ["wait", "job/count", complete, "--timeout=150s"];
    shared().run(wait).ok();
    assert_eq!(value(".status.conditions[0].reason"), "SuccessPolicy");
    assert_eq!(value(".status.failed"), "0");
    let table = shared().run(["get", "jobs"]).ok();
    drop(table.says("Complete").says("2/3"));
    assert_eq!(logs("count", 0), "index 0 on count-0\n");
    assert_eq!(logs("count", 1), "index 1 on count-1\n");
    shared().run(["delete", "job/count", "cm/count"]).ok();
    assert!(pods(shared(), "count").is_empty());
}

/// A CronJob whose Job fails by a rule where its limit lets six pods more be tried.
const SORRY: &str = "
apiVersion: batch/v1
kind: CronJob
metadata: {name: sorry}
spec:
  schedule: '0 3 * * *'
  jobTemplate:
    spec:
      podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [7]}}]}
      template:
        metadata: {labels: {app: sorry}}
        spec:
          restartPolicy: Never
          terminationGracePeriodSeconds: 0
          containers: [{name: main, image: busybox, command: [sh, -c, 'echo regrets; exit 7']}]
";

#[test]
fn the_job_of_a_cron_job_fails_by_its_rule_and_says_so_in_the_foreground() {
    let ran = shared().feed(["run", "--now", "--rm", "-f", "-"], SORRY.as_bytes());
    assert_eq!(ran.exits(7).out.matches("regrets").count(), 1);
    assert!(pods(shared(), "sorry").is_empty());
    let absent = shared()
        .feed(["delete", "-f", "-"], SORRY.as_bytes())
        .exits(1);
    drop(absent.complains("cronjob.batch \"sorry\" not found"));
}

#[test]
fn the_jobs_of_a_cron_job_are_deleted_with_its_file() {
    // By another name: what is deleted is all that a CronJob of this one has made.
    let later = SORRY.replace("sorry", "later");
    let later = later.replace("      podF", "      suspend: true\n      podF");
    let feed = |args: &[&str]| shared().feed(args.iter().copied(), later.as_bytes());
    for _ in 0..2 {
        drop(
            feed(&["run", "--now", "-d", "-f", "-"])
                .ok()
                .says("job.batch/later-"),
        );
    }
    let told = feed(&["delete", "-f", "-"]).ok().out;
    assert_eq!(told.matches("job.batch \"later-").count(), 2, "{told}");
    feed(&["delete", "-f", "-"]).exits(1);
}

/// A Job of one container that runs a line of shell.
fn job(name: &str, line: &str, more: &str) -> String {
    format!(
        "
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
{more}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      containers: [{{name: main, image: busybox, command: [sh, -c, {line:?}]}}]
"
    )
}

#[test]
fn a_job_runs_until_its_completions_are_reached() {
    let line = "echo index $JOB_COMPLETION_INDEX on $(hostname)";
    let more = "  completionMode: Indexed\n  completions: 2\n  parallelism: 1";
    let said = apply(shared(), &job("reached", line, more));
    assert_eq!(said, "job.batch/reached created\n");
    let wait = "wait job/reached --for=condition=Complete --timeout=150s";
    shared().types(wait).ok();
    shared()
        .types("get job reached")
        .ok()
        .tells(&["Complete", "2/2"]);
    assert_eq!(logs("reached", 0), "index 0 on reached-0\n");
    assert_eq!(logs("reached", 1), "index 1 on reached-1\n");
    shared().types("delete job reached").ok();
    assert!(pods(shared(), "reached").is_empty());
}

#[test]
fn a_job_that_fails_says_so_in_the_foreground() {
    let manifest = job("regret", "echo regret; exit 7", "  backoffLimit: 0");
    let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: regret}\n";
    let manifest = manifest + map;
    let ran = shared().feed(["run", "--rm", "-f", "-"], manifest.as_bytes());
    ran.exits(7).says("regret");
    shared().types("get job regret").exits(1);
    // What came with it goes with it.
    shared().types("get cm regret").exits(1);
    assert!(pods(shared(), "regret").is_empty());
}
