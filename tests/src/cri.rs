//! A `beluga-cri` of a story's own, and a client of it from the published bindings.

use crate::{Beluga, SOON, eventually, shared};
use futures_util::{SinkExt as _, StreamExt as _};
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
pub use k8s_cri::v1::{self as api, *};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};
use tonic::transport::Channel;
pub use tonic::{Code, Response, Status, Streaming};

/// What came, by channel.
pub type Heard = BTreeMap<u8, Vec<u8>>;

/// A server that serves; killed when it is dropped.
#[derive(Debug)]
pub struct Cri {
    /// Where it lies: its socket, its configuration, logs of pods.
    pub place: TempDir,
    child: Mutex<Child>,
    runtime: Runtime,
    channel: Channel,
}

impl Cri {
    /// A server over the pods and images of an instance.
    #[must_use]
    pub fn start(beluga: &Beluga) -> Self {
        let place = tempfile::Builder::new();
        let place = { place }.prefix("cri-").tempdir().expect("a place in /tmp");
        let config = format!(
            "socket = {:?}\nroot = {:?}\nstate = {:?}\n",
            place.path().join("cri.sock"),
            beluga.root(),
            beluga.state()
        );
        std::fs::write(place.path().join("cri.toml"), config).expect("a file");
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        let socket = format!("unix://{}", place.path().join("cri.sock").display());
        let channel = runtime.block_on(async {
            tonic::transport::Endpoint::from_shared(socket)
                .expect("a socket")
                .connect_lazy()
        });
        let child = Mutex::new(spawn(place.path()));
        let cri = Self {
            place,
            child,
            runtime,
            channel,
        };
        cri.answers();
        cri
    }

    /// Kills the server at once and starts another one.
    pub fn restart(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill().expect("it is ours");
        child.wait().expect("it has ended");
        *child = spawn(self.place.path());
        drop(child);
        self.answers();
    }

    fn answers(&self) {
        eventually("the server answers", || {
            let version = VersionRequest::default();
            let asked = async { self.runtime().version(version).await };
            self.call(asked).ok()
        });
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
            Err(_) => panic!("a call to beluga-cri does not end"),
        }
    }

    /// Where the logs of a sandbox are wanted.
    #[must_use]
    pub fn logs(&self, sandbox: &str) -> PathBuf {
        self.place.path().join("logs").join(sandbox)
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
            config: Some(config),
            runtime_handler: String::new(),
        };
        let run = async { self.runtime().run_pod_sandbox(request).await };
        self.call(run).map(|answer| answer.pod_sandbox_id)
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
            sandbox_config: None,
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

    /// Ends a container.
    pub fn stop(&self, id: &str, timeout: i64) {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout,
        };
        let done = async { self.runtime().stop_container(request).await };
        self.call(done).expect("stopped");
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

    /// Runs a command in a container, for so many seconds at most.
    pub fn exec(&self, id: &str, line: &str, timeout: i64) -> Result<ExecSyncResponse, Status> {
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: ["sh", "-c", line].map(str::to_owned).to_vec(),
            timeout,
        };
        self.call(async { self.runtime().exec_sync(request).await })
    }
}

impl Drop for Cri {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let child = child.unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A server over the shared instance with a sandbox that several stories fill, to
/// save a boot for each: the first of them starts both, the last removes them.
#[derive(Debug)]
pub struct CommonSandbox {
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    stories_to_come: usize,
    place: Option<Arc<Filled>>,
}

/// A server and its sandbox, removed with the value.
#[derive(Debug)]
pub struct Filled {
    cri: Cri,
    sandbox: String,
}

impl CommonSandbox {
    /// One that so many stories ask for, each once.
    #[must_use]
    pub const fn new(stories: usize) -> Self {
        let kept = Kept {
            stories_to_come: stories,
            place: None,
        };
        Self {
            kept: Mutex::new(kept),
        }
    }

    /// The server and its sandbox.
    pub fn get(&self) -> Arc<Filled> {
        // A story that could not start it says so itself; the next one tries again.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let cri = Cri::start(shared());
            let sandbox = cri.run(cri.sandbox("shared")).expect("it runs");
            Arc::new(Filled { cri, sandbox })
        };
        let place = Arc::clone(kept.place.get_or_insert_with(start));
        kept.stories_to_come = kept.stories_to_come.saturating_sub(1);
        if kept.stories_to_come == 0 {
            kept.place = None;
        }
        place
    }
}

impl Filled {
    /// The server, and the sandbox's identifier.
    #[must_use]
    pub fn parts(&self) -> (&Cri, &str) {
        (&self.cri, &self.sandbox)
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.cri.place.path().join("server.log"));
            eprintln!("--- beluga-cri\n{}", log.unwrap_or_default());
        }
        self.cri.remove_sandbox(&self.sandbox);
    }
}

fn spawn(place: &Path) -> Child {
    let log = std::fs::File::options();
    let log = { log }
        .create(true)
        .append(true)
        .open(place.join("server.log"));
    Command::new("beluga-cri")
        .arg("--config")
        .arg(place.join("cri.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a file"))
        .spawn()
        .expect("beluga-cri is built")
}

/// A container of busybox that runs a line of the shell.
#[must_use]
pub fn busybox(name: &str, line: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: "busybox".to_owned(),
            ..ImageSpec::default()
        }),
        command: ["sh", "-c", line].map(str::to_owned).to_vec(),
        log_path: format!("{name}/0.log"),
        labels: [("name".to_owned(), name.to_owned())].into(),
        ..ContainerConfig::default()
    }
}

/// Bytes as text, without white space around it.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
