//! RuntimeService: what each call does, in a few lines.

mod calls;
mod streams;

use crate::config::{self, Config};
use crate::error::CallError;
use crate::events::Events;
use crate::pods::{Pods, nanos};
use crate::streaming::Streaming;
use crate::{container, exec, metrics, sandbox, stats};
use beluga_runtime::pod::now;
use beluga_runtime::settings::Settings;
use k8s_cri::v1::runtime_service_server::RuntimeService;
use k8s_cri::v1::{self as cri, *};
use std::pin::Pin;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

/// What an answer is.
type Answer<T> = Result<Response<T>, Status>;

/// The service.
#[derive(Debug, Clone)]
pub struct Runtime {
    pods: Pods,
    config: Config,
    streaming: Streaming,
    events: Events,
}

impl Runtime {
    /// The pods of an installation.
    pub fn new(settings: Settings, config: Config, streaming: Streaming) -> Self {
        Self {
            events: Events::new(settings.clone()),
            pods: Pods::new(settings),
            config,
            streaming,
        }
    }
}

fn answer<T>(done: Result<T, CallError>) -> Answer<T> {
    Ok(Response::new(done?))
}

/// A call that is not served, by its name.
fn unserved<T>(call: &str) -> Answer<T> {
    Err(Status::unimplemented(format!(
        "beluga-cri does not serve {call}"
    )))
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        Ok(Response::new(VersionResponse {
            // The kubelet's own: of this message, not of the runtime.
            version: "0.1.0".to_owned(),
            runtime_name: "beluga".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        Ok(Response::new(self.state(request.into_inner().verbose)))
    }

    async fn runtime_config(
        &self,
        _: Request<RuntimeConfigRequest>,
    ) -> Answer<RuntimeConfigResponse> {
        Ok(Response::new(RuntimeConfigResponse {
            linux: Some(LinuxRuntimeConfiguration {
                cgroup_driver: match self.config.cgroup_driver {
                    config::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs.into(),
                    config::CgroupDriver::Systemd => CgroupDriver::Systemd.into(),
                },
            }),
        }))
    }

    async fn update_runtime_config(
        &self,
        _: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        // The range of the pods' addresses is the network's to know.
        Ok(Response::new(UpdateRuntimeConfigResponse {}))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<RunPodSandboxRequest>,
    ) -> Answer<RunPodSandboxResponse> {
        answer(self.run(request.into_inner()).await)
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        self.end(&request.into_inner().pod_sandbox_id, false)
            .await?;
        Ok(Response::new(StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        self.end(&request.into_inner().pod_sandbox_id, true).await?;
        Ok(Response::new(RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let request = request.into_inner();
        let pod = self.pods.sandbox(&request.pod_sandbox_id).await?;
        let info = request.verbose.then(|| sandbox::info(&pod));
        Ok(Response::new(PodSandboxStatusResponse {
            status: Some(sandbox::status(&pod)),
            info: info.unwrap_or_default(),
            containers_statuses: container::statuses(&pod),
            timestamp: nanos(now().unix),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let items = self.sandboxes(&filter).await?;
        Ok(Response::new(ListPodSandboxResponse { items }))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        answer(self.create(request.into_inner()).await)
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        self.start(&request.into_inner().container_id).await?;
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Answer<StopContainerResponse> {
        let request = request.into_inner();
        self.stop(&request.container_id, request.timeout).await?;
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        self.remove(&request.into_inner().container_id).await?;
        Ok(Response::new(RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let containers = self.containers(&filter).await?;
        Ok(Response::new(ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let request = request.into_inner();
        let found = self.pods.container(&request.container_id).await?;
        let info = request.verbose.then(|| container::info(&found));
        Ok(Response::new(ContainerStatusResponse {
            status: container::status(&found.pod, &found.name),
            info: info.unwrap_or_default(),
        }))
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        self.update(request.into_inner()).await?;
        Ok(Response::new(UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        self.reopen_log(&request.into_inner().container_id).await?;
        Ok(Response::new(ReopenContainerLogResponse {}))
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let request = request.into_inner();
        let found = self.pods.container(&request.container_id).await?;
        let settings = &self.pods.settings;
        answer(exec::run(settings, &found, request.cmd, request.timeout).await)
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let url = self.exec_url(request.into_inner()).await?;
        Ok(Response::new(ExecResponse { url }))
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let url = self.attach_url(request.into_inner()).await?;
        Ok(Response::new(AttachResponse { url }))
    }

    async fn port_forward(
        &self,
        request: Request<PortForwardRequest>,
    ) -> Answer<PortForwardResponse> {
        let url = self.forward_url(request.into_inner()).await?;
        Ok(Response::new(PortForwardResponse { url }))
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        let stats = self.stats_of(&request.into_inner().container_id).await?;
        let stats = Some(stats);
        Ok(Response::new(ContainerStatsResponse { stats }))
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let stats = self.all_stats(&filter).await?;
        Ok(Response::new(ListContainerStatsResponse { stats }))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        let pod = self
            .pods
            .sandbox(&request.into_inner().pod_sandbox_id)
            .await?;
        let stats = stats::of_pod(&self.pods, &pod).await?;
        if stats.is_none() {
            let message = format!("the sandbox {} does not run", pod.uid);
            return Err(CallError::State { message }.into());
        }
        Ok(Response::new(PodSandboxStatsResponse { stats }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let stats = self.sandbox_stats(&filter).await?;
        Ok(Response::new(ListPodSandboxStatsResponse { stats }))
    }

    async fn checkpoint_container(
        &self,
        _: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        unserved("CheckpointContainer")
    }

    type GetContainerEventsStream =
        Pin<Box<dyn Stream<Item = Result<ContainerEventResponse, Status>> + Send>>;

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let pods = self.pods.all().await?;
        let listener = BroadcastStream::new(self.events.listen(&pods));
        // Who is too slow to hear all of it asks anew, as with a connection that broke.
        let told = listener.map(|event| {
            event.map_err(|missed| Status::data_loss(format!("events were missed: {missed}")))
        });
        Ok(Response::new(Box::pin(told)))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        let descriptors = metrics::descriptors();
        Ok(Response::new(ListMetricDescriptorsResponse { descriptors }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        let mut pod_metrics = Vec::new();
        for pod in self.pods.all().await? {
            // One pod that does not answer hides nobody else.
            if let Ok(Some(told)) = metrics::of_pod(&self.pods.settings, &pod).await {
                pod_metrics.push(told);
            }
        }
        Ok(Response::new(ListPodSandboxMetricsResponse { pod_metrics }))
    }
}
