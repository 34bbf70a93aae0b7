//! A container of which nothing has run yet.

use super::waiting;
use crate::plan::{ContainerKind, ContainerPlan, Plan};
use crate::store::status::ContainerStatus;

/// Its status, waiting for this reason.
pub(super) fn first_status(container: &ContainerPlan, reason: &str) -> ContainerStatus {
    ContainerStatus {
        name: container.name().to_owned(),
        kind: container.kind,
        image: container.image.clone(),
        image_id: container.image_id.clone(),
        id: None,
        state: waiting(reason, None),
        last_termination: None,
        restarts: 0,
        started: false,
        ready: false,
        resources: Some(container.resources.clone()),
        resizing: None,
        is_gone: false,
    }
}

/// What a container of a new pod waits for.
pub(super) fn first_reason(plan: &Plan, kind: ContainerKind) -> &'static str {
    let has_init = plan
        .containers
        .iter()
        .any(|container| container.kind != ContainerKind::App);
    if has_init && kind == ContainerKind::App {
        "PodInitializing"
    } else {
        "ContainerCreating"
    }
}
