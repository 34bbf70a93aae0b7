//! The task that owns the pod. It waits for one thing at a time, lets the
//! state machine decide, and carries out what comes of it; nothing here blocks
//! for longer than a file write.

use super::resize::Limited;
use super::rules;
use super::run_io::Runs;
use super::server::{self, Call};
use super::shares::Shares;
use super::state::{Action, Input, Stage};
use super::vm::{has_receipt, packet, sleep_until, vm_end};
use super::{Now, now};
use crate::api::ChangeRequest;
use crate::host::lock::FileLock;
use crate::host::rules::News;
use crate::host::{self, HostError};
use crate::link::{Link, LinkEvent, MAX_EVENTS, Streams};
use crate::machine::control::{Control, ControlError};
use crate::machine::{Machine, MachineError};
use crate::plan::Plan;
use crate::settings::{Settings, SettingsError};
use crate::store::status::PodStatus;
use crate::store::{self, Life, Planned, Record, StoreError};
use crate::sys;
use beluga_proto::agent::{ProcessExit, Target};
use beluga_proto::control::VmStatus;
use beluga_proto::probe::HookKind;
use beluga_proto::{ContainerId, ControlMessage, ExecId, Fault, Reply, Request};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Most control connections that have not said who they are.
const MAX_UNPROVED_CONTROL: usize = 4;

/// From the VMM being told to stop to SIGKILL.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// How long a VM that hangs at boot may take to say where.
pub(super) const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// How long what lies in streams is read after the VM's end.
pub(super) const DRAIN_PATIENCE: Duration = Duration::from_millis(400);

