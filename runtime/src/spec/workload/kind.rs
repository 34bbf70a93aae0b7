//! Which kinds of workloads there are, and what they are called.

use std::fmt;

/// What kind of workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// Equal pods, replaced step by step when the template changes.
    Deployment,
    /// Equal pods.
    ReplicaSet,
    /// The same, of the time before there were ReplicaSets.
    ReplicationController,
    /// Pods with numbers and claims of their own.
    StatefulSet,
    /// One pod on each host: here one.
    DaemonSet,
    /// Pods that come to an end.
    Job,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Deployment,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
    ];

    /// As documents have it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
        }
    }

    /// Group and version.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Job => "batch/v1",
            Self::ReplicationController => "v1",
            _ => "apps/v1",
        }
    }

    /// As kubectl prints one of several: `deployment.apps`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Deployment => "deployment.apps",
            Self::ReplicaSet => "replicaset.apps",
            Self::ReplicationController => "replicationcontroller",
            Self::StatefulSet => "statefulset.apps",
            Self::DaemonSet => "daemonset.apps",
            Self::Job => "job.batch",
        }
    }

    /// What people write where kubectl wants a type.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        // Of the core API, whose group has no name.
        if matches!(
            word,
            "replicationcontroller" | "replicationcontrollers" | "rc"
        ) {
            return Some(Self::ReplicationController);
        }
        let word = word.strip_suffix(".apps").unwrap_or(word);
        Some(match word {
            "job" | "jobs" | "job.batch" | "jobs.batch" => Self::Job,
            "deployment" | "deployments" | "deploy" => Self::Deployment,
            "replicaset" | "replicasets" | "rs" => Self::ReplicaSet,
            "statefulset" | "statefulsets" | "sts" => Self::StatefulSet,
            "daemonset" | "daemonsets" | "ds" => Self::DaemonSet,
            _ => return None,
        })
    }

    /// The kind of a document.
    pub(in crate::spec) fn of(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.kind() == kind)
    }

    /// The label that says which template a pod was made from.
    #[must_use]
    pub fn hash_label(self) -> &'static str {
        match self {
            Self::Deployment | Self::ReplicaSet | Self::ReplicationController => {
                "pod-template-hash"
            }
            Self::StatefulSet | Self::DaemonSet | Self::Job => "controller-revision-hash",
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
