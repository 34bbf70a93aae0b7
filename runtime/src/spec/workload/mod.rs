//! Workloads: documents with a template that is run as pods.

mod apps;
mod batch;
pub(super) mod cron;
mod kind;
mod replication;
mod rules;
mod stateful;

pub use batch::JobSpec;
pub use cron::is_job_of;
pub use kind::WorkloadKind;
pub use rules::{FailureAction, FailureRule, FailureSign, SuccessRule};

use super::check::Check;
use super::yaml::Node;
use super::{Document, Issue, meta, names};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most pods of one workload: more than one host's network has addresses for.
const MAX_REPLICAS: i64 = 10_000;

/// Where a workload has its pod.
const TEMPLATE: &str = "spec.template";

/// What becomes of pods of an older template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// All go, then the new ones come.
    Recreate,
    /// Step by step.
    Rolling {
        /// How many pods more than wanted there may be meanwhile.
        surge: u32,
        /// How many pods less than wanted may be ready meanwhile.
        unavailable: u32,
    },
    /// They stay until somebody deletes them.
    OnDelete,
}

/// Pods that are told apart by a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordinals {
    /// The domain that its pods are in, each by its own name.
    pub service: Option<String>,
    /// The first number.
    pub first: u32,
    /// Each waits until the one before it is ready.
    pub in_order: bool,
    /// Pods with a smaller number keep the template that they have.
    pub partition: u32,
    /// Names of the claims of each pod, which are `NAME-POD`.
    pub claims: Vec<String>,
    /// Claims go with the workload.
    pub delete_claims: bool,
    /// Claims go with their pod when there shall be fewer pods.
    pub trim_claims: bool,
}

/// A workload, checked.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Which of them.
    pub kind: WorkloadKind,
    /// `default` when the document names none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// For selection.
    pub labels: BTreeMap<String, String>,
    /// The whole object with its defaults filled in.
    pub object: Value,
    /// How many pods there shall be.
    pub replicas: u32,
    /// What becomes of pods of an older template.
    pub update: Update,
    /// How long a step of an update may take, in seconds.
    pub progress_seconds: u32,
    /// Of a StatefulSet.
    pub ordinals: Option<Ordinals>,
    /// Of a Job.
    pub job: Option<JobSpec>,
    /// The CronJob whose Job it is, where the document is that.
    pub cron_job: Option<String>,
    /// Tells one template from another.
    pub hash: String,
    /// The pod of which its pods are made.
    pub template: Document,
}

/// Converts a document of this kind.
pub(super) fn convert(
    kind: WorkloadKind,
    tree: &Node,
    issues: &mut Vec<Issue>,
) -> Option<Workload> {
    match kind {
        WorkloadKind::Deployment => apps::deployment(tree, issues),
        WorkloadKind::ReplicaSet => apps::replica_set(tree, issues),
        WorkloadKind::ReplicationController => replication::controller(tree, issues),
        WorkloadKind::StatefulSet => stateful::stateful_set(tree, issues),
        WorkloadKind::DaemonSet => apps::daemon_set(tree, issues),
        WorkloadKind::Job => batch::job(tree, issues),
    }
}

/// What the kinds of a workload differ in.
struct Parts<'p> {
    kind: WorkloadKind,
    metadata: &'p ObjectMeta,
    template: &'p PodTemplateSpec,
    selector: &'p LabelSelector,
    replicas: u32,
    update: Update,
    progress_seconds: u32,
    ordinals: Option<Ordinals>,
    claims: &'p [PersistentVolumeClaim],
    job: Option<JobSpec>,
}

