//! Deployments and their like: what is read of them, and what is refused.

use beluga_runtime::spec::{self, FailureSign, SuccessRule, Update, Workload, WorkloadKind};

fn read(text: &str) -> Result<Workload, Vec<String>> {
    match spec::read("w.yaml", text) {
        Ok(mut read) => Ok(read.workloads.remove(0)),
        Err(error) => Err(error.issues.iter().map(ToString::to_string).collect()),
    }
}

fn deployment(more: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, labels: {{team: a}}}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n{more}  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      containers: [{{name: main, image: busybox}}]\n"
    )
}

#[test]
fn defaults_are_those_of_the_api_server() {
    let web = read(&deployment("")).unwrap();
    assert_eq!((web.kind, web.replicas), (WorkloadKind::Deployment, 1));
    assert_eq!(web.namespace, "default");
    // A quarter of one pod: one more, and none less.
    let one_more = Update::Rolling {
        surge: 1,
        unavailable: 0,
    };
    assert_eq!(web.update, one_more);
    assert_eq!(
        web.object["spec"]["strategy"]["rollingUpdate"]["maxSurge"],
        "25%"
    );
    let prefix = format!("web-{}-", web.hash);
    let name = web.template.spec.name.resolve([0; 5]);
    assert_eq!(name, format!("{prefix}bbbbb"));
    assert!(web.hash.len() >= 8 && web.hash.bytes().all(|b| b.is_ascii_alphanumeric()));
}

#[test]
fn shares_of_pods_are_rounded_as_kubernetes_does() {
    for (strategy, wanted) in [
        ("{maxSurge: 30%, maxUnavailable: 30%}", (3, 2)),
        ("{maxSurge: 0, maxUnavailable: 10%}", (0, 1)),
        ("{maxSurge: 2}", (2, 2)),
    ] {
        let more = format!("  replicas: 8\n  strategy: {{rollingUpdate: {strategy}}}\n");
        let (surge, unavailable) = wanted;
        let found = read(&deployment(&more)).unwrap().update;
        assert_eq!(found, Update::Rolling { surge, unavailable }, "{strategy}");
    }
}

#[test]
fn a_template_is_known_again_and_another_one_is_not() {
    let hash = |text: &str| read(text).unwrap().hash;
    let text = deployment("");
    assert_eq!(hash(&text), hash(&deployment("  replicas: 5\n")));
    assert_ne!(hash(&text), hash(&text.replace("busybox", "nginx")));
    assert_ne!(
        hash(&text),
        hash(&text.replace(
            "{labels: {app: web}}\n    spec",
            "{labels: {app: web, v: \"2\"}}\n    spec"
        ))
    );
}

#[test]
fn what_is_kept_reads_as_the_same_again() {
    let web = read(&deployment("  replicas: 3\n")).unwrap();
    let again = read(&web.object.to_string()).unwrap();
    assert_eq!((&again.object, again.hash), (&web.object, web.hash));
}

#[test]
fn errors_are_told_with_the_templates_path() {
    let text = "apiVersion: v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replica: 3\n  replicas: -1\n  restartPolicy: Never\n  minReadySeconds: 5\n  paused: true\n  strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: api}}\n    spec:\n      restartPolicy: Never\n      activeDeadlineSeconds: 5\n      hostNetwork: true\n      containers: [{name: a, image: b, image: c, prots: []}]\n";
    let expected = [
        "1:13: apiVersion: a Deployment is of apiVersion apps/v1, not \"v1\"",
        "5:3: spec.replica: unknown field (did you mean replicas?)",
        "6:13: spec.replicas: -1 is not from 0 to 10000",
        "7:3: spec.restartPolicy: unknown field (restartPolicy belongs under spec.template.spec)",
        "9:11: spec.paused: not supported yet",
        "10:30: spec.strategy.rollingUpdate: may not stand beside the type Recreate",
        "11:3: spec.selector: does not match the labels of the template (spec.template.metadata.labels)",
        "15:22: spec.template.spec.restartPolicy: \"Never\": the pods of a Deployment are restarted Always",
        "16:30: spec.template.spec.activeDeadlineSeconds: the pods of a Deployment have no end",
        "17:20: spec.template.spec.hostNetwork: refused: a pod runs in a machine of its own and cannot share the host's",
        "18:40: the key \"image\" stands here a second time; first on line 18",
        "18:50: spec.template.spec.containers[0].prots: unknown field (did you mean ports?)",
    ];
    assert_eq!(read(text).unwrap_err(), expected);
}

