//! The task that owns the pod. It waits for one thing at a time, lets the
//! state machine decide, and carries out what comes of it; nothing here blocks
//! for longer than a file write.

use super::boot;
use super::run_io::Runs;
use super::server::{self, Call};
use super::state::{Action, Input, Stage};
use super::{Now, now};
use crate::host::lock::FileLock;
use crate::host::{self, HostError, cgroup, process};
use crate::link::{self, Link, LinkEvent, Streams};
use crate::machine::control::{Control, ControlError};
use crate::machine::{Machine, MachineError};
use crate::plan::{HostStep, Plan};
use crate::settings::{Settings, SettingsError};
use crate::store::status::{EventKind, PodStatus, ReceiptLine};
use crate::store::{self, Life, Record, StoreError};
use beluga_proto::agent::{ProcessExit, Target};
use beluga_proto::control::VmStatus;
use beluga_proto::{
    CONTROL_PORT, ContainerId, ControlMessage, ControlReply, ControlRequest, ExecId, Fault, Reply,
    Request, STREAM_PORT, Stamp,
};
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
    /// A run's output has ended and is in its log.
    Drained(ContainerId, Option<String>),
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
    Deadline,
}

/// Owner of one pod.
pub(super) struct Supervisor {
    pub(super) settings: Settings,
    pub(super) plan: Plan,
    pub(super) record: Record,
    pub(super) link: Link,
    pub(super) streams: Streams,
    pub(super) runs: Runs,
    pub(super) execs: HashMap<ExecId, oneshot::Sender<ProcessExit>>,
    pub(super) messages: mpsc::UnboundedSender<Message>,
    pub(super) inbox: mpsc::UnboundedReceiver<Message>,
    pub(super) link_events: mpsc::UnboundedReceiver<LinkEvent>,
    pub(super) unproved: Arc<Semaphore>,
    pub(super) statuses: watch::Sender<PodStatus>,
    pub(super) control: Option<Control>,
    pub(super) machine: Option<Machine>,
    pub(super) exit_watch: Option<AsyncFd<OwnedFd>>,
    /// Events that are in the record but for those that wait for their output.
    pub(super) received: u64,
    pub(super) is_set_up: bool,
    pub(super) said_hello: bool,
    pub(super) boot_deadline: Option<u64>,
    pub(super) is_hung: bool,
    pub(super) end_deadline: Option<u64>,
    pub(super) has_receipt: bool,
    pub(super) is_dirty: bool,
    _lock: FileLock,
}

impl Supervisor {
    pub(super) fn new(settings: Settings, record: Record, plan: Plan, lock: FileLock) -> Self {
        let (messages, inbox) = mpsc::unbounded_channel();
        let (events, link_events) = mpsc::unbounded_channel();
        Self {
            received: record.acked,
            is_set_up: record.life == Life::Running,
            has_receipt: record.life == Life::Running,
            said_hello: false,
            statuses: watch::Sender::new(record.status().clone()),
            settings,
            plan,
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
            boot_deadline: None,
            is_hung: false,
            end_deadline: None,
            is_dirty: false,
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
            self.serve(&listener, &mut clients).await?;
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
            self.save()?;
            match self.wait(listener).await {
                Wake::Message(message) => self.on_message(message).await,
                Wake::Link(event) => self.on_link(event).await,
                Wake::Packet(packet) => self.on_packet(packet).await,
                Wake::Client(stream) => {
                    let caller = server::Caller {
                        messages: self.messages.clone(),
                        statuses: self.statuses.subscribe(),
                        link: self.link.clone(),
                    };
                    clients.serve(stream, caller);
                }
                Wake::Deadline => self.on_deadline().await,
                Wake::VmEnded => return Ok(()),
            }
        }
    }

    async fn wait(&mut self, listener: &UnixListener) -> Wake {
        let deadlines = [
            self.record.state.wake_at(),
            self.runs.deadline(),
            self.boot_deadline,
            self.end_deadline,
        ];
        let deadline = deadlines.into_iter().flatten().min();
        tokio::select! {
            biased;
            // The end first: the record must have it within a second.
            () = vm_end(self.exit_watch.as_ref()) => Wake::VmEnded,
            Some(event) = self.link_events.recv() => Wake::Link(event),
            Some(message) = self.inbox.recv() => Wake::Message(message),
            packet = packet(self.control.as_ref()) => Wake::Packet(packet),
            Ok((stream, _)) = listener.accept() => Wake::Client(stream),
            () = sleep_until(deadline) => Wake::Deadline,
        }
    }

