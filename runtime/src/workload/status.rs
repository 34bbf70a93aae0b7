//! How a workload is: counted from its pods, in Kubernetes' words.

use super::{Kept, Member};
use crate::spec::{Update, Workload, WorkloadKind};
use serde_json::{Value, json};

/// How many pods of which sort a workload has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// As many as it shall have.
    pub desired: usize,
    /// That have not ended.
    pub present: usize,
    /// Of the present template.
    pub updated: usize,
    /// That are ready.
    pub ready: usize,
    /// Of the present template and ready.
    pub updated_ready: usize,
}

/// Counts a workload's pods.
#[must_use]
pub fn counts(workload: &Workload, members: &[Member]) -> Counts {
    let live = || members.iter().filter(|one| !one.has_ended);
    Counts {
        desired: workload.replicas as usize,
        present: live().count(),
        updated: live().filter(|one| one.is_current).count(),
        ready: live().filter(|one| one.is_ready).count(),
        updated_ready: live().filter(|one| one.is_current && one.is_ready).count(),
    }
}

/// The object as Kubernetes' own tools read it; `created` is its time stamp.
#[must_use]
pub fn object(kept: &Kept, workload: &Workload, counts: Counts, created: &str) -> Value {
    let mut object = kept.object.clone();
    let metadata = &mut object["metadata"];
    metadata["uid"] = json!(kept.uid);
    metadata["resourceVersion"] = json!(kept.revision.to_string());
    metadata["generation"] = json!(kept.generation);
    metadata["creationTimestamp"] = json!(created);
    object["status"] = match workload.kind {
        WorkloadKind::Deployment => deployment(workload, counts),
        WorkloadKind::ReplicaSet | WorkloadKind::ReplicationController => json!({
            "replicas": counts.present,
            "fullyLabeledReplicas": counts.present,
            "readyReplicas": counts.ready,
            "availableReplicas": counts.ready,
        }),
        WorkloadKind::StatefulSet => json!({
            "replicas": counts.present,
            "readyReplicas": counts.ready,
            "availableReplicas": counts.ready,
            "currentReplicas": counts.updated,
            "updatedReplicas": counts.updated,
            "currentRevision": format!("{}-{}", workload.name, workload.hash),
            "updateRevision": format!("{}-{}", workload.name, workload.hash),
        }),
        // Counted by its runner: see `job::status`.
        WorkloadKind::Job => json!({}),
        WorkloadKind::DaemonSet => json!({
            "desiredNumberScheduled": counts.desired,
            "currentNumberScheduled": counts.present.min(counts.desired),
            "numberMisscheduled": 0,
            "numberReady": counts.ready,
            "numberAvailable": counts.ready,
            "numberUnavailable": counts.desired.saturating_sub(counts.ready),
            "updatedNumberScheduled": counts.updated,
        }),
    };
    object["status"]["observedGeneration"] = json!(kept.generation);
    object
}

fn deployment(workload: &Workload, counts: Counts) -> Value {
    let unavailable = match workload.update {
        Update::Rolling { unavailable, .. } => unavailable as usize,
        Update::Recreate | Update::OnDelete => counts.desired,
    };
    let needed = counts.desired.saturating_sub(unavailable);
    let is_available = counts.ready >= needed;
    let is_complete = counts.updated_ready >= counts.desired && counts.present == counts.updated;
    let word = |holds| if holds { "True" } else { "False" };
    let (reason, message) = if is_available {
        (
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    json!({
        "replicas": counts.present,
        "updatedReplicas": counts.updated,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.ready,
        "unavailableReplicas": counts.desired.saturating_sub(counts.ready),
        "conditions": [
            {"type": "Available", "status": word(is_available), "reason": reason, "message": message},
            {
                "type": "Progressing",
                "status": "True",
                "reason": if is_complete { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" },
            },
        ],
    })
}