#[test]
fn the_other_kinds_have_their_own_rules() {
    let set = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  replicas: 2\n  serviceName: db\n  ordinals: {start: 5}\n  selector: {matchLabels: {app: db}}\n  template:\n    metadata: {labels: {app: db}}\n    spec:\n      containers: [{name: a, image: b, volumeMounts: [{name: data, mountPath: /data}]}]\n  volumeClaimTemplates:\n  - metadata: {name: data}\n    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}\n";
    let db = read(set).unwrap();
    let ordinals = db.ordinals.as_ref().unwrap();
    assert_eq!((ordinals.first, ordinals.in_order), (5, true));
    assert_eq!(ordinals.claims, ["data"]);
    assert_eq!(
        db.template.warnings,
        ["without a cluster these fields have no effect: spec.serviceName"]
    );
    let daemon = deployment("").replace("Deployment", "DaemonSet");
    let daemon = read(&daemon).unwrap();
    let one_less = Update::Rolling {
        surge: 0,
        unavailable: 1,
    };
    assert_eq!((daemon.replicas, daemon.update), (1, one_less));
    let replicas = read(&deployment("").replace("Deployment", "ReplicaSet")).unwrap();
    assert_eq!(replicas.update, Update::OnDelete);
    let bad = set
        .replace("[ReadWriteOnce]", "[ReadWriteMany]")
        .replace("start: 5", "start: -5")
        .replace(
            "serviceName: db",
            "updateStrategy: {rollingUpdate: {maxUnavailable: 2}}",
        );
    assert_eq!(
        read(&bad).unwrap_err(),
        [
            "6:52: spec.updateStrategy.rollingUpdate.maxUnavailable: not supported yet",
            "7:21: spec.ordinals.start: -5 is not a number from 0",
            "15:26: spec.volumeClaimTemplates[0].spec.accessModes[0]: ReadWriteMany is refused: a disk belongs to one pod's machine at a time",
        ]
    );
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
    let more = text.replace("  template", "  parallelism: 3\n  template");
    assert_eq!(read(&more).unwrap().job.unwrap().completions, None);
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

const CONTROLLER: &str = "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: web}\nspec:\n  replicas: 2\n  minReadySeconds: 3\n  template:\n    metadata: {labels: {app: web, tier: a}}\n    spec:\n      containers: [{name: main, image: busybox}]\n";

#[test]
fn a_replication_controller_is_known_by_the_labels_of_its_template() {
    let web = read(CONTROLLER).unwrap();
    assert_eq!(web.kind, WorkloadKind::ReplicationController);
    assert_eq!((web.replicas, web.update), (2, Update::OnDelete));
    assert_eq!(web.object["spec"]["selector"]["tier"], "a");
    assert_eq!(web.object["metadata"]["labels"]["app"], "web");
    assert_eq!(web.labels["app"], "web");
    assert_eq!(web.template.spec.name.resolve([0; 5]), "web-bbbbb");
    assert_eq!(
        web.template.warnings,
        ["without a cluster these fields have no effect: spec.minReadySeconds"]
    );
    let again = read(&web.object.to_string()).unwrap();
    assert_eq!((&again.object, again.hash), (&web.object, web.hash));
    let own = CONTROLLER
        .replace("{name: web}", "{name: web, labels: {team: b}}")
        .replace("  replicas", "  selector: {app: web}\n  replicas");
    let own = read(&own).unwrap();
    assert_eq!(
        own.object["spec"]["selector"].to_string(),
        r#"{"app":"web"}"#
    );
    assert!(!own.labels.contains_key("app"));
}

#[test]
fn what_a_replication_controller_cannot_be_is_told() {
    let other = CONTROLLER.replace("  replicas", "  selector: {app: api}\n  replicas");
    let none = CONTROLLER.replace("{labels: {app: web, tier: a}}", "{}");
    let long = CONTROLLER.replace("  replicas: 2", "  selector: {matchLabels: {app: web}}");
    let empty =
        "apiVersion: apps/v1\nkind: ReplicationController\nmetadata: {name: web}\nspec: {}\n";
    let expected: [(&str, &[&str]); 4] = [
        (
            &other,
            &[
                "5:3: spec.selector: does not match the labels of the template (spec.template.metadata.labels)",
            ],
        ),
        (
            &none,
            &[
                "4:1: spec.selector: required: labels that the template's pods have, like {app: web}",
            ],
        ),
        (
            &long,
            &["5:14: spec.selector.matchLabels: expected a text, got an object"],
        ),
        (
            empty,
            &[
                "1:13: apiVersion: a ReplicationController is of apiVersion v1, not \"apps/v1\"",
                "4:1: spec.selector: required: labels that the template's pods have, like {app: web}",
                "4:1: spec.template: required: the pods that it shall have",
                "4:1: spec.template.spec: required",
            ],
        ),
    ];
    for (text, told) in expected {
        assert_eq!(read(text).unwrap_err(), told, "{text}");
    }
}

