//! What a pod shall be: from manifest text to one typed [`PodSpec`].
//!
//! ```text
//! text ─yaml─► Node (with positions) ─decode─► k8s_openapi Pod ─defaults─► Pod ─pod─► PodSpec
//! ```
//!
//! The whole Kubernetes type is read, so that a known field that Beluga does
//! not support is refused by its name and an unknown one by its line. Every
//! error of a manifest is collected before any is reported.

mod check;
mod container;
mod decode;
mod defaults;
mod issue;
mod lifecycle;
mod names;
mod pod;
mod quantity;
mod resources;
mod schema;
mod security;
mod types;
mod volume;
mod yaml;

pub use issue::{Issue, ManifestError, Position, SHOWN_ISSUES};
pub use names::{label, sub_path, subdomain};
pub use quantity::{Bytes, Quantity, QuantityError};
pub use types::{
    Container, ContainerPort, ContainerSecurity, Dns, HostAlias, Medium, PodName, PodSpec,
    PullPolicy, Resources, RestartPolicy, RestartRule, RunAs, SeccompChoice, TerminationMessage,
    Volume, VolumeMount, VolumeSource,
};
pub use yaml::MAX_TEXT;

use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;
use yaml::{Node, Value};

/// Kinds of the core group that people keep in one file with their pods.
const CORE_KINDS: [&str; 9] = [
    "ConfigMap",
    "Endpoints",
    "Namespace",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "Secret",
    "Service",
    "ServiceAccount",
];

/// One pod of a manifest.
#[derive(Debug, Clone)]
pub struct Document {
    /// The whole Kubernetes object with its defaults filled in, for `get -o yaml`.
    pub pod: Box<Pod>,
    /// What Beluga makes of it.
    pub spec: PodSpec,
    /// What the user should know; each one sentence.
    pub warnings: Vec<String>,
}

/// Reads all pods of a manifest. `source_name` is for messages: a file's name
/// or `standard input`. Errors with everything that is wrong in any document.
pub fn parse(source_name: &str, text: &str) -> Result<Vec<Document>, ManifestError> {
    let refuse = |mut issues: Vec<Issue>| {
        issues.sort();
        issues.dedup();
        Err(ManifestError {
            source_name: source_name.to_owned(),
            issues,
        })
    };
    let mut issues = Vec::new();
    let trees = match yaml::documents(text, &mut issues) {
        Ok(trees) => trees,
        Err(issue) => {
            issues.push(issue);
            return refuse(issues);
        }
    };
    let mut found = Vec::new();
    for tree in flatten(trees, &mut issues) {
        document(&tree, &mut found, &mut issues);
    }
    refuse_equal_names(&found, &mut issues);
    if issues.is_empty() && found.is_empty() {
        issues.push(Issue {
            at: Position { line: 1, column: 1 },
            path: String::new(),
            message: "there is no pod in it".into(),
            hint: None,
        });
    }
    if issues.is_empty() {
        Ok(found.into_iter().map(|(_, document)| document).collect())
    } else {
        refuse(issues)
    }
}

/// The documents, with those of each `List` in its place.
fn flatten(trees: Vec<Node>, issues: &mut Vec<Issue>) -> Vec<Node> {
    let mut out = Vec::new();
    for tree in trees {
        let kind = scalar(&tree, "kind");
        if !matches!(kind, Some("List" | "PodList")) || scalar(&tree, "apiVersion") != Some("v1") {
            out.push(tree);
            continue;
        }
        match tree.get("items").map(|items| &items.value) {
            Some(Value::List(items)) => out.extend(items.iter().map(|item| {
                let mut item = item.clone();
                item.assign_paths(String::new());
                item
            })),
            _ => issues.push(issue(&tree, "items", "required: a list of objects")),
        }
    }
    out
}

fn scalar<'n>(tree: &'n Node, key: &str) -> Option<&'n str> {
    match &tree.get(key)?.value {
        Value::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
        _ => None,
    }
}

fn issue(tree: &Node, path: &str, message: impl Into<String>) -> Issue {
    Issue {
        at: tree.locate(path).report_at(),
        path: path.to_owned(),
        message: message.into(),
        hint: None,
    }
}

/// Whether the document is a pod; says so when it is something else.
fn is_pod(tree: &Node, issues: &mut Vec<Issue>) -> bool {
    if !matches!(tree.value, Value::Object(_)) {
        issues.push(issue(tree, "", "expected a Kubernetes object"));
        return false;
    }
    let shown = |text: &str| text.chars().take(60).collect::<String>();
    match (scalar(tree, "apiVersion"), scalar(tree, "kind")) {
        (Some("v1"), Some("Pod")) => true,
        (version, Some("Pod")) => {
            let message = match version {
                Some(version) => format!("a Pod is of apiVersion v1, not {:?}", shown(version)),
                None => "required: v1".into(),
            };
            issues.push(issue(tree, "apiVersion", message));
            // The rest is checked all the same, so that all errors come at once.
            true
        }
        (_, Some(kind)) => {
            let mut issue = issue(
                tree,
                "kind",
                format!("{} is not supported yet; Pod is", shown(kind)),
            );
            if !CORE_KINDS.contains(&kind)
                && let Some((_, "Pod")) = schema::closest(kind, &["Pod"])
            {
                issue.hint = Some("did you mean Pod?".into());
            }
            issues.push(issue);
            false
        }
        (_, None) => {
            issues.push(issue(tree, "kind", "required: Pod"));
            false
        }
    }
}

fn document(tree: &Node, found: &mut Vec<(Position, Document)>, issues: &mut Vec<Issue>) {
    if !is_pod(tree, issues) {
        return;
    }
    // The type checks version and kind once more, with less to say about them.
    let mut tree = tree.clone();
    if let Value::Object(entries) = &mut tree.value {
        entries.retain(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind"));
    }
    let decoded = decode::decode::<Pod>(&tree);
    issues.extend(decoded.issues);
    let Some(mut pod) = decoded.value else { return };
    let masked: &BTreeSet<String> = &decoded.masked;
    let mut check = check::Check::new(&tree, masked);
    explicit_pull(&pod, &mut check);
    defaults::apply(&mut pod);
    let spec = pod::convert(&pod, &mut check);
    let (wrong, warnings) = check.finish();
    issues.extend(wrong);
    let document = Document {
        pod: Box::new(pod),
        spec,
        warnings,
    };
    found.push((tree.locate("metadata.name").report_at(), document));
}

/// An image cannot be fetched yet, so `Always` means less than it says.
fn explicit_pull(pod: &Pod, check: &mut check::Check<'_>) {
    let Some(spec) = &pod.spec else { return };
    let lists = [
        (
            "spec.initContainers",
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
        ("spec.containers", spec.containers.as_slice()),
    ];
    for (list, containers) in lists {
        for (at, container) in containers.iter().enumerate() {
            if container.image_pull_policy.as_deref() == Some("Always") {
                check.warn(
                    &format!("{list}[{at}].imagePullPolicy"),
                    "images come from `beluga load` only, so the loaded one is used",
                );
            }
        }
    }
}

/// Two pods of one namespace and name in one manifest.
fn refuse_equal_names(found: &[(Position, Document)], issues: &mut Vec<Issue>) {
    let mut seen = BTreeSet::new();
    for (at, document) in found {
        if let PodName::Exact(name) = &document.spec.name
            && !name.is_empty()
            && !seen.insert((&document.spec.namespace, name))
        {
            issues.push(Issue {
                at: *at,
                path: "metadata.name".into(),
                message: format!("{name:?} is the name of another pod of this manifest"),
                hint: None,
            });
        }
    }
}
