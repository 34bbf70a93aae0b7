//! GetContainerEvents: what becomes of containers and sandboxes, as it happens.
//!
//! What calls do is told by the calls; that a container or a pod has ended is
//! learnt from its supervisor, by one task for each pod while anybody listens.

use crate::pods::{self, container_id, nanos};
use crate::{container, sandbox};
use beluga_proto::PodUid;
use beluga_runtime::engine::{self, PodView, Update};
use beluga_runtime::pod::now;
use beluga_runtime::settings::Settings;
use beluga_runtime::store::status::{ContainerState, PodStatus};
use k8s_cri::v1::{self as cri, ContainerEventType as Kind};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// Events that a listener may be behind; one that is slower misses some.
const BACKLOG: usize = 1000;

/// How long a pod that cannot be watched is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Who listens, and which pods are watched for them.
#[derive(Debug, Clone)]
pub struct Events {
    settings: Settings,
    sender: broadcast::Sender<cri::ContainerEventResponse>,
    watched: Arc<Mutex<BTreeSet<String>>>,
}

impl Events {
    /// Of an installation.
    pub fn new(settings: Settings) -> Self {
        let (sender, _) = broadcast::channel(BACKLOG);
        Self {
            settings,
            sender,
            watched: Arc::default(),
        }
    }

    /// Listens from now on, to those pods and to all that come.
    pub fn listen(&self, pods: &[PodView]) -> broadcast::Receiver<cri::ContainerEventResponse> {
        let listener = self.sender.subscribe();
        for pod in pods {
            self.watch(&pod.uid);
        }
        listener
    }

    /// Something has become of a container of a pod, or (with no name) of the pod.
    pub async fn tell(&self, uid: &PodUid, name: Option<&str>, kind: Kind) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        if let Ok(Some(pod)) = engine::by_uid(&self.settings, uid).await {
            self.send(uid, name, kind, Some(&pod));
            self.watch(uid);
        }
    }

    /// A pod is no more, nor are its containers.
    pub fn gone(&self, pod: &PodView) {
        for (spec, _, _) in pods::containers(pod) {
            self.send(
                &pod.uid,
                Some(&spec.name),
                Kind::ContainerDeletedEvent,
                None,
            );
        }
        self.send(&pod.uid, None, Kind::ContainerDeletedEvent, None);
    }

    fn send(&self, uid: &PodUid, name: Option<&str>, kind: Kind, pod: Option<&PodView>) {
        let container_id = match name {
            Some(name) => container_id(uid, name),
            None => uid.to_string(),
        };
        // Nobody who listens is no error.
        let _ = self.sender.send(cri::ContainerEventResponse {
            container_id,
            container_event_type: kind.into(),
            created_at: nanos(now().unix),
            pod_sandbox_status: pod.map(sandbox::status),
            containers_statuses: pod.map(container::statuses).unwrap_or_default(),
        });
    }

    /// Watches a pod for ends, once.
    fn watch(&self, uid: &PodUid) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.insert(uid.to_string()) {
            let (own, uid) = (self.clone(), uid.clone());
            tokio::spawn(async move {
                own.follow(&uid).await;
                let mut watched = own.watched.lock().unwrap_or_else(PoisonError::into_inner);
                watched.remove(uid.as_str());
            });
        }
    }

    /// Tells of ends until the pod has ended, or nobody listens.
    async fn follow(&self, uid: &PodUid) {
        let mut known: Option<BTreeSet<String>> = None;
        while self.sender.receiver_count() > 0 {
            let Ok(mut watch) = engine::watch(&self.settings, uid).await else {
                match engine::by_uid(&self.settings, uid).await {
                    Ok(Some(_)) => tokio::time::sleep(PAUSE).await,
                    _ => return,
                }
                continue;
            };
            while let Ok(Some(Update::Status(status))) = watch.next().await {
                let ended = ended(&status);
                let before = known.replace(ended.clone());
                let before = before.unwrap_or_else(|| ended.clone());
                for name in ended.difference(&before) {
                    let kind = Kind::ContainerStoppedEvent;
                    self.tell(uid, Some(name), kind).await;
                }
                if status.phase.is_end() {
                    self.tell(uid, None, Kind::ContainerStoppedEvent).await;
                    return;
                }
            }
        }
    }
}

/// The containers that have ended.
fn ended(status: &PodStatus) -> BTreeSet<String> {
    let all = status.containers.iter();
    let over = all.filter(|one| matches!(one.state, ContainerState::Terminated(_)));
    over.map(|one| one.name.clone()).collect()
}
