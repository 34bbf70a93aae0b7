//! The supervisor's clients: a task per connection, which asks the owner and
//! passes descriptors on.

mod process;

use super::run_io::Stdin;
use super::supervisor::Message;
use crate::api::{
    ApiMessage, ApiRequest, AttachRequest, ChangeRequest, Channel, ChannelError, ContainerAct,
    ExecRequest, StopRequest,
};
use crate::link::{Link, Streams};
use crate::store::status::{ContainerState, PodStatus};
use beluga_proto::agent::{ProcessExit, Target};
use beluga_proto::{ContainerId, ExecId, Fault, FaultCode, Reply, Request};
use process::open;
pub(super) use process::{Exec, exec_process};
pub(super) use process::{dialled, send_streams};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// How long the agent may take to find a new supervisor.
const AGENT_PATIENCE: Duration = Duration::from_secs(10);

/// How long the agent may take to say what is used: who asks, asks other pods too.
const STATS_PATIENCE: Duration = Duration::from_secs(15);

/// What a client asks of the owner of the pod.
#[derive(Debug)]
pub(super) enum Call {
    /// End the pod.
    Stop(StopRequest),
    /// Run a process.
    Exec(ExecRequest, oneshot::Sender<Result<Exec, Fault>>),
    /// Nobody waits for this process any more.
    ExecGone(ExecId),
    /// Join a container.
    Attach(AttachRequest, oneshot::Sender<Result<Attach, Fault>>),
    /// Bring volumes up to date.
    Refresh(oneshot::Sender<Result<(), Fault>>),
    /// Make the running pod what a proposal says.
    Change(ChangeRequest, oneshot::Sender<Result<(), Fault>>),
    /// Do something with one container of a sandbox.
    Container(String, ContainerAct, oneshot::Sender<Result<(), Fault>>),
    /// The client that fed a container's standard input has gone.
    StdinDone(ContainerId),
}

/// A client's place at a container.
#[derive(Debug)]
pub(super) struct Attach {
    pub(super) id: ContainerId,
    pub(super) index: usize,
    pub(super) output: OwnedFd,
    pub(super) stdin: Option<Stdin>,
    /// The container's input ends with this client.
    pub(super) closes_stdin: bool,
}

/// What a connection's task works with.
pub(super) struct Caller {
    pub(super) messages: mpsc::UnboundedSender<Message>,
    pub(super) statuses: watch::Receiver<PodStatus>,
    pub(super) link: Link,
    pub(super) streams: Streams,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Clients {
    tasks: JoinSet<()>,
}

impl Clients {
    /// Serves a new connection.
    pub(super) fn serve(&mut self, stream: UnixStream, caller: Caller) {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(async move {
            // Only root and we ourselves may: directory and socket say so too.
            let peer = stream.peer_cred().map(|peer| peer.uid());
            if !peer.is_ok_and(crate::api::is_trusted) {
                return;
            }
            let mut channel = Channel::new(stream);
            // A client that goes away in mid-sentence is nobody's error.
            let _ = caller.serve(&mut channel).await;
        });
    }

    /// Waits until all have been told the end.
    pub(super) async fn farewell(mut self, patience: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(patience, all).await;
    }
}

impl Caller {
    async fn serve(self, channel: &mut Channel) -> Result<(), ChannelError> {
        let Some(request) = channel.receive::<ApiRequest>().await? else {
            return Ok(());
        };
        if matches!(
            request,
            ApiRequest::Exec(_)
                | ApiRequest::Stats
                | ApiRequest::Connect { .. }
                | ApiRequest::Refresh
                | ApiRequest::Change(_)
                | ApiRequest::Container { .. }
        ) {
            self.agent_there().await;
        }
        match request {
            ApiRequest::Watch => self.watch(channel).await,
            ApiRequest::Stop(request) => {
                self.tell(Call::Stop(request));
                channel.send(&ApiMessage::Done, &[]).await?;
                self.until_the_end(channel).await
            }
            ApiRequest::Stats => channel.send(&self.stats().await, &[]).await,
            ApiRequest::Exec(request) => {
                let (reply, answer) = oneshot::channel();
                self.tell(Call::Exec(request, reply));
                match answer.await.unwrap_or_else(|_| Err(ended())) {
                    Ok(exec) => self.exec(channel, exec).await,
                    Err(fault) => channel.send(&ApiMessage::Failed(fault), &[]).await,
                }
            }
            ApiRequest::Attach(request) => {
                let (reply, answer) = oneshot::channel();
                self.tell(Call::Attach(request, reply));
                match answer.await.unwrap_or_else(|_| Err(ended())) {
                    Ok(attach) => self.attach(channel, attach).await,
                    Err(fault) => channel.send(&ApiMessage::Failed(fault), &[]).await,
                }
            }
            ApiRequest::Connect { port } => self.connect(channel, port).await,
            ApiRequest::Refresh => self.done(channel, Call::Refresh).await,
            ApiRequest::Change(request) => {
                self.done(channel, |reply| Call::Change(request, reply))
                    .await
            }
            ApiRequest::Container { name, act } => {
                self.done(channel, |reply| Call::Container(name, act, reply))
                    .await
            }
            ApiRequest::Resize { .. } | ApiRequest::Signal { .. } => {
                let message = "there is no process on this connection";
                let fault = Fault::new(FaultCode::FailedPrecondition, message);
                channel.send(&ApiMessage::Failed(fault), &[]).await
            }
        }
    }

