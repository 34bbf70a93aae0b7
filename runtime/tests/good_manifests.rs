//! Manifests that are taken: the forms in which people write them, what is
//! filled in, and what is said about them.

use beluga_runtime::spec::{
    self, Document, EnvValue, Medium, PodName, RestartPolicy, VolumeSource,
};

fn parse(text: &str) -> Vec<Document> {
    spec::parse("pod.yaml", text).unwrap_or_else(|error| panic!("{error}"))
}

fn one(text: &str) -> Document {
    let mut documents = parse(text);
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

#[test]
fn defaults_are_those_of_kubernetes() {
    let document = one(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  volumes: [{name: v}]\n  containers: [{name: a, image: b, ports: [{containerPort: 80}]}]\n",
    );
    let spec = &document.spec;
    assert_eq!(spec.namespace, "default");
    assert_eq!(spec.restart_policy, RestartPolicy::Always);
    assert_eq!(spec.grace_seconds, 30);
    assert!(spec.dns.from_host);
    assert_eq!(spec.containers[0].ports[0].protocol, "TCP");
    assert!(spec.containers[0].security.allow_privilege_escalation);
    assert_eq!(
        spec.volumes[0].source,
        VolumeSource::EmptyDir {
            medium: Medium::Disk,
            size_limit: None
        }
    );
    assert!(document.warnings.is_empty());
    let shown = serde_json::to_value(&document.pod).unwrap();
    assert_eq!(shown["spec"]["dnsPolicy"], "ClusterFirst");
    assert_eq!(shown["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(
        shown["spec"]["volumes"][0]["emptyDir"],
        serde_json::json!({})
    );
}

#[test]
fn own_output_is_taken_again_and_means_the_same() {
    let first = one(include_str!("golden/web.yaml"));
    let text = serde_saphyr::to_string(&first.pod).unwrap();
    assert_eq!(one(&text).spec, first.spec);
    let json = serde_json::to_string_pretty(&first.pod).unwrap();
    assert_eq!(one(&json).spec, first.spec);
    assert_eq!(one(&json.replace("  ", "\t")).spec, first.spec);
}

#[test]
fn a_cluster_s_fields_are_listed_in_one_warning() {
    let document = one(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  nodeSelector: {a: b}\n  serviceAccountName: x\n  tolerations: [{operator: Exists}]\n  priority: 0\n  containers: [{name: a, image: b, imagePullPolicy: Always}]\n",
    );
    assert_eq!(
        document.warnings,
        [
            "without a cluster these fields have no effect: spec.nodeSelector, spec.priority, spec.serviceAccountName, spec.tolerations",
        ]
    );
}

#[test]
fn what_a_node_without_selinux_and_apparmor_has_no_use_for_is_told() {
    let document = one(include_str!("golden/cluster.yaml"));
    assert_eq!(
        document.warnings,
        [
            "spec.securityContext.seLinuxChangePolicy: has no effect: a pod's machine has no SELinux",
            "spec.securityContext.seLinuxOptions: has no effect: a pod's machine has no SELinux",
            "spec.containers[0].securityContext.appArmorProfile: has no effect: a pod's machine has no AppArmor",
            "spec.containers[0].securityContext.seLinuxOptions: has no effect: a pod's machine has no SELinux",
        ]
    );
}

#[test]
fn what_means_something_to_a_cluster_only_is_left_out_beside_what_runs() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b}]}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r}\n";
    let manifest = beluga_runtime::spec::read("m.yaml", text).unwrap();
    assert_eq!(manifest.pods.len(), 1);
    assert_eq!(
        manifest.warnings,
        [
            "m.yaml:2:7: Service \"web\" is left out: it means something to a cluster only",
            "m.yaml:11:7: Role \"r\" is left out: it means something to a cluster only",
        ]
    );
    // Where there is nothing else it is no success, and a typing error is none ever.
    for text in [
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n",
        &text.replace("kind: Role", "kind: Roll"),
    ] {
        let refused = beluga_runtime::spec::read("m.yaml", text).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains("is not supported; Pod,"), "{refused}");
    }
}

