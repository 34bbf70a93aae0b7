//! The pods of a workload: how they are made from its template, and how they
//! are known again.

use super::job::IndexFailures;
use super::plan::Member;
use super::{Kept, WorkloadError};
use crate::engine::PodView;
use crate::spec::{self, Document, ManifestError, Workload, WorkloadKind};
use serde_json::{Value, json};

/// The label with a StatefulSet's pod's own name, and the one with its number.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The label and annotation with the number of an indexed job's pod.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The annotations with how often the pods before it have failed, of an index that
/// has a limit of its own.
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// Whether a pod is this workload's.
#[must_use]
pub fn of(kept: &Kept, pod: &PodView) -> bool {
    let owners = pod.manifest["metadata"]["ownerReferences"].as_array();
    owners
        .into_iter()
        .flatten()
        .any(|owner| owner["uid"] == kept.uid.as_str())
}

/// The pods of a workload as its plan sees them.
#[must_use]
pub fn members(kept: &Kept, workload: &Workload, pods: &[PodView]) -> Vec<Member> {
    let mine = pods.iter().filter(|pod| of(kept, pod));
    mine.map(|pod| {
        let label = |key: &str| pod.spec.labels.get(key).map(String::as_str);
        let ready = pod
            .conditions()
            .iter()
            .any(|(name, holds)| *name == "Ready" && *holds);
        Member {
            uid: pod.uid.clone(),
            is_current: label(workload.kind.hash_label()) == Some(&workload.hash),
            has_ended: pod.status.phase.is_end() || pod.status.deleted.is_some(),
            is_ready: ready,
            created: pod.status.created,
            ordinal: label(POD_INDEX)
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
        }
    })
    .collect()
}

/// A pod of a workload; `ordinal` is the number of a StatefulSet's or of an indexed
/// job's, `failures` are those of the pods before it.
pub fn pod(
    kept: &Kept,
    workload: &Workload,
    ordinal: Option<u32>,
    failures: IndexFailures,
) -> Result<Document, WorkloadError> {
    let name = workload.name.as_str();
    let mut pod = json!(workload.template.pod);
    let mut labels = pod["metadata"]["labels"].take();
    if !labels.is_object() {
        labels = json!({});
    }
    if workload.kind == WorkloadKind::Job {
        for prefix in ["", "batch.kubernetes.io/"] {
            labels[format!("{prefix}job-name")] = json!(name);
            labels[format!("{prefix}controller-uid")] = json!(kept.uid);
        }
    } else {
        labels[workload.kind.hash_label()] = json!(workload.hash);
    }
    pod["metadata"]["namespace"] = json!(workload.namespace);
    match (ordinal, &workload.template.spec.name) {
        (Some(index), _) if workload.kind == WorkloadKind::Job => {
            completion(&mut pod, &mut labels, name, index);
            note_failures(workload, &mut pod, failures);
        }
        (Some(ordinal), _) => {
            let own = format!("{name}-{ordinal}");
            if let Some(metadata) = pod["metadata"].as_object_mut() {
                metadata.remove("generateName");
            }
            name_in_service(workload, &mut pod, &own);
            labels[POD_NAME] = json!(own);
            labels[POD_INDEX] = json!(ordinal.to_string());
            pod["metadata"]["name"] = json!(own);
        }
        (None, spec::PodName::Generate(prefix) | spec::PodName::Exact(prefix)) => {
            pod["metadata"]["generateName"] = json!(prefix);
        }
    }
    let metadata = &mut pod["metadata"];
    metadata["labels"] = labels;
    metadata["ownerReferences"] = json!([{
        "apiVersion": workload.kind.api_version(),
        "kind": workload.kind.kind(),
        "name": name,
        "uid": kept.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    }]);
    if let Some(ordinal) = ordinal {
        own_claims(workload, &mut pod, ordinal);
    }
    one(
        workload.kind,
        name,
        spec::parse(&shown(workload), &pod.to_string()),
    )
}

/// A numbered pod is known by its own name, in the domain of its service.
fn name_in_service(workload: &Workload, pod: &mut Value, own: &str) {
    // A name with dots, or a long one, is nobody's hostname.
    if own.contains('.') || own.len() > 63 {
        return;
    }
    pod["spec"]["hostname"] = json!(own);
    let service = workload
        .ordinals
        .as_ref()
        .and_then(|one| one.service.as_ref());
    if let Some(service) = service {
        pod["spec"]["subdomain"] = json!(service);
    }
}

