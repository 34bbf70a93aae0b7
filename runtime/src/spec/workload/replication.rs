//! The ReplicationController: the one workload of the core API, and the ancestor
//! of the ReplicaSet.

use super::{
    Parts, TEMPLATE, Update, Workload, WorkloadKind, apps, finish, replicas, without_spec, workload,
};
use crate::spec::Issue;
use crate::spec::check::Check;
use crate::spec::decode::decode_around;
use crate::spec::yaml::Node;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

/// Converts a ReplicationController.
pub fn controller(tree: &Node, issues: &mut Vec<Issue>) -> Option<Workload> {
    let decoded = decode_around::<core::ReplicationController>(tree, TEMPLATE);
    issues.extend(decoded.issues);
    let core::ReplicationController {
        metadata,
        spec,
        status: _, // the system's own
    } = decoded.value?;
    let mut check = Check::new(tree, &decoded.masked);
    let Some(mut filled) = spec else {
        return without_spec(check, issues);
    };
    let template = filled.template.clone();
    if template.is_none() {
        check.wrong(TEMPLATE, "required: the pods that it shall have");
    }
    let template = template.unwrap_or_default();
    // As the API server: what is left out is what the template's pods are known by.
    let labels = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone());
    if filled.selector.as_ref().is_none_or(|own| own.is_empty()) {
        filled.selector.clone_from(&labels);
    }
    let core::ReplicationControllerSpec {
        min_ready_seconds,
        replicas: count,
        selector,
        template: _, // above
    } = &filled;
    check.ignore(
        "spec",
        &[(
            "minReadySeconds",
            apps::is_more_than_none(*min_ready_seconds),
        )],
    );
    let selector = LabelSelector {
        match_labels: selector.clone(),
        match_expressions: None,
    };
    let parts = Parts {
        kind: WorkloadKind::ReplicationController,
        metadata: &metadata,
        template: &template,
        selector: &selector,
        replicas: replicas(*count, &mut check),
        // As in Kubernetes: only new pods are of a new template.
        update: Update::OnDelete,
        progress_seconds: apps::PROGRESS_SECONDS,
        ordinals: None,
        claims: &[],
        job: None,
    };
    filled.replicas.get_or_insert(1);
    let mut workload = workload(parts, json!(filled), &mut check);
    let labels = labels.unwrap_or_default();
    if workload.labels.is_empty() && !labels.is_empty() {
        workload.object["metadata"]["labels"] = json!(labels);
        workload.labels = labels;
    }
    Some(finish(workload, check, issues))
}
