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
            "without a cluster these fields have no effect: spec.hostUsers",
            "spec.securityContext.seLinuxChangePolicy: has no effect: a pod's machine has no SELinux",
            "spec.securityContext.seLinuxOptions: has no effect: a pod's machine has no SELinux",
            "spec.containers[0].securityContext.appArmorProfile: has no effect: a pod's machine has no AppArmor",
            "spec.containers[0].securityContext.seLinuxOptions: has no effect: a pod's machine has no SELinux",
        ]
    );
    let text = include_str!("golden/cluster.yaml").replace("hostUsers: false", "hostUsers: true");
    assert!(!one(&text).warnings[0].contains("hostUsers"));
}

#[test]
fn what_a_cluster_prints_is_taken() {
    let document = one(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  uid: 1\n  resourceVersion: \"7\"\n  creationTimestamp: \"2024-01-01T00:00:00Z\"\n  deletionTimestamp: \"2024-01-01T00:00:09Z\"\n  deletionGracePeriodSeconds: 9\n  generation: 2\n  selfLink: /api\n  managedFields: [{manager: kubectl, operation: Apply, apiVersion: v1, time: \"2024-01-01T00:00:00Z\", fieldsType: FieldsV1, fieldsV1: {\"f:spec\": {}}, subresource: status}]\nspec:\n  dnsPolicy: ClusterFirst\n  enableServiceLinks: true\n  schedulerName: default-scheduler\n  securityContext: {}\n  containers:\n  - name: a\n    image: b\n    resources: {}\n    terminationMessagePath: /dev/termination-log\n    terminationMessagePolicy: File\nstatus: {phase: Running}\n"
            .replace("uid: 1", "uid: x").as_str(),
    );
    assert_eq!(document.warnings.len(), 1);
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
