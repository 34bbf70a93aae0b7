//! A client of the Container Runtime Interface, from the published bindings.

use super::{
    Code, ContainerConfig, ContainerFilter, ContainerState, ContainerStats, ContainerStatsRequest,
    ContainerStatus, ContainerStatusRequest, CreateContainerRequest, ExecSyncRequest,
    ExecSyncResponse, Heard, LinuxContainerResources, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, ListContainersRequest, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, PodSandboxStatus, PodSandboxStatusRequest,
    RemoveContainerRequest, RemovePodSandboxRequest, ReopenContainerLogRequest, Response,
    RunPodSandboxRequest, StartContainerRequest, Status, StatusRequest, StopContainerRequest,
    StopPodSandboxRequest, UpdateContainerResourcesRequest, VersionRequest, text,
};
use crate::{SOON, eventually};
use futures_util::{SinkExt as _, StreamExt as _};
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};
use tonic::transport::Channel;

/// How long a caller waits that goes without an answer.
const BRIEFLY: Duration = Duration::from_secs(3);

/// Speaks to a server on a unix socket.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    channel: Channel,
    /// The handler of its sandboxes.
    handler: &'static str,
    /// Where the logs of pods are wanted.
    logs: PathBuf,
    /// What its sandboxes were asked to be: a kubelet says it with each container.
    known: Mutex<BTreeMap<String, PodSandboxConfig>>,
}

