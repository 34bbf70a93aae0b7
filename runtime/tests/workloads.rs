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
    let all_at_once = read(&deployment("  strategy: {type: Recreate}\n"));
    assert_eq!(all_at_once.unwrap().update, Update::Recreate);
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
fn a_selector_may_be_written_as_expressions() {
    let expressions = "{matchExpressions: [{key: app, operator: In, values: [web, api]}]}";
    let text = deployment("").replace("{matchLabels: {app: web}}", expressions);
    assert_eq!(read(&text).unwrap().name, "web");
    let daemon = text.replace("Deployment", "DaemonSet");
    assert_eq!(read(&daemon).unwrap().kind, WorkloadKind::DaemonSet);
    let others = text.replace("operator: In", "operator: NotIn");
    assert_eq!(
        read(&others).unwrap_err(),
        [
            "5:3: spec.selector: does not match the labels of the template (spec.template.metadata.labels)"
        ]
    );
}

#[test]
fn how_long_and_when_is_read() {
    let web = read(&deployment("  progressDeadlineSeconds: 5\n")).unwrap();
    assert_eq!(web.progress_seconds, 5);
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: sum}\nspec:\n  suspend: true\n  ttlSecondsAfterFinished: 9\n  podReplacementPolicy: Failed\n  template: {spec: {restartPolicy: Never, containers: [{name: a, image: b}]}}\n";
    let job = read(job).unwrap().job.unwrap();
    assert_eq!((job.is_suspended, job.ttl_seconds), (true, Some(9)));
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
        "18:40: spec.template.spec.containers[0].image: stands here a second time; first on line 18",
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
    assert_eq!(ordinals.service.as_deref(), Some("db"));
    assert!(db.template.warnings.is_empty());
    let daemon = deployment("").replace("Deployment", "DaemonSet");
    let daemon = read(&daemon).unwrap();
    let one_less = Update::Rolling {
        surge: 0,
        unavailable: 1,
    };
    assert_eq!((daemon.replicas, daemon.update), (1, one_less));
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
fn a_selector_may_have_expressions_that_the_template_fits() {
    let with = |expression: &str| {
        deployment("").replace(
            "{matchLabels: {app: web}}",
            &format!("{{matchExpressions: [{expression}]}}"),
        )
    };
    for (expression, fits) in [
        ("{key: app, operator: In, values: [api, web]}", true),
        ("{key: app, operator: In, values: [api]}", false),
        ("{key: app, operator: NotIn, values: [api]}", true),
        ("{key: app, operator: Exists}", true),
        ("{key: tier, operator: Exists}", false),
        ("{key: tier, operator: DoesNotExist}", true),
    ] {
        let told = read(&with(expression)).err().unwrap_or_default();
        assert_eq!(told.is_empty(), fits, "{expression}: {told:?}");
    }
    let patient = read(&deployment("  progressDeadlineSeconds: 5\n")).unwrap();
    assert_eq!(patient.progress_seconds, 5);
}

#[test]
fn a_replica_set_has_its_own_rules() {
    let set = |text: &str| read(&deployment("  replicas: 4\n").replace("Deployment", text));
    let found = set("ReplicaSet").unwrap();
    assert_eq!((found.replicas, found.update), (4, Update::OnDelete));
    assert_eq!(found.template.spec.name.resolve([0; 5]), "web-bbbbb");
}

#[test]
fn a_daemon_set_is_updated_as_it_says() {
    for (strategy, wanted) in [
        ("{type: OnDelete}", Update::OnDelete),
        (
            "{type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}",
            Update::Rolling {
                surge: 1,
                unavailable: 0,
            },
        ),
        (
            "{rollingUpdate: {maxUnavailable: 50%}}",
            Update::Rolling {
                surge: 0,
                unavailable: 1,
            },
        ),
    ] {
        let text = deployment(&format!("  updateStrategy: {strategy}\n"));
        let found = read(&text.replace("Deployment", "DaemonSet")).unwrap();
        assert_eq!(found.update, wanted, "{strategy}");
    }
}

#[test]
fn policies_of_a_stateful_set_are_read() {
    let set = deployment("  podManagementPolicy: Parallel\n  updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 3}}\n  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}\n")
        .replace("Deployment", "StatefulSet");
    let ordinals = read(&set).unwrap().ordinals.unwrap();
    assert_eq!((ordinals.in_order, ordinals.partition), (false, 3));
    assert_eq!(
        (ordinals.delete_claims, ordinals.trim_claims),
        (true, false)
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