/// Checks what all kinds have, and the template.
fn workload(parts: Parts<'_>, mut spec: Value, check: &mut Check<'_>) -> Workload {
    let kind = parts.kind;
    let identity = meta::object(
        parts.metadata,
        &format!("the {}'s name", kind.kind()),
        check,
    );
    if parts.job.is_none() {
        selector(kind, parts.selector, parts.template, check);
    }
    let namespace = match identity.namespace.as_str() {
        "" => "default".to_owned(),
        namespace => namespace.to_owned(),
    };
    let mut pod = Pod {
        metadata: parts.template.metadata.clone().unwrap_or_default(),
        spec: parts.template.spec.clone(),
        status: None,
    };
    claim_volumes(parts.claims, &mut pod);
    check.enter(TEMPLATE);
    restart_policy(kind, &pod, check);
    without_effect(&pod.metadata, check);
    // A name that is refused has been told already.
    let shaped = |text: &str, shape: fn(&str) -> Result<(), &'static str>| shape(text).is_ok();
    let base = Some(identity.name.as_str()).filter(|name| shaped(name, names::subdomain));
    let home = Some(namespace.as_str()).filter(|name| shaped(name, names::label));
    pod.metadata.name = None;
    pod.metadata.namespace = home.map(str::to_owned);
    pod.metadata.generate_name = Some("x".to_owned());
    let mut template = super::pod_document(pod, check);
    check.enter("");
    let hash = hash(&template);
    template.spec.name = super::PodName::Generate(match (kind, base.unwrap_or("x")) {
        (WorkloadKind::Deployment, name) => format!("{name}-{hash}-"),
        (_, name) => format!("{name}-"),
    });
    spec["template"] = json!({"metadata": template.pod.metadata, "spec": template.pod.spec});
    if let Some(metadata) = spec["template"]["metadata"].as_object_mut() {
        metadata.remove("generateName");
        metadata.remove("namespace");
    }
    let object = object(kind, &namespace, &identity, spec);
    Workload {
        kind,
        namespace,
        name: identity.name,
        labels: identity.labels,
        object,
        replicas: parts.replicas,
        update: parts.update,
        progress_seconds: parts.progress_seconds,
        ordinals: parts.ordinals,
        job: parts.job,
        cron_job: None,
        hash,
        template,
    }
}

/// What names a pod is made by the workload.
fn without_effect(metadata: &ObjectMeta, check: &mut Check<'_>) {
    for (field, given) in [
        ("name", metadata.name.is_some()),
        ("generateName", metadata.generate_name.is_some()),
        ("namespace", metadata.namespace.is_some()),
    ] {
        if given {
            check.warn(&format!("metadata.{field}"), "has no effect in a template");
        }
    }
}

/// The object as `get -o yaml` shows it.
fn object(kind: WorkloadKind, namespace: &str, identity: &meta::Identity, spec: Value) -> Value {
    let mut metadata = json!({"name": identity.name, "namespace": namespace});
    if !identity.labels.is_empty() {
        metadata["labels"] = json!(identity.labels);
    }
    if !identity.annotations.is_empty() {
        metadata["annotations"] = json!(identity.annotations);
    }
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind(),
        "metadata": metadata,
        "spec": spec,
    })
}

/// A claim of each pod takes the place of a volume of its name. The claim that
/// a pod has is written in when there is a pod.
fn claim_volumes(claims: &[PersistentVolumeClaim], pod: &mut Pod) {
    use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume};
    let Some(spec) = &mut pod.spec else { return };
    for claim in claims {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let volumes = spec.volumes.get_or_insert_default();
        volumes.retain(|volume| volume.name != name);
        volumes.push(Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: name.clone(),
                read_only: None,
            }),
            name,
            ..Volume::default()
        });
    }
}

/// The API server takes no selector that would not find the workload's own pods.
fn selector(
    kind: WorkloadKind,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    check: &mut Check<'_>,
) {
    let LabelSelector {
        match_expressions,
        match_labels,
    } = selector;
    let labels = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.as_ref());
    let label = |key: &str| labels.and_then(|labels| labels.get(key));
    let mut is_empty = true;
    let mut fits = true;
    for (key, value) in match_labels.iter().flatten() {
        is_empty = false;
        fits &= label(key) == Some(value);
    }
    for (at, one) in match_expressions.iter().flatten().enumerate() {
        is_empty = false;
        let path = format!("spec.selector.matchExpressions[{at}].operator");
        let values = one.values.clone().unwrap_or_default();
        let has = |value: &String| values.contains(value);
        let holds: fn(Option<bool>) -> bool = check.choice(
            &path,
            Some(&one.operator),
            &[
                ("In", (|has| has == Some(true)) as fn(Option<bool>) -> bool),
                ("NotIn", |has| has != Some(true)),
                ("Exists", |has| has.is_some()),
                ("DoesNotExist", |has| has.is_none()),
            ],
        );
        fits &= holds(label(&one.key).map(has));
    }
    if is_empty {
        let example = match kind {
            WorkloadKind::ReplicationController => "{app: web}",
            _ => "matchLabels: {app: web}",
        };
        check.wrong(
            "spec.selector",
            format!("required: labels that the template's pods have, like {example}"),
        );
    } else if !fits {
        check.wrong(
            "spec.selector",
            "does not match the labels of the template (spec.template.metadata.labels)",
        );
    }
}

