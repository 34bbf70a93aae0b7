//! Deployments and their like: what is read of them, and what is refused.

use beluga_runtime::spec::{self, Update, Workload, WorkloadKind};

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
        .replace(
            "accessModes: [ReadWriteOnce]",
            "storageClassName: beluga-disk, accessModes: [ReadWriteMany]",
        )
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
            "15:57: spec.volumeClaimTemplates[0].spec.accessModes[0]: ReadWriteMany is refused: a disk belongs to one pod's machine at a time",
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
        .replace("  template", "  completionMode: Indexed\n  parallelism: 2\n  backoffLimit: -1\n  activeDeadlineSeconds: 0\n  selector: {matchLabels: {a: b}}\n  podFailurePolicy: {rules: []}\n  template");
    assert_eq!(
        read(&bad).unwrap_err(),
        [
            "4:1: spec.completions: required with the completionMode Indexed",
            "7:17: spec.backoffLimit: -1 is not a number from 0",
            "8:26: spec.activeDeadlineSeconds: 0 is not a number of seconds from 1",
            "9:3: spec.selector: is made by the system: leave it out",
            "10:3: spec.podFailurePolicy: not supported yet",
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
