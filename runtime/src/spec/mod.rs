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
mod claim;
mod cluster;
mod config;
mod container;
mod decode;
mod defaults;
mod difference;
mod dns;
mod document;
mod env;
mod ephemeral;
mod files;
mod found;
mod habits;
mod host_path;
mod issue;
mod lifecycle;
mod limits;
mod mac;
mod meta;
mod names;
mod network;
mod object;
mod place;
mod plain;
mod pod;
mod podman;
mod policy;
mod ports;
mod probe;
mod quality;
mod quantity;
mod resize;
mod resources;
mod sandbox;
mod schema;
mod security;
mod sysctl;
mod types;
mod volume;
mod workload;
mod yaml;

pub use claim::ClaimSpec;
pub use config::{
    DownwardPath, DownwardValue, EnvFrom, EnvValue, Field, FileKeyRef, FileSource, HostPathKind,
    KeyPath, KeyRef, Medium, Reference, Resource, ResourceField, ValueSource, Volume, VolumeSource,
};
pub use defaults::is_latest;
pub use difference::{Difference, difference, fixed_paths};
pub use document::Document;
pub use issue::{Issue, ManifestError, Position, SHOWN_ISSUES};
pub use names::{label, sub_path, subdomain};
pub use network::{DEFAULT_NETWORK, MAX_NETWORK_NAME, NETWORK, NO_NETWORK, is_network_name};
pub use object::{ConfigObject, MAX_DATA, OPAQUE, ObjectKind};
pub use policy::{Allowed, Labels, Network, Peer, Policy, PortName, PortRange, is_within};
pub use ports::{HostPort, Published, Transport};
pub use quantity::{Bytes, Quantity, QuantityError};
pub use sandbox::{Fifos, Guest, NoCgroup, SHARED, Sandbox, parent_cgroup};
pub use schema::closest;
pub use schema::{FieldKind, fields, fields_of};
pub use sysctl::{forbidden_sysctl, is_allowed_sysctl, sysctl_pattern, sysctl_patterns};
pub use types::{
    Container, ContainerPort, ContainerSecurity, Dns, GivenCondition, Hooks, HostAlias, PodName,
    PodSpec, Probe, Probes, PullPolicy, ResizeRestart, Resources, RestartPolicy, RestartRule,
    RunAs, SeccompChoice, TerminationMessage, VolumeDevice, VolumeMount,
};
pub use workload::{
    FailureAction, FailureRule, FailureSign, JobSpec, Ordinals, SuccessRule, Update, Workload,
    WorkloadKind, is_job_of,
};
pub use yaml::MAX_TEXT;

use document::pod_document;
use found::{Found, below, flatten, refuse_equal_names};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;
use yaml::{Node, Value};

/// Kinds that people keep in one file with their pods, and that mean something to a
/// cluster only.
const CLUSTER_KINDS: [&str; 26] = [
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "CSIDriver",
    "CustomResourceDefinition",
    "Endpoints",
    "EndpointSlice",
    "HorizontalPodAutoscaler",
    "Ingress",
    "IngressClass",
    "Lease",
    "LimitRange",
    "MutatingWebhookConfiguration",
    "Namespace",
    "PersistentVolume",
    "PodDisruptionBudget",
    "PriorityClass",
    "ResourceQuota",
    "Role",
    "RoleBinding",
    "RuntimeClass",
    "Service",
    "ServiceAccount",
    "StorageClass",
    "ValidatingWebhookConfiguration",
    "VolumeAttributesClass",
];

/// Kinds that are understood.
const KINDS: [&str; 11] = [
    "Pod",
    "ConfigMap",
    "Secret",
    "PersistentVolumeClaim",
    "NetworkPolicy",
    "Deployment",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
    "DaemonSet",
    "Job",
];

/// All documents of a manifest, each kind in the order of the text.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// The pods.
    pub pods: Vec<Document>,
    /// What they are configured with.
    pub objects: Vec<ConfigObject>,
    /// What is run as pods.
    pub workloads: Vec<Workload>,
    /// What the user should know about objects; a pod has its own.
    pub warnings: Vec<String>,
    /// Why there is nothing in it, where all of it means something to a cluster only.
    pub nothing: Option<ManifestError>,
}

impl Manifest {
    /// The pods, then the workloads' templates, which are pods as well.
    #[must_use]
    pub fn documents(&self) -> Vec<&Document> {
        let templates = self.workloads.iter().map(|one| &one.template);
        self.pods.iter().chain(templates).collect()
    }
}

/// Reads all pods of a manifest that has nothing else in it.
pub fn parse(source_name: &str, text: &str) -> Result<Vec<Document>, ManifestError> {
    Ok(read(source_name, text)?.pods)
}