fn restart_policy(kind: WorkloadKind, pod: &Pod, check: &mut Check<'_>) {
    let Some(spec) = &pod.spec else { return };
    let path = "spec.restartPolicy";
    let policy = spec.restart_policy.as_deref();
    match (kind, policy) {
        (WorkloadKind::Job, None) => {
            check.wrong(path, "required: OnFailure or Never, since a Job ends");
        }
        (WorkloadKind::Job, Some("Always")) => {
            check.wrong(
                path,
                "\"Always\": the pods of a Job are restarted OnFailure or Never",
            );
        }
        (WorkloadKind::Job, _) => return,
        (_, Some(policy @ ("OnFailure" | "Never"))) => {
            let kind = kind.kind();
            let message = format!("{policy:?}: the pods of a {kind} are restarted Always");
            check.wrong(path, message);
        }
        _ => {}
    }
    if kind != WorkloadKind::Job && spec.active_deadline_seconds.is_some() {
        check.wrong(
            "spec.activeDeadlineSeconds",
            format!("the pods of a {} have no end", kind.kind()),
        );
    }
}

/// How many pods there shall be.
fn replicas(value: Option<i32>, check: &mut Check<'_>) -> u32 {
    let value = i64::from(value.unwrap_or(1));
    let path = "spec.replicas";
    if !(0..=MAX_REPLICAS).contains(&value) {
        check.wrong(path, format!("{value} is not from 0 to {MAX_REPLICAS}"));
    }
    u32::try_from(value).unwrap_or_default()
}

/// A number of pods, or a share of them.
fn amount(path: &str, value: &IntOrString, of: u32, up: bool, check: &mut Check<'_>) -> u32 {
    let share = |percent: u32| {
        let hundredfold = of.saturating_mul(percent);
        if up {
            hundredfold.div_ceil(100)
        } else {
            hundredfold / 100
        }
    };
    let found = match value {
        IntOrString::Int(number) => u32::try_from(*number).ok(),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|text| text.parse().ok());
            percent.map(share)
        }
    };
    found.unwrap_or_else(|| {
        let shown = match value {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        };
        check.wrong(
            path,
            format!("{shown} is neither a number nor a share like 25%"),
        );
        0
    })
}

/// Of all pods no more than all can be away.
fn at_most_all(path: &str, value: Option<&IntOrString>, check: &mut Check<'_>) {
    let Some(IntOrString::String(text)) = value else {
        return;
    };
    let percent = text.strip_suffix('%').and_then(|text| text.parse().ok());
    if percent.is_some_and(|percent: u32| percent > 100) {
        check.wrong(path, "must not be greater than 100%");
    }
}

/// Ten characters that differ when the template does, in Kubernetes' alphabet.
fn hash(template: &Document) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = json!([
        template.pod.metadata.labels,
        template.pod.metadata.annotations,
        template.pod.spec
    ]);
    // FNV-1a, 32 bits; nothing here is anybody's secret.
    let hash = text
        .to_string()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
    let digits = hash.to_string();
    digits
        .bytes()
        .map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]))
        .collect()
}

fn without_spec(mut check: Check<'_>, issues: &mut Vec<Issue>) -> Option<Workload> {
    check.wrong("spec", "required");
    issues.extend(check.finish().0);
    None
}

fn finish(mut workload: Workload, check: Check<'_>, issues: &mut Vec<Issue>) -> Workload {
    let (wrong, warnings) = check.finish();
    issues.extend(wrong);
    workload.template.warnings = warnings;
    workload
}