/// What an indexed job's pod knows its number by.
fn completion(pod: &mut Value, labels: &mut Value, name: &str, index: u32) {
    let number = index.to_string();
    labels[COMPLETION_INDEX] = json!(number);
    let metadata = &mut pod["metadata"];
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][COMPLETION_INDEX] = json!(number);
    metadata["generateName"] = json!(format!("{name}-{index}-"));
    if pod["spec"]["hostname"].is_null() {
        pod["spec"]["hostname"] = json!(format!("{name}-{index}"));
    }
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let variable = json!({"name": "JOB_COMPLETION_INDEX", "value": number});
            match container["env"].as_array_mut() {
                Some(env) => env.push(variable),
                None => container["env"] = json!([variable]),
            }
        }
    }
}

/// The claims that a numbered pod has for itself.
fn own_claims(workload: &Workload, pod: &mut Value, ordinal: u32) {
    for claim in claims(workload) {
        let volumes = pod["spec"]["volumes"].as_array_mut();
        let volume = volumes
            .into_iter()
            .flatten()
            .find(|one| one["name"] == *claim);
        if let Some(volume) = volume {
            let own = claim_name(workload, claim, ordinal);
            volume["persistentVolumeClaim"]["claimName"] = json!(own);
        }
    }
}

/// What a pod knows by how often its index was tried, where that has a limit.
fn note_failures(workload: &Workload, pod: &mut Value, failures: IndexFailures) {
    let job = workload.job.as_ref();
    if job.is_none_or(|job| job.index_backoff_limit.is_none()) {
        return;
    }
    let annotations = &mut pod["metadata"]["annotations"];
    annotations[INDEX_FAILURES] = json!(failures.counted.to_string());
    if failures.ignored > 0 {
        annotations[IGNORED_FAILURES] = json!(failures.ignored.to_string());
    }
}

/// The names of the claims that each pod of a workload has.
pub fn claims(workload: &Workload) -> &[String] {
    let ordinals = workload.ordinals.as_ref();
    ordinals.map_or(&[], |ordinals| ordinals.claims.as_slice())
}

/// The claim of one pod.
pub fn claim_name(workload: &Workload, claim: &str, ordinal: u32) -> String {
    format!("{claim}-{}-{ordinal}", workload.name)
}

/// The claims of one pod, as documents.
pub fn claim_objects(
    workload: &Workload,
    ordinal: u32,
) -> Result<Vec<spec::ConfigObject>, WorkloadError> {
    let templates = workload.object["spec"]["volumeClaimTemplates"].as_array();
    let mut found = Vec::new();
    for (template, claim) in templates.into_iter().flatten().zip(claims(workload)) {
        let mut object = template.clone();
        object["apiVersion"] = json!("v1");
        object["kind"] = json!("PersistentVolumeClaim");
        object["metadata"]["name"] = json!(claim_name(workload, claim, ordinal));
        object["metadata"]["namespace"] = json!(workload.namespace);
        let selector = &workload.object["spec"]["selector"]["matchLabels"];
        if object["metadata"]["labels"] == Value::Null && selector.is_object() {
            object["metadata"]["labels"] = selector.clone();
        }
        let read = spec::read(&shown(workload), &object.to_string());
        let read = read.map_err(|source| WorkloadError::Kept {
            kind: workload.kind,
            name: workload.name.clone(),
            source,
        })?;
        found.extend(read.objects);
    }
    Ok(found)
}

fn shown(workload: &Workload) -> String {
    format!("{}/{}", workload.kind, workload.name)
}

fn one(
    kind: WorkloadKind,
    name: &str,
    read: Result<Vec<Document>, ManifestError>,
) -> Result<Document, WorkloadError> {
    let error = |source| WorkloadError::Kept {
        kind,
        name: name.to_owned(),
        source,
    };
    read.map_err(error)?.pop().ok_or_else(|| {
        error(ManifestError {
            source_name: name.to_owned(),
            issues: Vec::new(),
        })
    })
}