    /// Makes the host objects and starts the VM; whether it runs.
    pub(super) fn start(&mut self) -> bool {
        let booted = boot::boot(&self.settings, &self.plan);
        match booted.and_then(|booted| {
            self.control = Some(Control::connect(&boot::control_path(
                &self.settings,
                &self.plan,
            ))?);
            Ok(booted)
        }) {
            Ok(booted) => {
                self.record.vmm = Some(booted.machine.process);
                self.record.state.status.receipt.extend(booted.receipt);
                for warning in booted.warnings {
                    self.warn("HostLimits", warning);
                }
                self.watch_machine(booted.machine);
                self.boot_deadline = Some(after(now(), self.settings.boot_timeout));
                self.is_dirty = true;
                true
            }
            Err(error) => {
                self.vm_ended("StartFailed", crate::error_chain(&error));
                false
            }
        }
    }

    /// Takes a pod over from a supervisor that died; whether its VM runs.
    pub(super) fn take_over(&mut self) -> bool {
        let machine = self.record.vmm.and_then(Machine::adopt);
        for step in &self.plan.host {
            if let HostStep::Cgroup(plan) = step {
                let _ = cgroup::enter(&plan.path);
            }
        }
        match (self.record.life, machine) {
            (Life::Running, Some(machine)) => {
                let path = boot::control_path(&self.settings, &self.plan);
                match Control::connect(&path) {
                    Ok(control) => {
                        self.control = Some(control);
                        self.watch_machine(machine);
                        let message = "A new supervisor has taken the pod over".to_owned();
                        self.event(EventKind::Normal, "Adopted", message);
                        true
                    }
                    Err(error) => {
                        self.machine = Some(machine);
                        self.vm_ended("SupervisorLost", crate::error_chain(&error));
                        false
                    }
                }
            }
            (Life::Starting, machine) => {
                self.machine = machine;
                self.vm_ended(
                    "SupervisorLost",
                    "The pod's supervisor was killed while the pod was being started; \
                     what had been made was undone"
                        .to_owned(),
                );
                false
            }
            (_, machine) => {
                self.machine = machine;
                false
            }
        }
    }

