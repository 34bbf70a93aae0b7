//! The sandboxes of this installation, by the interface's identifiers.
//!
//! A sandbox's is the UID of its pod. A container's is 32 digits of its own, which are
//! its name in the pod, and that UID without dashes: so whoever has it knows where to
//! look, and who has only its beginning, which is what people are shown, has what
//! tells it from others.

use crate::error::{CallError, missing};
use crate::stats::Rates;
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
    /// Whose sandboxes are being made.
    coming: Arc<Mutex<Vec<cri::PodSandboxMetadata>>>,
    /// How fast sandboxes and containers use CPU time.
    pub rates: Rates,
}

/// The right to make the sandbox of that name, until it is dropped.
#[derive(Debug)]
pub struct Reserved {
    metadata: cri::PodSandboxMetadata,
    coming: Arc<Mutex<Vec<cri::PodSandboxMetadata>>>,
}

impl Reserved {
    /// None where somebody has it.
    fn new(
        coming: &Arc<Mutex<Vec<cri::PodSandboxMetadata>>>,
        metadata: &cri::PodSandboxMetadata,
    ) -> Option<Self> {
        let mut known = coming.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(metadata) {
            return None;
        }
        known.push(metadata.clone());
        Some(Self {
            metadata: metadata.clone(),
            coming: Arc::clone(coming),
        })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut known = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|one| *one != self.metadata);
    }
}

impl Pods {
    /// The sandboxes of an installation.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            locks: Arc::default(),
            coming: Arc::default(),
            rates: Rates::default(),
        }
    }

    /// The right to make a sandbox. An error where there is one of that name, UID and
    /// attempt, or where it is being made: two machines would have the same volumes.
    pub async fn reserve(&self, of: &cri::PodSandboxMetadata) -> Result<Reserved, CallError> {
        let exists = |how: String| CallError::Exists {
            message: format!(
                "the sandbox of {}/{} ({}), attempt {}, is {how}",
                of.namespace, of.name, of.uid, of.attempt
            ),
        };
        let reserved = Reserved::new(&self.coming, of);
        let reserved = reserved.ok_or_else(|| exists("being made".to_owned()))?;
        let all = self.all().await?;
        let same = |pod: &&PodView| note(pod).config.metadata.as_ref() == Some(of);
        match all.iter().find(same) {
            Some(pod) => Err(exists(format!("there: {}", pod.uid))),
            None => Ok(reserved),
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
        let field = "pod_sandbox_id";
        if id.is_empty() {
            return Err(missing(field));
        }
        let all = self.all().await?.into_iter();
        sole(field, id, all.map(|pod| (pod.uid.to_string(), pod)))
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
        let field = "container_id";
        let pods = match pod_of(id) {
            Some(uid) => engine::by_uid(&self.settings, &uid)
                .await?
                .into_iter()
                .collect(),
            None if id.is_empty() => return Err(missing(field)),
            None => self.all().await?,
        };
        let all = pods.iter().flat_map(|pod| {
            let all = sandbox::containers(pod);
            all.map(move |one| (container_id(&pod.uid, &one.name), (pod, &one.name)))
        });
        let found = sole(field, id, all)?;
        Ok(found.map(|(pod, name)| Found {
            pod: pod.clone(),
            name: name.clone(),
        }))
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
    name.to_owned() + &uid.as_str().replace('-', "")
}

/// The one whose identifier begins so, if there is one. An error where there are
/// several: none of them may be taken for what was meant.
pub fn sole<T>(
    field: &'static str,
    id: &str,
    all: impl Iterator<Item = (String, T)>,
) -> Result<Option<T>, CallError> {
    let mut found = all.filter(|(known, _)| known.starts_with(id));
    let first = found.next();
    if found.next().is_some() {
        let why = format!("several identifiers begin with {id:?}");
        return Err(CallError::Invalid { field, why });
    }
    Ok(first.map(|(_, one)| one))
}

/// The pod that a whole identifier of a container names.
fn pod_of(id: &str) -> Option<PodUid> {
    let digits = id.get(HALF..).filter(|_| id.len() == 2 * HALF)?;
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
        assert!(id.starts_with("aaaa"), "it begins with what is its own");
        assert_eq!(pod_of(&id), Some(uid));
        assert_eq!(pod_of(&id[..63]), None);
        assert_eq!(pod_of(&"z".repeat(64)), None);
    }

    #[test]
    fn a_sandbox_is_made_once_at_a_time() {
        let coming = Arc::default();
        let mut metadata = cri::PodSandboxMetadata {
            name: "a".into(),
            uid: "u".into(),
            namespace: "default".into(),
            attempt: 0,
        };
        let first = Reserved::new(&coming, &metadata);
        assert!(first.is_some());
        assert!(Reserved::new(&coming, &metadata).is_none());
        metadata.attempt = 1;
        assert!(Reserved::new(&coming, &metadata).is_some());
        metadata.attempt = 0;
        drop(first);
        assert!(Reserved::new(&coming, &metadata).is_some());
    }

    #[test]
    fn the_beginning_of_an_identifier_is_enough_where_it_is_one_ones_alone() {
        let find = |id| {
            let all = [("abc1", 1), ("abd2", 2)].map(|(id, one)| (id.to_owned(), one));
            sole("container_id", id, all.into_iter())
        };
        assert_eq!(find("abd").unwrap(), Some(2));
        assert_eq!(find("abc1").unwrap(), Some(1));
        assert_eq!(find("b").unwrap(), None);
        let error = find("ab").unwrap_err().to_string();
        assert_eq!(error, "container_id: several identifiers begin with \"ab\"");
    }
}
