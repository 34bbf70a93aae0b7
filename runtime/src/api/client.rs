//! The client's side: one function per request.

use super::patience::answer;
use super::{
    ApiMessage, ApiRequest, AttachRequest, ChangeRequest, Channel, ChannelError, ContainerAct,
    ExecRequest, StopRequest,
};
use crate::settings::Settings;
use crate::store::status::PodStatus;
use beluga_proto::agent::{PodStats, ProcessExit};
use beluga_proto::container::TerminalSize;
use beluga_proto::{Fault, PodUid};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Why a request to a supervisor failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The conversation.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The supervisor, or the pod's agent, refused.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The supervisor went away in mid-request.
    #[error("the pod ended, or its supervisor did, before the answer came")]
    Closed,
    /// A process that should answer does nothing.
    #[error("the pod does not answer: its {what}, process {pid}, is stopped")]
    Stopped {
        /// `supervisor`, `VMM`
        what: &'static str,
        /// Which.
        pid: i32,
    },
    /// No answer.
    #[error("the pod's supervisor has not answered within {seconds} s")]
    Silent {
        /// How long that was waited for.
        seconds: u64,
    },
    /// An answer to another question.
    #[error("the pod's supervisor gave an answer that does not fit the request")]
    Answer,
}

/// Path of a pod's supervisor socket.
#[must_use]
pub fn socket_path(settings: &Settings, uid: &PodUid) -> PathBuf {
    settings.run_dir(uid).join("supervisor.sock")
}

/// PID of a pod's supervisor, by the socket it answers on.
#[must_use]
pub fn supervisor(settings: &Settings, uid: &PodUid) -> Option<i32> {
    let stream = std::os::unix::net::UnixStream::connect(socket_path(settings, uid)).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    let is_trusted = super::is_trusted(peer.uid.as_raw());
    is_trusted.then(|| peer.pid.as_raw_nonzero().get())
}

async fn open(
    settings: &Settings,
    uid: &PodUid,
    request: ApiRequest,
) -> Result<Channel, ClientError> {
    let channel = Channel::connect(&socket_path(settings, uid))?;
    channel.send(&request, &[]).await?;
    Ok(channel)
}

/// What one learns by watching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// The pod's status is this now.
    Status(PodStatus),
}

/// The status of a pod as it changes.
#[derive(Debug)]
pub struct Watch {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Supervisor(Channel),
    /// The pod has ended: there is one status to tell.
    Ended(Option<Box<PodStatus>>),
}

impl Watch {
    /// Starts to watch. Errors when the pod has no supervisor.
    pub async fn open(settings: &Settings, uid: &PodUid) -> Result<Self, ClientError> {
        let channel = open(settings, uid, ApiRequest::Watch).await?;
        Ok(Self {
            source: Source::Supervisor(channel),
        })
    }

    /// Watches a pod that has ended: tells its last status.
    #[must_use]
    pub fn of_ended(status: PodStatus) -> Self {
        Self {
            source: Source::Ended(Some(Box::new(status))),
        }
    }

    /// The next status, the present one first; `None` when there will be no
    /// more: the pod has ended, or its supervisor has.
    pub async fn next(&mut self) -> Result<Option<Update>, ClientError> {
        let channel = match &mut self.source {
            Source::Supervisor(channel) => channel,
            Source::Ended(status) => {
                return Ok(status.take().map(|status| Update::Status(*status)));
            }
        };
        match channel.receive().await? {
            None => Ok(None),
            Some(ApiMessage::Status(status)) => Ok(Some(Update::Status(*status))),
            Some(ApiMessage::Failed(fault)) => Err(fault.into()),
            Some(_) => Err(ClientError::Answer),
        }
    }
}

/// Asks for the pod's end and waits until its supervisor has gone.
pub async fn stop(
    settings: &Settings,
    uid: &PodUid,
    request: StopRequest,
) -> Result<(), ClientError> {
    let mut channel = open(settings, uid, ApiRequest::Stop(request)).await?;
    loop {
        match channel.receive().await? {
            None => return Ok(()),
            Some(ApiMessage::Failed(fault)) => return Err(fault.into()),
            Some(_) => {}
        }
    }
}

/// Brings a pod's volumes up to date with what is on record for them.
pub async fn refresh(settings: &Settings, uid: &PodUid) -> Result<(), ClientError> {
    done(settings, uid, ApiRequest::Refresh).await
}

/// Makes a running pod what a proposal says. Returns when that has begun.
pub async fn change(
    settings: &Settings,
    uid: &PodUid,
    request: ChangeRequest,
) -> Result<(), ClientError> {
    done(settings, uid, ApiRequest::Change(request)).await
}

/// Does something with one container of a sandbox. Returns when that has begun.
pub async fn container(
    settings: &Settings,
    uid: &PodUid,
    name: &str,
    act: ContainerAct,
) -> Result<(), ClientError> {
    let name = name.to_owned();
    done(settings, uid, ApiRequest::Container { name, act }).await
}