impl Client {
    /// One that speaks when it is first asked something.
    #[must_use]
    pub fn new(socket: &Path, handler: &'static str, logs: PathBuf) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        let socket = format!("unix://{}", socket.display());
        let channel = runtime.block_on(async {
            tonic::transport::Endpoint::from_shared(socket)
                .expect("a socket")
                .connect_lazy()
        });
        Self {
            runtime,
            channel,
            handler,
            logs,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, PodSandboxConfig>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the server answers.
    pub fn answers(&self) {
        eventually("the server answers", || {
            let version = VersionRequest::default();
            let asked = async { self.runtime().version(version).await };
            self.call(asked).ok()
        });
    }

    /// Whether the server says that pods can run, with a network.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let request = StatusRequest::default();
        let asked = async { self.runtime().status(request).await };
        let status = self.call(asked).ok().and_then(|answer| answer.status);
        status.is_some_and(|status| status.conditions.iter().all(|one| one.status))
    }

    /// The RuntimeService.
    #[must_use]
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone())
    }

    /// The ImageService.
    #[must_use]
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    /// What a call says, within time.
    pub fn call<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        let bounded = async { tokio::time::timeout(SOON * 2, call).await };
        match self.runtime.block_on(bounded) {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => panic!("a call does not end"),
        }
    }

    /// Where the logs of a sandbox are wanted.
    #[must_use]
    pub fn logs(&self, sandbox: &str) -> PathBuf {
        self.logs.join(sandbox)
    }

    /// A sandbox's configuration: containers see their own processes only.
    #[must_use]
    pub fn sandbox(&self, name: &str) -> PodSandboxConfig {
        let own = NamespaceOption {
            pid: NamespaceMode::Container.into(),
            ..NamespaceOption::default()
        };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("uid-of-{name}"),
                namespace: "default".to_owned(),
                attempt: 1,
            }),
            log_directory: self.logs(name).display().to_string(),
            labels: [("pod".to_owned(), name.to_owned())].into(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(own),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        }
    }

    /// Runs a sandbox: its identifier, or why not.
    pub fn run(&self, config: PodSandboxConfig) -> Result<String, Status> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: self.handler.to_owned(),
        };
        let run = async { self.runtime().run_pod_sandbox(request).await };
        let id = self.call(run)?.pod_sandbox_id;
        self.known().insert(id.clone(), config);
        Ok(id)
    }

    /// A sandbox as it is.
    #[must_use]
    pub fn sandbox_status(&self, id: &str) -> PodSandboxStatus {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let asked = async { self.runtime().pod_sandbox_status(request).await };
        self.call(asked)
            .expect("it is there")
            .status
            .expect("a status")
    }

    /// Ends a sandbox.
    pub fn stop_sandbox(&self, id: &str) {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let done = async { self.runtime().stop_pod_sandbox(request).await };
        self.call(done).expect("stopped");
    }

    /// Removes a sandbox.
    pub fn remove_sandbox(&self, id: &str) {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let done = async { self.runtime().remove_pod_sandbox(request).await };
        self.call(done).expect("removed");
    }

    /// Creates a container: its identifier, or why not.
    pub fn create(&self, sandbox: &str, config: ContainerConfig) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: self.known().get(sandbox).cloned(),
        };
        let created = async { self.runtime().create_container(request).await };
        self.call(created).map(|answer| answer.container_id)
    }

    /// Starts a container, or says why not.
    pub fn begin(&self, id: &str) -> Result<(), Status> {
        let container_id = id.to_owned();
        let request = StartContainerRequest { container_id };
        let started = async { self.runtime().start_container(request).await };
        self.call(started).map(drop)
    }

    /// A container that was created and started.
    #[track_caller]
    pub fn container(&self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self.create(sandbox, config).expect("created");
        self.begin(&id).expect("started");
        id
    }

    /// A container as it is; `None` when it is not there.
    #[must_use]
    pub fn container_status(&self, id: &str) -> Option<ContainerStatus> {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let asked = async { self.runtime().container_status(request).await };
        match self.call(asked) {
            Err(status) if status.code() == Code::NotFound => None,
            answer => answer.expect("an answer").status,
        }
    }

    /// A container's last status, once it has ended.
    #[track_caller]
    pub fn ended(&self, id: &str) -> ContainerStatus {
        eventually("the container has ended", || {
            let status = self.container_status(id).expect("it is there");
            (status.state() == ContainerState::ContainerExited).then_some(status)
        })
    }

    /// What a container uses.
    #[must_use]
    pub fn stats(&self, id: &str) -> ContainerStats {
        let container_id = id.to_owned();
        let request = ContainerStatsRequest { container_id };
        let stats = self.call(async { self.runtime().container_stats(request).await });
        stats.expect("an answer").stats.expect("stats")
    }

    /// Changes what a container may use.
    pub fn update(&self, id: &str, resources: LinuxContainerResources) {
        let request = UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources),
            ..UpdateContainerResourcesRequest::default()
        };
        let done = async { self.runtime().update_container_resources(request).await };
        self.call(done).expect("updated");
    }

    /// Asks for a new file of a container's log.
    pub fn reopen_log(&self, id: &str) {
        let container_id = id.to_owned();
        let request = ReopenContainerLogRequest { container_id };
        let done = async { self.runtime().reopen_container_log(request).await };
        self.call(done).expect("reopened");
    }

    /// The containers that are listed by a label called `name`.
    #[must_use]
    pub fn listed(&self, name: &str) -> Vec<String> {
        let filter = ContainerFilter {
            label_selector: [("name".to_owned(), name.to_owned())].into(),
            ..ContainerFilter::default()
        };
        let filter = Some(filter);
        let request = ListContainersRequest { filter };
        let listed = self.call(async { self.runtime().list_containers(request).await });
        let all = listed.expect("a list").containers.into_iter();
        all.map(|one| one.id).collect()
    }

    /// Ends a container.
    pub fn stop(&self, id: &str, timeout: i64) {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout,
        };
        let done = async { self.runtime().stop_container(request).await };
        self.call(done).expect("stopped");
    }

    /// Stops a container at once and removes it.
    pub fn end(&self, id: &str) {
        self.stop(id, 0);
        self.remove(id);
    }

    /// Removes a container.
    pub fn remove(&self, id: &str) {
        let request = RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        let done = async { self.runtime().remove_container(request).await };
        self.call(done).expect("removed");
    }

    /// What a command in a container prints; panics when it fails.
    #[track_caller]
    pub fn sh(&self, id: &str, line: &str) -> String {
        let answer = self.exec(id, line, 0).expect("it ran");
        let (out, err) = (text(&answer.stdout), text(&answer.stderr));
        assert_eq!(answer.exit_code, 0, "{line}: {out} {err}");
        out
    }

    /// Speaks with the address of a stream over a WebSocket: sends messages, then gives
    /// back all that comes, by channel, until `enough` says that it has come.
    pub fn converse(
        &self,
        url: &str,
        protocol: &str,
        messages: &[Vec<u8>],
        enough: impl Fn(&Heard) -> bool,
    ) -> Heard {
        let place = url.strip_prefix("http://").expect("an address of HTTP");
        let host = place.split('/').next().expect("a host").to_owned();
        let uri = format!("ws://{place}").parse().expect("an address");
        let request = ClientRequestBuilder::new(uri).with_sub_protocol(protocol);
        let talk = async {
            let stream = tokio::net::TcpStream::connect(host)
                .await
                .expect("connected");
            let opened = tokio_tungstenite::client_async(request, stream).await;
            let (mut socket, _) = opened.expect("a WebSocket");
            for message in messages {
                let message = Message::binary(message.clone());
                socket.send(message).await.expect("sent");
            }
            let mut heard = Heard::default();
            while let Some(Ok(message)) = socket.next().await {
                let bytes = message.into_data();
                if let Some((channel, bytes)) = bytes.split_first() {
                    heard.entry(*channel).or_default().extend_from_slice(bytes);
                }
                if enough(&heard) {
                    break;
                }
            }
            heard
        };
        let bounded = async { tokio::time::timeout(SOON * 2, talk).await };
        self.runtime.block_on(bounded).expect("the stream ends")
    }

    /// Has a command run in a container and goes before it has ended.
    pub fn exec_and_go(&self, id: &str, line: &str) {
        let asked = async { tokio::time::timeout(BRIEFLY, self.exec_sync(id, line, 0)).await };
        assert!(self.runtime.block_on(asked).is_err(), "it has ended");
    }

    /// Runs a command in a container, for so many seconds at most.
    pub fn exec(&self, id: &str, line: &str, timeout: i64) -> Result<ExecSyncResponse, Status> {
        self.call(self.exec_sync(id, line, timeout))
    }

    async fn exec_sync(
        &self,
        id: &str,
        line: &str,
        timeout: i64,
    ) -> Result<Response<ExecSyncResponse>, Status> {
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: ["sh", "-c", line].map(str::to_owned).to_vec(),
            timeout,
        };
        self.runtime().exec_sync(request).await
    }
}