/// How long clients may take to read the last status.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a supervisor cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part of the installation.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A host object.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The VMM.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The VMM's control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The socket for clients.
    #[error("cannot listen for clients")]
    Socket {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// What other tasks tell the owner.
#[derive(Debug)]
pub(super) enum Message {
    /// The agent answered to `Setup` and `AddLayers`.
    SetUp(Result<(), Fault>),
    /// The agent answered to `Start`.
    Started(ContainerId, Result<Reply, Fault>),
    /// The agent answered to `List`.
    Listed(Result<Reply, Fault>),
    /// The agent would not run a hook.
    HookRefused(ContainerId, HookKind),
    /// A run's output has ended and is in its log.
    Drained(ContainerId, Option<String>),
    /// The work of a start, or of taking over, is some time ago.
    Shed,
    /// Volumes have new content.
    Filled(Result<Vec<String>, Fault>),
    /// The layers of a change are in the guest, or cannot be.
    Layered(u64, Result<(), Fault>),
    /// The agent answered to `Limit`.
    Limited(Limited),
    /// Memory may have been let go of.
    ResizeAgain,
    /// Plugins said what is wrong with the pod's networks, if anything.
    NetworksChecked(Option<String>),
    /// A client wants something.
    Call(Call),
}

/// What the owner waits for.
enum Wake {
    Message(Message),
    Link(LinkEvent),
    Packet(Result<(ControlMessage, Vec<OwnedFd>), ControlError>),
    Client(UnixStream),
    VmEnded,
    ShareEnded(usize),
    RulesGone,
    Deadline,
}

/// Owner of one pod.
pub(super) struct Supervisor {
    pub(super) settings: Settings,
    pub(super) plan: Plan,
    /// Which definition the plan is from.
    pub(super) generation: u64,
    pub(super) record: Record,
    pub(super) link: Link,
    pub(super) streams: Streams,
    pub(super) runs: Runs,
    pub(super) execs: HashMap<ExecId, oneshot::Sender<ProcessExit>>,
    pub(super) messages: mpsc::UnboundedSender<Message>,
    pub(super) inbox: mpsc::UnboundedReceiver<Message>,
    pub(super) link_events: mpsc::Receiver<LinkEvent>,
    pub(super) unproved: Arc<Semaphore>,
    pub(super) statuses: watch::Sender<PodStatus>,
    pub(super) control: Option<Control>,
    pub(super) machine: Option<Machine>,
    pub(super) exit_watch: Option<AsyncFd<OwnedFd>>,
    pub(super) shares: Shares,
    /// Where the kernel tells that tables of the packet filter go.
    pub(super) rules: Option<News>,
    /// Events that are in the record but for those that wait for their output.
    pub(super) received: u64,
    pub(super) is_set_up: bool,
    /// Changes that wait for that.
    pub(super) early: Vec<(ChangeRequest, oneshot::Sender<Result<(), Fault>>)>,
    /// The agent has said what runs.
    pub(super) is_listed: bool,
    /// Whose turn it is to fill volumes.
    pub(super) filling: Arc<tokio::sync::Mutex<()>>,
    pub(super) said_hello: bool,
    /// After a takeover: until when clients wait for what nobody has seen.
    pub(super) catching_up: Option<u64>,
    pub(super) boot_deadline: Option<u64>,
    pub(super) is_hung: bool,
    /// How the machine was when it counted as hung.
    pub(super) hung_status: Option<VmStatus>,
    pub(super) end_deadline: Option<u64>,
    pub(super) has_receipt: bool,
    pub(super) is_dirty: bool,
    /// The last attempt to write the record failed, and that was told.
    pub(super) is_unsaved: bool,
    _lock: FileLock,
}

impl Supervisor {
    pub(super) fn new(
        settings: Settings,
        record: Record,
        planned: Planned,
        lock: FileLock,
    ) -> Self {
        let (messages, inbox) = mpsc::unbounded_channel();
        let (events, link_events) = mpsc::channel(MAX_EVENTS);
        Self {
            received: record.acked,
            is_set_up: record.life == Life::Running,
            early: Vec::new(),
            is_listed: false,
            has_receipt: has_receipt(record.status()),
            filling: Arc::default(),
            said_hello: false,
            catching_up: None,
            statuses: watch::Sender::new(record.status().clone()),
            settings,
            plan: planned.plan,
            generation: planned.generation,
            record,
            link: Link::new(events),
            streams: Streams::default(),
            runs: Runs::default(),
            execs: HashMap::new(),
            messages,
            inbox,
            link_events,
            unproved: Arc::new(Semaphore::new(MAX_UNPROVED_CONTROL)),
            control: None,
            machine: None,
            exit_watch: None,
            shares: Shares::default(),
            rules: None,
            boot_deadline: None,
            is_hung: false,
            hung_status: None,
            end_deadline: None,
            is_dirty: false,
            is_unsaved: false,
            _lock: lock,
        }
    }

    /// Runs until the pod has ended and nothing is left of it on the host. The
    /// first supervisor of a pod starts it; a later one takes it over.
    pub(super) async fn run(
        mut self,
        socket: OwnedFd,
        is_first: bool,
    ) -> Result<(), SupervisorError> {
        let listener = UnixListener::from_std(socket.into())
            .map_err(|source| SupervisorError::Socket { source })?;
        let mut clients = server::Clients::default();
        let is_this_boot = self.record.boot_id == host::boot_id();
        let lives = match self.record.life {
            Life::Ended => false,
            Life::Starting if is_first => self.start(),
            _ => is_this_boot && self.take_over(),
        };
        if lives {
            let gateway = self.plan.gateway();
            let keeper = gateway.and_then(|(network, gateway)| {
                let net = host::network::Net::open(&self.settings, network).ok()?;
                Some(tokio::spawn(host::resolver::keep(net, gateway)))
            });
            let served = self.serve(&listener, &mut clients).await;
            // Before the network goes, and its resolver with it.
            keeper.inspect(tokio::task::JoinHandle::abort);
            served?;
        }
        self.finish().await?;
        // The last status is published; watchers see the channel close.
        let Self {
            statuses,
            settings,
            record,
            ..
        } = self;
        drop(statuses);
        clients.farewell(FAREWELL).await;
        store::remove_directory(&settings.run_dir(&record.uid))?;
        if record.delete {
            store::remove(&settings, &record)?;
        }
        Ok(())
    }

    pub(super) async fn serve(
        &mut self,
        listener: &UnixListener,
        clients: &mut server::Clients,
    ) -> Result<(), SupervisorError> {
        loop {
            if let Err(error) = self.save() {
                self.go_on_unsaved(error)?;
            }
            self.catch_up();
            match self.wait(listener).await {
                Wake::Message(message) => self.on_message(message).await,
                Wake::Link(event) => self.on_links(event).await,
                Wake::Packet(packet) => self.on_packet(packet).await,
                Wake::Client(stream) => {
                    let caller = server::Caller {
                        messages: self.messages.clone(),
                        statuses: self.statuses.subscribe(),
                        link: self.link.clone(),
                        streams: self.streams.clone(),
                    };
                    clients.serve(stream, caller);
                }
                Wake::Deadline => self.on_deadline().await,
                Wake::ShareEnded(at) => self.share_ended(at),
                Wake::RulesGone => self.restore_rules(),
                Wake::VmEnded => return Ok(()),
            }
        }
    }

    /// One event and those that have come with it: the record is written once.
    async fn on_links(&mut self, first: LinkEvent) {
        self.on_link(first).await;
        for _ in 1..MAX_EVENTS {
            let Ok(event) = self.link_events.try_recv() else {
                return;
            };
            self.on_link(event).await;
        }
    }

    async fn wait(&mut self, listener: &UnixListener) -> Wake {
        let deadlines = [
            self.record.state.wake_at(),
            self.runs.deadline(),
            self.boot_deadline,
            self.end_deadline,
            self.catching_up,
        ];
        let deadline = deadlines.into_iter().flatten().min();
        tokio::select! {
            biased;
            // The end first: the record must have it within a second.
            () = vm_end(self.exit_watch.as_ref()) => Wake::VmEnded,
            Some(message) = self.inbox.recv() => Wake::Message(message),
            packet = packet(self.control.as_ref()) => Wake::Packet(packet),
            Ok((stream, _)) = listener.accept(), if self.catching_up.is_none() => {
                Wake::Client(stream)
            }
            at = self.shares.ended() => Wake::ShareEnded(at),
            () = rules::gone(self.rules.as_ref(), &self.plan) => Wake::RulesGone,
            // Behind those who may stop the pod; the link bounds how many there are.
            Some(event) = self.link_events.recv() => Wake::Link(event),
            () = sleep_until(deadline) => Wake::Deadline,
        }
    }

    /// Feeds the state machine and carries out what comes of it.
    pub(super) async fn step(&mut self, input: Input) {
        let backoff = self.settings.backoff;
        let actions = self.record.state.step(input, now(), &backoff);
        self.is_dirty = true;
        for action in actions {
            match action {
                Action::Start { index, id } => self.start_container(index, id),
                Action::Signal { id, signal, all } => {
                    let target = Target::Container { id };
                    // An answer tells nothing that the end would not tell.
                    drop(self.link.request(Request::Signal {
                        target,
                        signal,
                        all,
                    }));
                }
                Action::Hook { id, hook, timeout } => self.run_hook(&id, hook, timeout),
                Action::Remove { id } => {
                    self.runs.forget(&id);
                    drop(self.link.request(Request::Remove { container: id }));
                }
                Action::RollBack => self.roll_back(),
                Action::Settle => {
                    self.settle();
                    self.resize();
                }
                Action::EndVm => {}
            }
        }
        if self.record.state.stage == Stage::Over {
            self.end_vm().await;
        }
    }

    pub(super) async fn on_deadline(&mut self) {
        let time = now();
        if self.end_deadline.is_some_and(|at| at <= time.boot) {
            self.end_deadline = None;
            self.kill_vm();
        }
        if self.boot_deadline.is_some_and(|at| at <= time.boot) {
            self.on_hung_boot(time).await;
        }
        for id in self.runs.overdue(time.boot) {
            self.exited(&id).await;
        }
        if self
            .record
            .state
            .wake_at()
            .is_some_and(|at| at <= time.boot)
        {
            self.step(Input::Tick).await;
        }
    }

    /// Ends the pod for a reason of ours.
    pub(super) async fn fail(&mut self, reason: &str, message: String) {
        self.step(Input::VmEnded {
            reason: reason.to_owned(),
            message,
        })
        .await;
    }

    pub(super) fn vm_ended(&mut self, reason: &str, message: String) {
        let input = Input::VmEnded {
            reason: reason.to_owned(),
            message,
        };
        let backoff = self.settings.backoff;
        drop(self.record.state.step(input, now(), &backoff));
        self.is_dirty = true;
    }

    pub(super) async fn on_message(&mut self, message: Message) {
        match message {
            Message::SetUp(Ok(())) => {
                self.is_set_up = true;
                if self.record.life == Life::Starting {
                    self.record.life = Life::Running;
                }
                self.is_dirty = true;
                self.shed();
                if self.filler().is_some() {
                    self.step(Input::Ready).await;
                    // What changed while the volumes were being filled.
                    self.refresh(None);
                }
                self.make_early_changes().await;
            }
            Message::SetUp(Err(fault)) => {
                let message = format!("The pod could not be set up in its guest: {fault}");
                self.fail("SetupFailed", message).await;
            }
            Message::Started(id, Ok(_)) => {
                self.boot_deadline = None;
                // The receipt is complete when the pod is told to run.
                self.fetch_receipt().await;
                self.step(Input::Started { id }).await;
                // It may have been asked for before it was to be another.
                self.resize();
                self.resize_news();
            }
            Message::Started(id, Err(fault)) => self.start_failed(id, fault).await,
            Message::Listed(Ok(Reply::Containers { containers })) => {
                self.reconcile(containers).await;
                self.is_listed = true;
                // What the one before us did not finish telling.
                self.refresh(None);
                self.go_on_with_change().await;
                self.resize();
                self.shed();
            }
            Message::Listed(_) => {
                let message = "The agent does not say what runs".to_owned();
                self.fail("AgentLost", message).await;
            }
            Message::Shed => sys::let_go_of_code(),
            Message::HookRefused(id, hook) => {
                let failed = true;
                self.step(Input::HookEnded { id, hook, failed }).await;
            }
            Message::Drained(id, error) => {
                if let Some(error) = error {
                    self.warn("LogFailed", format!("Cannot write the log: {error}"));
                }
                if self.runs.drained(&id) {
                    self.exited(&id).await;
                }
            }
            Message::Filled(filled) => self.on_filled(filled),
            Message::Limited(limited) => self.limited(limited),
            Message::ResizeAgain => self.resize(),
            Message::NetworksChecked(wrong) => self.networks_checked(wrong),
            Message::Layered(generation, result) => self.layered(generation, result).await,
            Message::Call(call) => self.on_call(call).await,
        }
    }

    pub(super) fn later(&self, work: impl Future<Output = Message> + Send + 'static) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let _ = messages.send(work.await);
        });
    }
}

pub(super) fn after(time: Now, wait: Duration) -> u64 {
    let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
    time.boot.saturating_add(nanos)
}