#[test]
fn texts_of_other_tools_are_read() {
    let of = |name: &str| {
        format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {{\"name\": \"{name}\"}}, \"spec\": {{\"containers\": [{{\"name\": \"a\", \"image\": \"b\", \"args\": [\"\\ud83d\\ude00 \\\\ud83d\"]}}]}}}}"
        )
    };
    for between in ["\n", ""] {
        let found = parse(&format!("{}{between}{}", of("a"), of("b")));
        let args = found
            .iter()
            .map(|one| one.spec.containers[0].args[0].as_str());
        assert_eq!(
            args.collect::<Vec<_>>(),
            ["\u{1f600} \\ud83d"; 2],
            "{between:?}"
        );
    }
    let bare = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: b}]}}";
    let marked = format!(
        "\u{feff}{bare}\n---\n\u{feff}{}",
        bare.replace("name: a}, spec", "name: b}, spec")
    );
    assert_eq!(parse(&marked).len(), 2);
    let pod = "metadata: {name: a}, spec: {containers: [{name: a, image: b}]}";
    for list in [
        format!("kind: PodList, items: [{{{pod}}}]"),
        format!(
            "kind: List, items: [{{apiVersion: v1, kind: List, items: [{{apiVersion: v1, kind: Pod, {pod}}}]}}]"
        ),
    ] {
        assert_eq!(
            parse(&format!("{{apiVersion: v1, {list}}}")).len(),
            1,
            "{list}"
        );
    }
    let wrong = "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: PodList, items: [{spec: 1}]}]}";
    let wrong = spec::parse("l.yaml", wrong).unwrap_err();
    assert!(
        wrong
            .issues
            .iter()
            .any(|one| one.path == "items[0].items[0].spec"),
        "{wrong}"
    );
    let map = "{apiVersion: v1, kind: ConfigMapList, items: [{metadata: {name: m}, data: {k: }}]}";
    let map = spec::read("m.yaml", map).unwrap().objects.remove(0);
    assert_eq!(map.value("k"), Some(&b""[..]));
    let numbers = "activeDeadlineSeconds: 1e+06\n  terminationGracePeriodSeconds: 30.0\n";
    let spec = one(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  {numbers}  containers: [{{name: a, image: b}}]\n")).spec;
    assert_eq!(
        (spec.active_deadline_seconds, spec.grace_seconds),
        (Some(1_000_000), 30)
    );
}

#[test]
fn habits_that_kubernetes_takes_are_read() {
    let pod = |container: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    io.Example.ID/web: x\nspec:\n  containers:\n  - name: a\n    image: b\n{container}"
        )
    };
    let command = |container: &str| one(&pod(container)).spec.containers[0].command.clone();
    let closed =
        "    command: [\n      \"sh\",\n      \"-c\"\n    ]\n    args: [\n      'x'\n    ]\n";
    assert_eq!(command(closed), ["sh", "-c"]);
    let continued = "    command: [\"sh\", \"-c\", \"a;\n    b \\\"c\\\"\n\n    d\"]\n";
    assert_eq!(command(continued)[2], "a; b \"c\"\nd");
    let single = "    command: ['it''s\n    fine']\n";
    assert_eq!(command(single), ["it's fine"]);
    let escaped = "    command: [sh, -c, \"echo \\'a\\' \\\\ \\x41\"]\n";
    assert_eq!(command(escaped)[2], "echo 'a' \\ A");
    let tabs = "    command:\t[a]\n    args:\n    - \"a\tb\"\n    workingDir:\t\t/a # x:\ty\n    stdin:\ttrue\n    terminationMessagePolicy: \tFile\n    imagePullPolicy:\tNever\t# b\n";
    let tabbed = &one(&pod(tabs)).spec.containers[0];
    assert_eq!((tabbed.args[0].as_str(), tabbed.stdin), ("a\tb", true));
    let prefixed = "    securityContext: {capabilities: {drop: [CAP_MKNOD]}}\n";
    let security = &one(&pod(prefixed)).spec.containers[0].security;
    assert!(security.drop_capabilities.contains("MKNOD"), "{security:?}");
}

