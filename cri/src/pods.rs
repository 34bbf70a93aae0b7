//! The sandboxes of this installation, by the interface's identifiers.
//!
//! A sandbox's is the UID of its pod. A container's is that UID without dashes and
//! 32 digits of its own, which are its name in the pod: so whoever has it knows
//! where to look.

use crate::error::CallError;
use beluga_proto::PodUid;
use beluga_runtime::engine::{self, PodView, sandbox};
use beluga_runtime::settings::Settings;
use beluga_runtime::spec::Container;
use beluga_runtime::store::status::ContainerStatus;
use k8s_cri::v1 as cri;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Digits of either half of a container's identifier.
const HALF: usize = 32;

/// What a sandbox was asked for, kept with it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SandboxNote {
    /// The request.
    pub config: cri::PodSandboxConfig,
    /// The handler that was named.
    pub handler: String,
}

/// What a container was asked for, kept with it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ContainerNote {
    /// The request.
    pub config: cri::ContainerConfig,
    /// When, in nanoseconds since 1970.
    pub created: i64,
}

/// A container and its pod.
#[derive(Debug, Clone)]
pub struct Found {
    /// The pod.
    pub pod: PodView,
    /// Its name in the pod.
    pub name: String,
}

/// All sandboxes.
#[derive(Debug, Clone)]
pub struct Pods {
    /// The installation.
    pub settings: Settings,
    locks: Arc<Mutex<HashMap<PodUid, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Pods {
    /// The sandboxes of an installation.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            locks: Arc::default(),
        }
    }

    /// The right to change a pod: one change at a time.
    pub async fn turn(&self, uid: &PodUid) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Locks that nobody has or waits for are of no use.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(uid.clone()).or_default())
        };
        lock.lock_owned().await
    }

    /// All sandboxes.
    pub async fn all(&self) -> Result<Vec<PodView>, CallError> {
        let mut all = engine::list(&self.settings).await?;
        all.retain(|pod| pod.spec.sandbox.is_some());
        Ok(all)
    }

    /// The sandbox with that identifier, or whose identifier alone begins so.
    pub async fn find(&self, id: &str) -> Result<Option<PodView>, CallError> {
        if let Ok(uid) = PodUid::parse(id) {
            let found = engine::by_uid(&self.settings, &uid).await?;
            return Ok(found.filter(|pod| pod.spec.sandbox.is_some()));
        }
        if id.is_empty() {
            return Ok(None);
        }
        let mut all = self.all().await?;
        all.retain(|pod| pod.uid.as_str().starts_with(id));
        Ok(all.pop().filter(|_| all.is_empty()))
    }

    /// The same; errors when it is not there.
    pub async fn sandbox(&self, id: &str) -> Result<PodView, CallError> {
        self.find(id).await?.ok_or_else(|| CallError::Absent {
            what: "pod sandbox",
            name: id.to_owned(),
        })
    }

    /// The container with that identifier, or whose identifier alone begins so.
    pub async fn find_container(&self, id: &str) -> Result<Option<Found>, CallError> {
        let is_it = |pod: &PodView, name: &str| container_id(&pod.uid, name).starts_with(id);
        let pods = match pod_of(id) {
            Some(uid) => engine::by_uid(&self.settings, &uid)
                .await?
                .into_iter()
                .collect(),
            None if id.is_empty() => Vec::new(),
            None => self.all().await?,
        };
        let mut found = pods.into_iter().flat_map(|pod| {
            let all = sandbox::containers(&pod);
            let names = all.map(|one| one.name.clone());
            let names: Vec<String> = names.filter(|name| is_it(&pod, name)).collect();
            let found = names.into_iter().map(move |name| (pod.clone(), name));
            found.map(|(pod, name)| Found { pod, name })
        });
        let first = found.next();
        Ok(first.filter(|_| found.next().is_none()))
    }

    /// The same; errors when it is not there.
    pub async fn container(&self, id: &str) -> Result<Found, CallError> {
        let found = self.find_container(id).await?;
        found.ok_or_else(|| CallError::Absent {
            what: "container",
            name: id.to_owned(),
        })
    }
}

impl Found {
    /// Its identifier.
    pub fn id(&self) -> String {
        container_id(&self.pod.uid, &self.name)
    }

    /// What it was asked for, and how it is.
    pub fn parts(&self) -> Option<(ContainerNote, &ContainerStatus)> {
        let mut all = containers(&self.pod);
        let (_, note, status) = all.find(|(one, _, _)| one.name == self.name)?;
        Some((note, status))
    }
}

/// The identifier of a pod's container.
pub fn container_id(uid: &PodUid, name: &str) -> String {
    uid.as_str().replace('-', "") + name
}

/// The pod that a whole identifier of a container names.
fn pod_of(id: &str) -> Option<PodUid> {
    let digits = id.get(..HALF).filter(|_| id.len() == 2 * HALF)?;
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    let parts: Option<Vec<&str>> = parts.into_iter().map(|part| digits.get(part)).collect();
    PodUid::parse(parts?.join("-")).ok()
}

/// What a sandbox was asked for.
pub fn note(pod: &PodView) -> SandboxNote {
    let note = pod.spec.sandbox.iter().map(|one| one.note.as_str());
    // One that others have written says nothing to us.
    let read = note.map(serde_json::from_str).next();
    read.and_then(Result::ok).unwrap_or_default()
}

/// The containers that are in a sandbox: as they are specified, what they were
/// asked for, how they are.
pub fn containers(
    pod: &PodView,
) -> impl Iterator<Item = (&Container, ContainerNote, &ContainerStatus)> {
    sandbox::containers(pod).filter_map(|status| {
        let mut all = pod.spec.containers.iter();
        let spec = all.find(|one| one.name == status.name)?;
        let note = spec.guest.as_ref().map(|one| one.note.as_str());
        let note = serde_json::from_str(note.unwrap_or_default());
        Some((spec, note.unwrap_or_default(), status))
    })
}

/// Nanoseconds as the interface has them.
pub fn nanos(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_identifier_leads_to_its_pod() {
        let uid = PodUid::from_random([7; 16]);
        let id = container_id(&uid, &"a".repeat(32));
        assert_eq!(id.len(), 64);
        assert_eq!(pod_of(&id), Some(uid));
        assert_eq!(pod_of(&id[..63]), None);
        assert_eq!(pod_of(&"z".repeat(64)), None);
    }
}