/// Reads all documents of a manifest. `source_name` is for messages: a file's name
/// or `standard input`. Errors with everything that is wrong in any document.
pub fn read(source_name: &str, text: &str) -> Result<Manifest, ManifestError> {
    read_as(source_name, text, Reading::default())
}

/// What a manifest does not say, and a command does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading<'a> {
    /// Where what names no namespace is to be; what names another one is refused.
    pub namespace: Option<&'a str>,
    /// The Job of each CronJob in its place: how its name ends.
    pub now: Option<[u8; 5]>,
    /// All is made anew: how names end of which the beginning is said.
    pub made: Option<[u8; 5]>,
}

/// The same as a command means it.
pub fn read_as(
    source_name: &str,
    text: &str,
    reading: Reading<'_>,
) -> Result<Manifest, ManifestError> {
    let mut read = read_part(source_name, text, reading)?;
    match read.nothing.take() {
        Some(error) => Err(error),
        None => Ok(read),
    }
}

/// The same of one of several texts, in which there may be nothing but what means
/// something to a cluster.
pub fn read_part(
    source_name: &str,
    text: &str,
    reading: Reading<'_>,
) -> Result<Manifest, ManifestError> {
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
    let mut found = Found::default();
    for (at, (inside, mut tree)) in (0u64..).zip(flatten(trees, &mut issues)) {
        if let Some(random) = reading.made {
            place::name(&mut tree, another(random, at));
        }
        let (before, mut of_tree) = (issues.len(), Found::default());
        if let Some(namespace) = reading.namespace {
            place::put(&mut tree, namespace, &mut issues);
        }
        document(&tree, reading.now, &mut of_tree, &mut issues);
        for issue in issues.iter_mut().skip(before) {
            issue.path = below(&inside, &issue.path);
        }
        of_tree.stand_in(&inside);
        found.append(of_tree);
    }
    refuse_equal_names(&found, &mut issues);
    let is_empty = found.is_empty() && issues.is_empty();
    if is_empty && found.left_out.is_empty() {
        issues.push(empty());
    }
    let left_out = found.left_out.iter().map(|(_, issue)| issue.clone());
    let nothing = is_empty.then(|| ManifestError {
        source_name: source_name.to_owned(),
        issues: left_out.collect(),
    });
    if issues.is_empty() {
        Ok(manifest(found, source_name, nothing))
    } else {
        refuse(issues)
    }
}

/// What was found in a text of that name.
fn manifest(found: Found, source_name: &str, nothing: Option<ManifestError>) -> Manifest {
    let left_out = found.left_out(source_name);
    let named = |document: Document| Document {
        source_name: source_name.to_owned(),
        ..document
    };
    let workloads = found.workloads.into_iter().map(|(_, one)| Workload {
        template: named(one.template),
        ..one
    });
    Manifest {
        workloads: workloads.collect(),
        pods: found.pods.into_iter().map(|(_, pod)| named(pod)).collect(),
        objects: found.objects.into_iter().map(|(_, one)| one).collect(),
        warnings: found.warnings.into_iter().chain(left_out).collect(),
        nothing,
    }
}

/// Letters of a name that differ from document to document.
fn another(random: [u8; 5], mut at: u64) -> [u8; 5] {
    random.map(|byte| {
        // As many as names have letters at a place.
        let letter = u64::from(byte) % 27 + at % 27;
        at /= 27;
        u8::try_from(letter).unwrap_or_default()
    })
}

fn empty() -> Issue {
    Issue {
        at: Position { line: 1, column: 1 },
        path: String::new(),
        message: "there is no pod in it".into(),
        hint: None,
    }
}