    pub(super) fn watch_machine(&mut self, machine: Machine) {
        self.exit_watch = machine.pidfd.try_clone().and_then(crate::sys::watch).ok();
        self.machine = Some(machine);
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
                Action::Remove { id } => {
                    self.runs.forget(&id);
                    drop(self.link.request(Request::Remove { container: id }));
                }
                Action::EndVm => {}
            }
        }
        if self.record.state.stage == Stage::Over {
            self.end_vm().await;
        }
    }

    /// Ends a VM in which nothing is wanted any more.
    pub(super) async fn end_vm(&mut self) {
        if self.record.life == Life::Ending || self.machine.is_none() {
            return;
        }
        self.record.life = Life::Ending;
        self.is_dirty = true;
        self.boot_deadline = None;
        self.end_deadline = Some(after(now(), STOP_PATIENCE));
        // Nothing in the guest needs an orderly end: what it could write to is
        // deleted with it. So the VMM is stopped, which takes no guest time.
        let sent = match &mut self.control {
            Some(control) => control.send(ControlRequest::Stop).await.is_ok(),
            None => false,
        };
        if !sent {
            self.kill_vm();
        }
    }

    pub(super) fn kill_vm(&self) {
        if let Some(machine) = &self.machine {
            let _ = process::kill(&machine.pidfd);
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

    pub(super) async fn on_packet(
        &mut self,
        packet: Result<(ControlMessage, Vec<OwnedFd>), ControlError>,
    ) {
        match packet {
            Ok((ControlMessage::VsockOpened { host_port, .. }, fds)) => {
                self.on_stream(host_port, fds);
            }
            Ok((ControlMessage::Reply { result, .. }, _)) => {
                if let Ok(ControlReply::Status(status)) = result {
                    self.on_status(&status).await;
                }
            }
            Ok((ControlMessage::DiskStalled { disk, stalled }, _)) => {
                let message = if stalled {
                    format!("The disk {disk} waits: the host's file system is full")
                } else {
                    format!("The disk {disk} goes on")
                };
                self.event(EventKind::Warning, "DiskStalled", message);
            }
            Err(error) => {
                // Its end comes by the pidfd; without control it is of no use.
                self.control = None;
                self.has_receipt = true;
                if self.record.life != Life::Ending {
                    eprintln!("{}", crate::error_chain(&error));
                    self.end_deadline.get_or_insert(after(now(), STOP_PATIENCE));
                }
            }
        }
    }

    /// Asks the VMM what the boot cost. Whoever watches the start waits for
    /// it, so it is not waited for long.
    pub(super) async fn fetch_receipt(&mut self) {
        let Some(control) = &mut self.control else {
            return;
        };
        if self.has_receipt || control.send(ControlRequest::Status).await.is_err() {
            return;
        }
        let until = tokio::time::Instant::now() + STATUS_PATIENCE;
        while !self.has_receipt {
            let next = tokio::time::timeout_at(until, packet(self.control.as_ref())).await;
            match next {
                Ok(message) => self.on_packet(message).await,
                Err(_) => self.has_receipt = true,
            }
        }
    }

    pub(super) fn on_stream(&mut self, port: u32, mut fds: Vec<OwnedFd>) {
        let Some(stream) = fds.pop().and_then(|fd| link::adopt(fd).ok()) else {
            return;
        };
        // Whatever gets no permit or has another port is closed: a reset.
        match port {
            CONTROL_PORT => {
                if let Ok(permit) = Arc::clone(&self.unproved).try_acquire_owned() {
                    self.link.offer(stream, permit);
                }
            }
            STREAM_PORT => {
                if let Some(permit) = self.streams.permit() {
                    self.streams.offer(stream, permit);
                }
            }
            _ => {}
        }
    }

    pub(super) async fn on_status(&mut self, status: &VmStatus) {
        if self.is_hung {
            self.hung(Some(status)).await;
        } else if !self.has_receipt {
            self.has_receipt = true;
            let lines = receipt(status);
            self.record.state.status.receipt.extend(lines);
            self.is_dirty = true;
        }
    }

    pub(super) async fn on_message(&mut self, message: Message) {
        match message {
            Message::SetUp(Ok(())) => {
                self.is_set_up = true;
                if self.record.life == Life::Starting {
                    self.record.life = Life::Running;
                }
                self.is_dirty = true;
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
            }
            Message::Started(id, Err(fault)) => self.start_failed(id, fault).await,
            Message::Listed(Ok(Reply::Containers { containers })) => {
                self.reconcile(containers).await;
            }
            Message::Listed(_) => {
                let message = "The agent does not say what runs".to_owned();
                self.fail("AgentLost", message).await;
            }
            Message::Drained(id, error) => {
                if let Some(error) = error {
                    self.warn("LogFailed", format!("Cannot write the log: {error}"));
                }
                if self.runs.drained(&id) {
                    self.exited(&id).await;
                }
            }
            Message::Call(call) => self.on_call(call).await,
        }
    }

    pub(super) fn later(&self, work: impl Future<Output = Message> + Send + 'static) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let _ = messages.send(work.await);
        });
    }

    pub(super) fn warn(&mut self, reason: &str, message: String) {
        self.event(EventKind::Warning, reason, message);
    }

    pub(super) fn event(&mut self, kind: EventKind, reason: &str, message: String) {
        let time = now().unix;
        self.record
            .state
            .status
            .push_event(time, kind, reason, message);
        self.is_dirty = true;
    }

    /// Brings record, watchers and agent up to date, in this order.
    pub(super) fn save(&mut self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.is_dirty) {
            return Ok(());
        }
        let acked = self.runs.safe_event(self.received);
        let is_news = acked > self.record.acked;
        self.record.acked = acked.max(self.record.acked);
        store::write_record(&self.settings, &self.record)?;
        self.statuses.send_replace(self.record.status().clone());
        if is_news {
            self.link.acknowledge(self.record.acked);
        }
        Ok(())
    }
}

pub(super) fn after(time: Now, wait: Duration) -> u64 {
    let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
    time.boot.saturating_add(nanos)
}

pub(super) async fn vm_end(watch: Option<&AsyncFd<OwnedFd>>) {
    match watch {
        Some(watch) => drop(watch.readable().await),
        None => std::future::pending().await,
    }
}

async fn packet(control: Option<&Control>) -> Result<(ControlMessage, Vec<OwnedFd>), ControlError> {
    match control {
        Some(control) => control.receive().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(boot_nanos: Option<u64>) {
    match boot_nanos {
        Some(at) => {
            let wait = Duration::from_nanos(at.saturating_sub(now().boot));
            tokio::time::sleep(wait).await;
        }
        None => std::future::pending().await,
    }
}

/// What the guest's boot cost, from the VMM's stamps.
fn receipt(status: &VmStatus) -> Vec<ReceiptLine> {
    const PHASES: [(&str, Stamp); 5] = [
        ("vmm", Stamp::KernelEntry),
        ("kernel", Stamp::Init),
        ("agent", Stamp::Ready),
        ("setup", Stamp::PodReady),
        ("container", Stamp::FirstContainer),
    ];
    let (mut wall, mut cpu) = (0, 0);
    let mut lines = Vec::with_capacity(PHASES.len());
    for (phase, stamp) in PHASES {
        let Some(at) = status.stamps.iter().find(|at| at.stamp == stamp) else {
            continue;
        };
        lines.push(ReceiptLine {
            phase: phase.to_owned(),
            wall_nanos: at.nanos.saturating_sub(wall),
            cpu_nanos: Some(at.cpu_nanos.saturating_sub(cpu)),
        });
        (wall, cpu) = (at.nanos, at.cpu_nanos);
    }
    lines
}