/// A job of four pods with indexes.
fn indexed(more: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: sum}}\nspec:\n  completionMode: Indexed\n  completions: 4\n{more}  template: {{spec: {{restartPolicy: Never, containers: [{{name: a, image: b}}], initContainers: [{{name: i, image: b}}]}}}}\n"
    )
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

#[test]
fn rules_of_a_job_that_cannot_be_meant_are_refused() {
    let rules = |rules: &str| indexed(&format!("  podFailurePolicy: {{rules: {rules}}}\n"));
    let codes = |codes: &str| rules(&format!("[{{action: FailJob, onExitCodes: {{{codes}}}}}]"));
    let success = |rule: &str| indexed(&format!("  successPolicy: {{rules: [{rule}]}}\n"));
    let many = format!(
        "[{}]",
        "{action: Count, onPodConditions: [{type: Ready}]},".repeat(21)
    );
    for (text, part) in [
        (rules(&many), "podFailurePolicy.rules: 21 are more than 20"),
        (
            rules("[{onPodConditions: [{type: Ready}]}]"),
            "rules[0].action: required: one of Count, FailIndex, FailJob, Ignore",
        ),
        (
            rules("[{action: FailJobs, onPodConditions: [{type: Ready}]}]"),
            "did you mean FailJob?",
        ),
        (
            rules("[{action: FailIndex, onPodConditions: [{type: Ready}]}]"),
            "\"FailIndex\" needs spec.backoffLimitPerIndex",
        ),
        (
            rules("[{action: Count}]"),
            "rules[0]: takes one of onExitCodes and onPodConditions",
        ),
        (
            rules(
                "[{action: Count, onPodConditions: [{type: Ready}], onExitCodes: {operator: In, values: [1]}}]",
            ),
            "rules[0]: takes one of",
        ),
        (
            rules("[{action: Count, onPodConditions: [{type: Ready, status: Maybe}]}]"),
            "onPodConditions[0].status: \"Maybe\" is not one of True, False, Unknown",
        ),
        (
            rules("[{action: Count, onPodConditions: [{status: Unknown}]}]"),
            "onPodConditions[0].type: required",
        ),
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
            indexed("  backoffLimitPerIndex: -1\n"),
            "backoffLimitPerIndex: -1 is not a number from 0",
        ),
        (
            indexed("  maxFailedIndexes: 1\n"),
            "spec.maxFailedIndexes: needs spec.backoffLimitPerIndex",
        ),
        (
            indexed("  backoffLimitPerIndex: 0\n  maxFailedIndexes: 5\n"),
            "spec.maxFailedIndexes: 5 are more than the 4 completions",
        ),
        (
            indexed("  backoffLimitPerIndex: 0\n").replace(": Indexed", ": NonIndexed"),
            "spec.backoffLimitPerIndex: needs the completionMode Indexed",
        ),
        (
            success("{succeededCount: 1}").replace(": Indexed", ": NonIndexed"),
            "spec.successPolicy: needs the completionMode Indexed",
        ),
        (
            indexed("  backoffLimitPerIndex: 0\n").replace(": Never", ": OnFailure"),
            "spec.template.spec.restartPolicy: \"OnFailure\": backoffLimitPerIndex needs Never",
        ),
        (
            rules("[]").replace(": Never", ": OnFailure"),
            "spec.template.spec.restartPolicy: \"OnFailure\": podFailurePolicy needs Never",
        ),
        (
            rules("[]").replace(
                "  podF",
                "  podReplacementPolicy: TerminatingOrFailed\n  podF",
            ),
            "spec.podReplacementPolicy: \"TerminatingOrFailed\": with a podFailurePolicy",
        ),
        (
            indexed("  podReplacementPolicy: Never\n"),
            "spec.podReplacementPolicy: \"Never\" is not one of",
        ),
    ] {
        let told = read(&text).unwrap_err();
        assert!(
            matches!(told.as_slice(), [only] if only.contains(part)),
            "{text}: {told:?}"
        );
    }
    assert!(read(&rules("[]")).is_ok());
}

const CRON: &str = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: night, namespace: bank}\nspec:\n  schedule: \"0 3 * * *\"\n  concurrencyPolicy: Forbid\n  suspend: true\n  jobTemplate:\n    metadata: {name: other, labels: {app: night}, annotations: {a: b}}\n    spec:\n      backoffLimit: 2\n      template:\n        spec: {restartPolicy: Never, containers: [{name: a, image: b}]}\n";

fn now(text: &str) -> Result<Workload, Vec<String>> {
    match spec::read_now("w.yaml", text, [0; 5]) {
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
        ["without a cluster these fields have no effect: spec.concurrencyPolicy"]
    );
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
