//! What calls do that is more than a line.

use super::{Runtime, cri};
use crate::error::{CallError, missing};
use crate::labels::matches;
use crate::pods::{self, Found};
use crate::{container, resources, sandbox, stats};
use beluga_runtime::engine::{self, PodView, StopRequest, sandbox as engine_sandbox};
use cri::ContainerEventType as Kind;
use std::collections::HashMap;

impl Runtime {
    /// Whether pods can be run.
    pub(super) fn state(&self, verbose: bool) -> cri::StatusResponse {
        let parts = self
            .pods
            .settings
            .parts()
            .map(drop)
            .map_err(|error| error.to_string());
        let kvm = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm");
        let kvm = kvm.map(drop).map_err(|error| format!("/dev/kvm: {error}"));
        let network = sandbox::network(&self.config.network, &self.pods.settings);
        let condition = |kind: &str, reason: &str, failure: Option<String>| cri::RuntimeCondition {
            r#type: kind.to_owned(),
            status: failure.is_none(),
            reason: failure.as_ref().map_or("", |_| reason).to_owned(),
            message: failure.unwrap_or_default(),
        };
        let names = self.config.handlers.iter().map(String::as_str);
        let handler = |name: &str| cri::RuntimeHandler {
            name: name.to_owned(),
            features: Some(cri::RuntimeHandlerFeatures {
                // The guest sees one file system, whatever is mounted in it on the host.
                recursive_read_only_mounts: true,
                user_namespaces: false,
            }),
        };
        let info = verbose.then(|| {
            let settings = &self.pods.settings;
            let shown = serde_json::json!({
                "root": settings.root,
                "state": settings.state,
                "network": self.config.network,
            });
            HashMap::from([("config".to_owned(), shown.to_string())])
        });
        cri::StatusResponse {
            status: Some(cri::RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", "NotReady", parts.and(kvm).err()),
                    condition("NetworkReady", "NetworkPluginNotReady", network.err()),
                ],
            }),
            info: info.unwrap_or_default(),
            runtime_handlers: std::iter::once("").chain(names).map(handler).collect(),
            features: Some(cri::RuntimeFeatures {
                supplemental_groups_policy: true,
            }),
        }
    }

    pub(super) async fn run(
        &self,
        request: cri::RunPodSandboxRequest,
    ) -> Result<cri::RunPodSandboxResponse, CallError> {
        let config = request.config.ok_or_else(|| missing("config"))?;
        let logs = config.log_directory.clone();
        let settings = &self.pods.settings;
        let metadata = config.metadata.clone().unwrap_or_default();
        let _name = self.pods.reserve(&metadata).await?;
        let spec = sandbox::spec(config, request.runtime_handler, (&self.config, settings))?;
        if !logs.is_empty() {
            let made = std::fs::create_dir_all(&logs);
            made.map_err(|source| CallError::Stream {
                action: "make the log directory",
                source,
            })?;
        }
        let pod = engine_sandbox::run(settings, spec).await?;
        for kind in [Kind::ContainerCreatedEvent, Kind::ContainerStartedEvent] {
            self.events.tell(&pod.uid, None, kind).await;
        }
        Ok(cri::RunPodSandboxResponse {
            pod_sandbox_id: pod.uid.to_string(),
        })
    }

    /// Ends a sandbox, and with `delete` forgets it. One that is not there is no error.
    pub(super) async fn end(&self, id: &str, delete: bool) -> Result<(), CallError> {
        let Some(pod) = self.pods.find(id).await? else {
            return Ok(());
        };
        let request = StopRequest {
            grace: Some(0),
            delete,
        };
        match engine::stop(&self.pods.settings, &pod.uid, request).await {
            Err(engine::EngineError::Absent { .. }) => {}
            ended => ended?,
        }
        if delete {
            self.events.gone(&pod);
        }
        Ok(())
    }

    pub(super) async fn sandboxes(
        &self,
        filter: &cri::PodSandboxFilter,
    ) -> Result<Vec<cri::PodSandbox>, CallError> {
        let all = self.pods.all().await?;
        let mut items: Vec<_> = all.iter().map(sandbox::item).collect();
        items.retain(|one| {
            one.id.starts_with(&filter.id)
                && filter
                    .state
                    .as_ref()
                    .is_none_or(|wanted| wanted.state == one.state)
                && matches(&one.labels, &filter.label_selector)
        });
        Ok(items)
    }

    pub(super) async fn create(
        &self,
        request: cri::CreateContainerRequest,
    ) -> Result<cri::CreateContainerResponse, CallError> {
        let config = request.config.ok_or_else(|| missing("config"))?;
        let metadata = config
            .metadata
            .clone()
            .ok_or_else(|| missing("config.metadata"))?;
        let uid = self.pods.sandbox(&request.pod_sandbox_id).await?.uid;
        let _turn = self.pods.turn(&uid).await;
        let pod = self.pods.sandbox(uid.as_str()).await?;
        if let Some(id) = same(&pod, &metadata) {
            let (name, attempt) = (&metadata.name, metadata.attempt);
            let message = format!("the container {name}, attempt {attempt}, is there: {id}");
            return Err(CallError::State { message });
        }
        let settings = &self.pods.settings;
        let (new, _held) = container::new(settings, &pod, config)?;
        let container_id = pods::container_id(&uid, &new.container.name);
        let name = new.container.name.clone();
        engine_sandbox::create(settings, &uid, new).await?;
        let kind = Kind::ContainerCreatedEvent;
        self.events.tell(&uid, Some(&name), kind).await;
        Ok(cri::CreateContainerResponse { container_id })
    }

    pub(super) async fn start(&self, id: &str) -> Result<(), CallError> {
        let found = self.pods.container(id).await?;
        engine_sandbox::start(&self.pods.settings, &found.pod.uid, &found.name).await?;
        let kind = Kind::ContainerStartedEvent;
        let (uid, name) = (&found.pod.uid, Some(&*found.name));
        self.events.tell(uid, name, kind).await;
        Ok(())
    }

    /// Ends a container. One that is not there, or whose pod has gone, is no error.
    pub(super) async fn stop(&self, id: &str, seconds: i64) -> Result<(), CallError> {
        let Some(found) = self.pods.find_container(id).await? else {
            return Ok(());
        };
        let grace = u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
        let settings = &self.pods.settings;
        match engine_sandbox::stop(settings, &found.pod.uid, &found.name, grace).await {
            Err(error) if is_gone(&error) => Ok(()),
            ended => Ok(ended?),
        }
    }

    /// Forgets a container, ended before. One that is not there is no error.
    pub(super) async fn remove(&self, id: &str) -> Result<(), CallError> {
        let Some(found) = self.pods.find_container(id).await? else {
            return Ok(());
        };
        let _turn = self.pods.turn(&found.pod.uid).await;
        let settings = &self.pods.settings;
        match engine_sandbox::remove(settings, &found.pod.uid, &found.name).await {
            Err(error) if is_gone(&error) => {}
            removed => removed?,
        }
        let kind = Kind::ContainerDeletedEvent;
        let (uid, name) = (&found.pod.uid, Some(&*found.name));
        self.events.tell(uid, name, kind).await;
        Ok(())
    }

    pub(super) async fn containers(
        &self,
        filter: &cri::ContainerFilter,
    ) -> Result<Vec<cri::Container>, CallError> {
        let all = self.pods.all().await?;
        let mut items: Vec<_> = all.iter().flat_map(container::items).collect();
        items.retain(|one| {
            one.id.starts_with(&filter.id)
                && one.pod_sandbox_id.starts_with(&filter.pod_sandbox_id)
                && filter
                    .state
                    .as_ref()
                    .is_none_or(|wanted| wanted.state == one.state)
                && matches(&one.labels, &filter.label_selector)
        });
        Ok(items)
    }

    pub(super) async fn update(
        &self,
        request: cri::UpdateContainerResourcesRequest,
    ) -> Result<(), CallError> {
        let found = self.pods.container(&request.container_id).await?;
        let linux = request.linux.ok_or_else(|| missing("linux"))?;
        let _turn = self.pods.turn(&found.pod.uid).await;
        let Some((spec, _, _)) =
            pods::containers(&found.pod).find(|(spec, _, _)| spec.name == found.name)
        else {
            return Ok(());
        };
        let resources = resources::amended(spec, &linux, &found.pod)?;
        let settings = &self.pods.settings;
        engine_sandbox::resize(settings, &found.pod.uid, &found.name, resources).await?;
        Ok(())
    }

    pub(super) async fn reopen_log(&self, id: &str) -> Result<(), CallError> {
        let found = self.pods.container(id).await?;
        Ok(engine_sandbox::reopen_log(&self.pods.settings, &found.pod.uid, &found.name).await?)
    }

    pub(super) async fn stats_of(&self, id: &str) -> Result<cri::ContainerStats, CallError> {
        let found = self.pods.container(id).await?;
        let id = found.id();
        let stats = stats::of_pod(&self.pods, &found.pod).await?;
        let all = stats
            .and_then(|stats| stats.linux)
            .map(|linux| linux.containers);
        let is_it = |one: &cri::ContainerStats| {
            one.attributes
                .as_ref()
                .is_some_and(|attributes| attributes.id == id)
        };
        let found = all.unwrap_or_default().into_iter().find(is_it);
        found.ok_or_else(|| CallError::State {
            message: format!("the container {id} does not run"),
        })
    }

    pub(super) async fn all_stats(
        &self,
        filter: &cri::ContainerStatsFilter,
    ) -> Result<Vec<cri::ContainerStats>, CallError> {
        let mut found = Vec::new();
        for pod in self.pods.all().await? {
            if !pod.uid.as_str().starts_with(&filter.pod_sandbox_id) {
                continue;
            }
            // One pod that does not answer hides nobody else.
            let Ok(Some(stats)) = stats::of_pod(&self.pods, &pod).await else {
                continue;
            };
            found.extend(
                stats
                    .linux
                    .map(|linux| linux.containers)
                    .unwrap_or_default(),
            );
        }
        found.retain(|one| {
            one.attributes.as_ref().is_some_and(|known| {
                known.id.starts_with(&filter.id) && matches(&known.labels, &filter.label_selector)
            })
        });
        Ok(found)
    }

    pub(super) async fn sandbox_stats(
        &self,
        filter: &cri::PodSandboxStatsFilter,
    ) -> Result<Vec<cri::PodSandboxStats>, CallError> {
        let mut found = Vec::new();
        for pod in self.pods.all().await? {
            let labels = pods::note(&pod).config.labels;
            let is_meant = pod.uid.as_str().starts_with(&filter.id)
                && matches(&labels, &filter.label_selector);
            if is_meant && let Ok(Some(stats)) = stats::of_pod(&self.pods, &pod).await {
                found.push(stats);
            }
        }
        Ok(found)
    }
}

/// The container of that name and attempt.
fn same(pod: &PodView, metadata: &cri::ContainerMetadata) -> Option<String> {
    let mut all = pods::containers(pod);
    let found = all.find(|(_, note, _)| note.config.metadata.as_ref() == Some(metadata));
    let name = found.map(|(spec, _, _)| spec.name.clone())?;
    let pod = pod.clone();
    Some(Found { pod, name }.id())
}

fn is_gone(error: &engine::EngineError) -> bool {
    use engine::EngineError;
    matches!(
        error,
        EngineError::Absent { .. } | EngineError::NoContainer { .. }
    )
}