/// Reads one document of any shape, JSON or YAML.
pub fn value(source_name: &str, text: &str) -> Result<serde_json::Value, ManifestError> {
    let refuse = |issues| ManifestError {
        source_name: source_name.to_owned(),
        issues,
    };
    let mut issues = Vec::new();
    let trees = yaml::documents(text, &mut issues).map_err(|issue| refuse(vec![issue]))?;
    let decoded = trees.first().map(decode::decode::<serde_json::Value>);
    let decoded = decoded.unwrap_or_else(|| decode::Decoded {
        value: None,
        issues: Vec::new(),
        masked: BTreeSet::new(),
    });
    issues.extend(decoded.issues);
    if issues.is_empty() {
        Ok(decoded.value.unwrap_or_default())
    } else {
        Err(refuse(issues))
    }
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

/// What a document is.
enum Kind {
    Pod,
    Object(ObjectKind),
    Workload(WorkloadKind),
    /// Its Job is run, where that is to be now.
    CronJob,
    /// Of no meaning here; and what is said of it where nothing else is there.
    OfACluster(Issue),
}

/// The kind of the document; says so when it is one that is not known.
fn kind(tree: &Node, issues: &mut Vec<Issue>) -> Option<Kind> {
    if !matches!(tree.value, Value::Object(_)) {
        issues.push(issue(tree, "", "expected a Kubernetes object"));
        return None;
    }
    let shown = |text: &str| text.chars().take(60).collect::<String>();
    let Some(kind) = scalar(tree, "kind") else {
        issues.push(issue(tree, "kind", "required: Pod"));
        return None;
    };
    let found = match kind {
        "Pod" => Kind::Pod,
        "CronJob" => Kind::CronJob,
        _ => match (ObjectKind::of(kind), WorkloadKind::of(kind)) {
            (Some(object), _) => Kind::Object(object),
            (None, Some(workload)) => Kind::Workload(workload),
            (None, None) => {
                let (last, others) = KINDS.split_last().unwrap_or((&"", &[]));
                let message = format!(
                    "{} is not supported; {} and {last} are",
                    shown(kind),
                    others.join(", ")
                );
                let mut issue = issue(tree, "kind", message);
                if CLUSTER_KINDS.contains(&kind) {
                    return Some(Kind::OfACluster(issue));
                }
                issue.hint = Some(match schema::closest(kind, &KINDS) {
                    Some((_, meant)) => format!("did you mean {meant}?"),
                    None => "what only a cluster knows is to be left out".to_owned(),
                });
                issues.push(issue);
                return None;
            }
        },
    };
    let wanted = match &found {
        Kind::OfACluster(_) => return Some(found),
        Kind::CronJob => WorkloadKind::Job.api_version(),
        Kind::Workload(workload) => workload.api_version(),
        Kind::Object(object) => object.api_version(),
        Kind::Pod => "v1",
    };
    match scalar(tree, "apiVersion") {
        Some(version) if version == wanted => {}
        // The rest is checked all the same, so that all errors come at once.
        Some(version) => {
            let message = format!(
                "a {kind} is of apiVersion {wanted}, not {:?}",
                shown(version)
            );
            issues.push(issue(tree, "apiVersion", message));
        }
        None => issues.push(issue(tree, "apiVersion", format!("required: {wanted}"))),
    }
    Some(found)
}

/// Nothing here keeps time; what does can run the Job.
fn not_by_the_clock(tree: &Node) -> Issue {
    let message = "CronJob is not supported: no daemon is here to start its Job by the clock";
    let hint = "beluga run --now -f FILE runs its Job once; cron or a systemd timer can do so";
    Issue {
        hint: Some(hint.to_owned()),
        ..issue(tree, "kind", message)
    }
}

fn document(tree: &Node, now: Option<[u8; 5]>, found: &mut Found, issues: &mut Vec<Issue>) {
    let Some(kind) = kind(tree, issues) else {
        return;
    };
    // The type checks version and kind once more, with less to say about them.
    let whole = tree;
    let mut tree = tree.clone();
    if let Value::Object(entries) = &mut tree.value {
        entries.retain(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind"));
    }
    let name_at = (tree.locate("metadata.name").report_at(), String::new());
    match kind {
        Kind::OfACluster(issue) => {
            let name = scalar(tree.locate("metadata"), "name").unwrap_or_default();
            let kind = scalar(whole, "kind").unwrap_or_default();
            let name = name.chars().take(60).collect::<String>();
            found.left_out.push((format!("{kind} {name:?}"), issue));
        }
        Kind::Object(kind) => {
            let object = object::convert(kind, &tree, issues, &mut found.warnings);
            found.objects.extend(object.map(|object| (name_at, object)));
        }
        Kind::CronJob => match now {
            Some(random) => {
                let workload = workload::cron::now(&tree, random, issues);
                found.workloads.extend(workload.map(|one| (name_at, one)));
            }
            None => issues.push(not_by_the_clock(whole)),
        },
        Kind::Workload(kind) => {
            let workload = workload::convert(kind, &tree, issues);
            found.workloads.extend(workload.map(|one| (name_at, one)));
        }
        Kind::Pod => {
            let decoded = decode::decode::<Pod>(&tree);
            issues.extend(decoded.issues);
            let Some(pod) = decoded.value else { return };
            let mut check = check::Check::new(&tree, &decoded.masked);
            let mut document = pod_document(pod, &mut check);
            let (wrong, warnings) = check.finish();
            issues.extend(wrong);
            document.warnings = warnings;
            found.pods.push((name_at, document));
        }
    }
}
