//! Ephemeral containers in manifests: of a pod that is there they may be said
//! again, a new pod cannot be made with them.

use beluga_runtime::spec;

fn manifest(ephemeral: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers: [{{name: a, image: b}}]\n  ephemeralContainers:\n  - {ephemeral}\n"
    )
}

#[test]
fn one_is_understood_and_is_nothing_to_make_a_pod_with() {
    let text = manifest("{name: look, image: c, targetContainerName: a, stdin: true}");
    let document = spec::parse("pod.yaml", &text).unwrap().remove(0);
    let container = &document.spec.ephemeral_containers[0];
    assert_eq!(container.target.as_deref(), Some("a"));
    assert!(container.stdin);
    assert_eq!(
        document.can_be_created().unwrap_err().to_string(),
        "pod.yaml:6:3: spec.ephemeralContainers: cannot be set on create \
         (`beluga debug` adds one to a running pod)"
    );
    let plain = spec::parse(
        "pod.yaml",
        &text.replace("ephemeralContainers", "initContainers"),
    );
    assert!(plain.is_err(), "an init container has no target");
}

#[test]
fn what_only_lasting_containers_have_is_refused() {
    let told = |ephemeral: &str| -> Vec<String> {
        let error = spec::parse("pod.yaml", &manifest(ephemeral)).unwrap_err();
        error
            .issues
            .iter()
            .map(|issue| issue.path.clone())
            .collect()
    };
    let of = |field: &str| vec![format!("spec.ephemeralContainers[0].{field}")];
    for (field, value) in [
        ("ports", "[{containerPort: 80}]"),
        ("lifecycle", "{preStop: {sleep: {seconds: 1}}}"),
        ("livenessProbe", "{tcpSocket: {port: 1}}"),
        ("resources", "{limits: {cpu: 1}}"),
        ("restartPolicy", "Always"),
        ("targetContainerName", "nobody"),
        ("name", "a"),
    ] {
        let name = if field == "name" { "" } else { "name: l, " };
        let told = told(&format!("{{{name}image: c, {field}: {value}}}"));
        assert_eq!(told, of(field));
    }
}