#[test]
fn what_is_no_yaml_is_told_where_it_is_though_others_were_read_on() {
    let text = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command: [\n      \"sh\"\n    ]\n    args: [\"a\n";
    // One that would be blown up to gigabytes by being put right.
    let (blanks, lines) = (" ".repeat(60_000), "\n".repeat(60_000));
    let bomb = format!("a:\n b:{blanks}\"{lines}\"");
    for text in [text, &bomb] {
        let refused = beluga_runtime::spec::read("m.yaml", text).unwrap_err();
        assert!(refused.to_string().contains("not valid YAML"), "{refused}");
    }
}

#[test]
fn what_a_cluster_prints_is_taken() {
    let document = one(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  uid: 1\n  resourceVersion: \"7\"\n  creationTimestamp: \"2024-01-01T00:00:00Z\"\n  deletionTimestamp: \"2024-01-01T00:00:09Z\"\n  deletionGracePeriodSeconds: 9\n  generation: 2\n  selfLink: /api\n  managedFields: [{manager: kubectl, operation: Apply, apiVersion: v1, time: \"2024-01-01T00:00:00Z\", fieldsType: FieldsV1, fieldsV1: {\"f:spec\": {}}, subresource: status}]\nspec:\n  dnsPolicy: ClusterFirst\n  enableServiceLinks: true\n  schedulerName: default-scheduler\n  securityContext: {}\n  containers:\n  - name: a\n    image: b\n    resources: {}\n    terminationMessagePath: /dev/termination-log\n    terminationMessagePolicy: File\n    volumeMounts:\n    - {name: own, mountPath: /own}\n    - {name: kube-api-access-x7k2p, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}\n  volumes:\n  - {name: own, emptyDir: {}}\n  - name: kube-api-access-x7k2p\n    projected:\n      defaultMode: 420\n      sources:\n      - serviceAccountToken: {expirationSeconds: 3607, path: token}\n      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}\n      - downwardAPI: {items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]}\nstatus: {phase: Running}\n"
            .replace("uid: 1", "uid: x").as_str(),
    );
    assert_eq!(document.warnings.len(), 2, "{:?}", document.warnings);
    let spec = document.spec;
    assert_eq!(
        (spec.volumes.len(), spec.containers[0].mounts.len()),
        (1, 1)
    );
    assert!(document.references.is_empty());
}

#[test]
fn the_habits_of_yaml_1_1_are_understood_where_they_are_meant() {
    let spec = one(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  shareProcessNamespace: yes\n  containers:\n  - name: a\n    image: b\n    stdin: on\n    tty: ~\n    command: [yes]\n    resources: {limits: {cpu: 0.1, memory: 1e9}}\n",
    )
    .spec;
    let container = &spec.containers[0];
    assert!(spec.share_processes && container.stdin && !container.tty);
    assert_eq!(container.command, ["yes"]);
    assert_eq!(container.resources.cpu_limit_milli, Some(100));
    assert_eq!(container.resources.memory_limit, Some(1_000_000_000));
    assert_eq!(container.resources.memory_request, Some(1_000_000_000));
}

#[test]
fn anchors_merges_and_several_documents_are_read() {
    let documents = parse(
        "---\n# nothing here\n---\napiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\nspec:\n  containers:\n  - &base {name: a, image: b, env: [{name: X, value: \"1\"}]}\n  - {<<: *base, name: c}\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: z}, spec: {containers: [{name: a, image: b}]}}\n",
    );
    assert_eq!(documents.len(), 2);
    let spec = &documents[0].spec;
    assert_eq!(spec.name, PodName::Generate("a-".into()));
    assert_eq!(spec.name.resolve([0, 1, 2, 3, 255]), "a-bcdfq");
    assert_eq!(spec.containers[1].name, "c");
    assert_eq!(
        spec.containers[1].env,
        [("X".into(), EnvValue::Text("1".into()))]
    );
}

#[test]
fn pod_settings_reach_the_containers() {
    let spec = one(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  securityContext: {runAsUser: 5, runAsGroup: 6, runAsNonRoot: true, supplementalGroups: [7]}\n  initContainers: [{name: s, image: b, restartPolicy: Always}]\n  containers: [{name: a, image: b, securityContext: {runAsUser: 9}}]\n",
    )
    .spec;
    let run_as = &spec.containers[0].security.run_as;
    assert_eq!(
        (run_as.user, run_as.group, run_as.non_root),
        (Some(9), Some(6), true)
    );
    assert_eq!(spec.supplemental_groups, [7]);
    assert!(spec.init_containers[0].sidecar);
}

#[test]
fn a_storage_class_is_told_to_have_no_effect() {
    let claim = "spec: {accessModes: [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 8Mi}}}";
    let document =
        format!("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: a}}\n{claim}\n");
    let found = spec::read("claim.yaml", &document).unwrap();
    let told = |path: &str| format!("without a cluster these fields have no effect: {path}");
    assert_eq!(found.warnings, [told("spec.storageClassName")]);
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers: [{{name: a, image: b}}]\n  \
         volumes: [{{name: v, ephemeral: {{volumeClaimTemplate: {{metadata: {{labels: {{a: b}}}}, {claim}}}}}}}]\n"
    );
    let path = "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.storageClassName";
    assert_eq!(one(&pod).warnings, [told(path)]);
}

#[test]
fn a_claim_is_a_disk_or_a_directory_by_its_class_or_else_by_who_may_have_it() {
    let bounded = "spec.resources.requests.storage: a directory is bounded by the host's disk alone, not by this";
    for (said, is_directory) in [
        ("accessModes: [ReadWriteOnce]", false),
        (
            "accessModes: [ReadWriteOncePod], storageClassName: \"\"",
            false,
        ),
        (
            "accessModes: [ReadWriteOnce], storageClassName: beluga-disk, volumeMode: Block",
            false,
        ),
        ("accessModes: [ReadWriteMany]", true),
        ("accessModes: [ReadWriteOnce, ReadOnlyMany]", true),
        (
            "accessModes: [ReadWriteOncePod], storageClassName: beluga-directory",
            true,
        ),
    ] {
        let document = format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: a}}\n\
             spec: {{{said}, resources: {{requests: {{storage: 9000001}}, limits: {{storage: 1Gi}}}}}}\n"
        );
        let found = spec::read("claim.yaml", &document);
        let found = found.unwrap_or_else(|error| panic!("{said}: {error}"));
        let claim = found.objects[0].claim.as_ref().unwrap();
        // A disk has whole pages; of a directory it is what was asked for.
        let (file, bytes) = if is_directory {
            ("a.dir", 9_000_001)
        } else {
            ("a.img", 9_003_008)
        };
        assert_eq!(
            (claim.file_name("a").as_str(), claim.bytes),
            (file, bytes),
            "{said}"
        );
        assert_eq!(
            found.warnings.contains(&bounded.to_owned()),
            is_directory,
            "{said}"
        );
    }
}