async fn done(settings: &Settings, uid: &PodUid, request: ApiRequest) -> Result<(), ClientError> {
    let mut channel = open(settings, uid, request).await?;
    match channel.receive().await? {
        Some(ApiMessage::Done) => Ok(()),
        Some(ApiMessage::Failed(fault)) => Err(fault.into()),
        Some(_) => Err(ClientError::Answer),
        None => Err(ClientError::Closed),
    }
}

/// What the guest and its containers use.
pub async fn stats(settings: &Settings, uid: &PodUid) -> Result<PodStats, ClientError> {
    let mut channel = open(settings, uid, ApiRequest::Stats).await?;
    match answer(&mut channel, settings, uid).await? {
        None => Err(ClientError::Closed),
        Some(ApiMessage::Stats(stats)) => Ok(*stats),
        Some(ApiMessage::Failed(fault)) => Err(fault.into()),
        Some(_) => Err(ClientError::Answer),
    }
}

/// A process run beside a container's own.
/// The descriptors are non-blocking stream sockets; end of input is said by
/// shutting the writing side of `stdin` down.
#[derive(Debug)]
pub struct ExecSession {
    /// To the process.
    pub stdin: Option<OwnedFd>,
    /// From the process, or from its terminal.
    pub stdout: OwnedFd,
    /// From the process; never with a terminal.
    pub stderr: Option<OwnedFd>,
    /// For sizes and signals, and for the end.
    pub control: Remote,
}

/// A container that one is attached to.
#[derive(Debug)]
pub struct AttachSession {
    /// To the container.
    pub stdin: Option<OwnedFd>,
    /// What it writes from the attachment on, both streams as they come.
    pub output: OwnedFd,
    /// For sizes and signals, and for the end.
    pub control: Remote,
}

/// The other end of an [`ExecSession`]'s conversation.
#[derive(Debug)]
pub struct Remote {
    channel: Channel,
}

impl Remote {
    /// Tells the terminal's new size.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), ClientError> {
        Ok(self.channel.send(&ApiRequest::Resize { size }, &[]).await?)
    }

    /// Sends the process a signal.
    pub async fn signal(&self, signal: i32) -> Result<(), ClientError> {
        let all = false;
        let request = ApiRequest::Signal { signal, all };
        Ok(self.channel.send(&request, &[]).await?)
    }

    /// Kills the process, and those of its group with it.
    pub async fn kill(&self) -> Result<(), ClientError> {
        let (signal, all) = (libc::SIGKILL, true);
        let request = ApiRequest::Signal { signal, all };
        Ok(self.channel.send(&request, &[]).await?)
    }

    /// Waits for the end of the process. May be dropped and called again.
    pub async fn wait(&mut self) -> Result<ProcessExit, ClientError> {
        loop {
            match self.channel.receive().await? {
                None => return Err(ClientError::Closed),
                Some(ApiMessage::Exited { exit }) => return Ok(exit),
                Some(ApiMessage::Failed(fault)) => return Err(fault.into()),
                Some(_) => {}
            }
        }
    }
}

/// Runs a process beside a container's own. Returns when it has started.
pub async fn exec(
    settings: &Settings,
    uid: &PodUid,
    request: ExecRequest,
) -> Result<ExecSession, ClientError> {
    session(settings, uid, ApiRequest::Exec(request)).await
}

/// Connects to a port of the pod's loopback: to what listens there, and from it.
/// The descriptors are non-blocking stream sockets.
pub async fn connect(
    settings: &Settings,
    uid: &PodUid,
    port: u16,
) -> Result<(OwnedFd, OwnedFd), ClientError> {
    let session = session(settings, uid, ApiRequest::Connect { port }).await?;
    Ok((session.stdin.ok_or(ClientError::Answer)?, session.stdout))
}

/// Joins a container's streams. Returns when the container runs; what it
/// writes from this call on comes over `stdout`.
pub async fn attach(
    settings: &Settings,
    uid: &PodUid,
    request: AttachRequest,
) -> Result<AttachSession, ClientError> {
    let session = session(settings, uid, ApiRequest::Attach(request)).await?;
    Ok(AttachSession {
        stdin: session.stdin,
        output: session.stdout,
        control: session.control,
    })
}

async fn session(
    settings: &Settings,
    uid: &PodUid,
    request: ApiRequest,
) -> Result<ExecSession, ClientError> {
    let mut channel = open(settings, uid, request).await?;
    match answer(&mut channel, settings, uid).await? {
        None => Err(ClientError::Closed),
        Some(ApiMessage::Failed(fault)) => Err(fault.into()),
        Some(ApiMessage::Streams {
            stdin,
            stdout,
            stderr,
        }) => {
            let mut take = |wanted: bool| {
                wanted
                    .then(|| channel.take_fd().ok_or(ClientError::Answer))
                    .transpose()
            };
            let (stdin, stdout, stderr) = (take(stdin)?, take(stdout)?, take(stderr)?);
            Ok(ExecSession {
                stdin,
                stdout: stdout.ok_or(ClientError::Answer)?,
                stderr,
                control: Remote { channel },
            })
        }
        Some(_) => Err(ClientError::Answer),
    }
}