    async fn stats(&self) -> ApiMessage {
        match self.link.ask_within(STATS_PATIENCE, Request::Stats).await {
            Ok(Reply::Stats(stats)) => ApiMessage::Stats(stats),
            Ok(_) => ApiMessage::Failed(Fault::new(
                FaultCode::Protocol,
                "the agent does not say what is used",
            )),
            Err(fault) => ApiMessage::Failed(fault),
        }
    }

    /// Asks the owner for something that is done or refused.
    async fn done(
        &self,
        channel: &Channel,
        call: impl FnOnce(oneshot::Sender<Result<(), Fault>>) -> Call,
    ) -> Result<(), ChannelError> {
        let (reply, answer) = oneshot::channel();
        self.tell(call(reply));
        let message = match answer.await.unwrap_or_else(|_| Err(ended())) {
            Ok(()) => ApiMessage::Done,
            Err(fault) => ApiMessage::Failed(fault),
        };
        channel.send(&message, &[]).await
    }

    /// A supervisor that has just taken its pod over is asked before the agent
    /// has found it: what concerns the agent waits for it.
    async fn agent_there(&self) {
        let has_booted = self.statuses.borrow().started.is_some();
        if has_booted {
            self.link.connected(AGENT_PATIENCE).await;
        }
    }

    fn tell(&self, call: Call) {
        let _ = self.messages.send(Message::Call(call));
    }

    async fn watch(mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        loop {
            let status = Box::new(self.statuses.borrow_and_update().clone());
            channel.send(&ApiMessage::Status(status), &[]).await?;
            if !self.news(channel).await? {
                return Ok(());
            }
        }
    }

    async fn until_the_end(mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        while self.news(channel).await? {}
        Ok(())
    }

    /// Waits until there is another status, or the client has said something,
    /// which tells nothing. Gives back whether there is still a pod, and
    /// somebody to tell of it.
    async fn news(&mut self, channel: &mut Channel) -> Result<bool, ChannelError> {
        tokio::select! {
            changed = self.statuses.changed() => Ok(changed.is_ok()),
            request = channel.receive::<ApiRequest>() => Ok(request?.is_some()),
        }
    }

    async fn exec(&self, channel: &mut Channel, exec: Exec) -> Result<(), ChannelError> {
        let target = Target::Exec {
            id: exec.id.clone(),
        };
        let result = match open(exec).await {
            Ok((stdin, stdout, stderr, exited)) => {
                let sent = send_streams(channel, stdin, Some(stdout), stderr).await;
                match sent {
                    Ok(()) => self.converse(channel, &target, exited).await,
                    Err(error) => Err(error),
                }
            }
            Err(fault) => channel.send(&ApiMessage::Failed(fault), &[]).await,
        };
        if let Target::Exec { id } = target {
            self.tell(Call::ExecGone(id));
        }
        result
    }

    async fn attach(&self, channel: &mut Channel, attach: Attach) -> Result<(), ChannelError> {
        let Attach {
            id,
            index,
            output,
            stdin,
            closes_stdin,
        } = attach;
        let stdin = match stdin {
            Some(mut stdin) => match stdin.wait_for(Option::is_some).await {
                Ok(stream) => stream
                    .as_ref()
                    .and_then(|stream| stream.as_fd().try_clone_to_owned().ok()),
                Err(_) => None,
            },
            None => None,
        };
        send_streams(channel, stdin, Some(output), None).await?;
        let target = Target::Container { id: id.clone() };
        let (exit, exited) = oneshot::channel();
        let mut statuses = self.statuses.clone();
        let run = id.clone();
        let watcher = tokio::spawn(async move {
            let is_over = |status: &PodStatus| exit_of(status, index, &run).is_some();
            if let Ok(status) = statuses.wait_for(is_over).await
                && let Some(found) = exit_of(&status, index, &run)
            {
                let _ = exit.send(found);
            }
        });
        let result = self.converse(channel, &target, exited).await;
        watcher.abort();
        if closes_stdin {
            self.tell(Call::StdinDone(id));
        }
        result
    }

    /// Passes sizes and signals on until the process ends or the client goes.
    async fn converse(
        &self,
        channel: &mut Channel,
        target: &Target,
        mut exited: oneshot::Receiver<ProcessExit>,
    ) -> Result<(), ChannelError> {
        loop {
            tokio::select! {
                exit = &mut exited => {
                    let message = match exit {
                        Ok(exit) => ApiMessage::Exited { exit },
                        Err(_) => ApiMessage::Failed(ended()),
                    };
                    return channel.send(&message, &[]).await;
                }
                request = channel.receive::<ApiRequest>() => match request? {
                    None => return Ok(()),
                    Some(ApiRequest::Resize { size }) => {
                        let target = target.clone();
                        drop(self.link.request(Request::Resize { target, size }));
                    }
                    Some(ApiRequest::Signal { signal, all }) => {
                        let target = target.clone();
                        drop(self.link.request(Request::Signal { target, signal, all }));
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

/// How the run ended, once the status has it.
fn exit_of(status: &PodStatus, index: usize, id: &ContainerId) -> Option<ProcessExit> {
    let container = status.containers.get(index)?;
    let ended = match &container.state {
        ContainerState::Terminated(end) => Some(end),
        _ => container.last_termination.as_ref(),
    };
    let end = ended.filter(|end| end.id.as_ref() == Some(id))?;
    Some(ProcessExit {
        code: end.exit_code,
        signal: end.signal,
        oom_killed: end.reason == "OOMKilled",
        unix_nanos: end.finished,
    })
}

fn ended() -> Fault {
    Fault::new(FaultCode::Unavailable, "the pod has ended")
}
