//! From a started helper to a reported end.

use super::{Agent, Container, Deletion, EMPTYING, Exec, Starting};
use crate::boot::SCRATCH;
use crate::link::Caller;
use crate::pod::Owner;
use crate::poller::Token;
use crate::reaper::{self, Gone};
use crate::spawn::{Progress, Spawning};
use crate::sys;
use beluga_proto::agent::{ProcessExit, StdioNonces};
use beluga_proto::{ContainerId, Event, ExecId, Fault, FaultCode, Reply, Stamp};
use rustix::mount::{UnmountFlags, unmount};
use std::os::fd::OwnedFd;
use std::time::{Instant, SystemTime};

/// What a start that nobody waits for any more is reported with, by its cause.
fn code_of(fault: &Fault) -> i32 {
    match fault.code {
        FaultCode::CommandNotFound => 127,
        FaultCode::CommandNotExecutable => 126,
        _ => 128,
    }
}

fn unix_nanos() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
}

impl Agent {
    /// A helper said something.
    pub(super) fn spawning_has_news(&mut self, pid: u32) {
        let Some(starting) = self.starting.get_mut(&pid) else {
            return;
        };
        match starting.spawning.poll() {
            Progress::Pending => {}
            Progress::Executed { terminal } => self.executed(pid, terminal),
            Progress::Failed(fault) if starting.handed_over => {
                self.poller.remove(starting.spawning.status_fd());
                if let Some(starting) = self.starting.remove(&pid) {
                    self.start_failed(pid, starting.caller, fault);
                }
            }
            Progress::Failed(fault) => {
                self.poller.remove(starting.spawning.status_fd());
                starting.failed = Some(fault);
                // It ends by itself; this makes it certain, and hides what ended
                // one that said nothing. Everything else happens when it is gone.
                if !starting.spawning.is_silent() {
                    signal_process(pid, libc::SIGKILL);
                }
            }
        }
    }

    fn executed(&mut self, helper: u32, terminal: Option<OwnedFd>) {
        let Some(starting) = self.starting.remove(&helper) else {
            return;
        };
        let pid = starting.spawning.pid;
        self.poller.remove(starting.spawning.status_fd());
        self.pod.executed(helper, pid);
        if starting.kill {
            signal_process(pid, libc::SIGKILL);
        }
        if let Some(Owner::Container(id)) = self.pod.owner(pid) {
            self.checks.started(id);
        }
        if let Some(terminal) = terminal {
            self.connect_terminal(pid, terminal, &starting);
        }
        if !self.ran_a_container {
            self.ran_a_container = true;
            sys::stamp(Stamp::FirstContainer);
        }
        self.link.reply(starting.caller, Ok(Reply::Started { pid }));
    }

    fn connect_terminal(&mut self, pid: u32, terminal: OwnedFd, starting: &Starting) {
        let Some(owner) = self.pod.owner(pid).cloned() else {
            return;
        };
        let Some(mut streams) = self.streams_of(&owner).map(std::mem::take) else {
            return;
        };
        if let Err(error) = self.attach_terminal(&mut streams, terminal, &starting.nonces) {
            self.warn(format!("a terminal of process {pid} is lost: {error}"));
        }
        if let Some(place) = self.streams_of(&owner) {
            *place = streams;
        }
    }

    fn streams_of(&mut self, owner: &Owner) -> Option<&mut super::ProcessStreams> {
        match owner {
            Owner::Container(id) => self.containers.get_mut(id).map(|c| &mut c.streams),
            Owner::Exec(id) => self.execs.get_mut(id).map(|exec| &mut exec.streams),
        }
    }

    /// Tells the operator.
    pub(super) fn warn(&mut self, message: String) {
        crate::log::write(crate::log::Level::Warning, &message);
        self.link.report(Event::Warning { message });
    }

    /// Reaps, and lets containers end whose time has come.
    pub(super) fn turn_children(&mut self) {
        if self.reap_again {
            let (gone, more) = reaper::reap();
            self.reap_again = more;
            for process in gone {
                self.gone(process);
            }
        }
        self.report_empty();
    }

    fn gone(&mut self, process: Gone) {
        let pid = process.pid;
        self.reclaim.gone(pid);
        if let Some(deletion) = self.deletions.remove(&pid) {
            self.deleted(&deletion, process.code == 0);
            return;
        }
        if self.check_exited(pid, process.code) {
            return;
        }
        if self.pod.owner(pid).is_none() {
            self.hear_all();
        } else if self.starting.get(&pid).is_some_and(|s| s.failed.is_none()) {
            // Its last words are in the socket already.
            self.spawning_has_news(pid);
        }
        if self.has_handed_over(process) {
            return;
        }
        if let Some(starting) = self.starting.remove(&pid) {
            let fault = match starting.failed {
                Some(fault) if starting.spawning.is_silent() => {
                    Fault::new(fault.code, format!("{} ({})", fault.message, process.how()))
                }
                Some(fault) => fault,
                None => {
                    self.poller.remove(starting.spawning.status_fd());
                    let message = format!("the process ended on its way ({})", process.how());
                    Fault::new(FaultCode::Internal, message)
                }
            };
            self.start_failed(pid, starting.caller, fault);
            return;
        }
        if self.pause == Some(pid) {
            self.pause = None;
            self.warn("the process that keeps the shared PID namespace is gone".to_owned());
            return;
        }
        self.first_process_ended(process);
    }

    /// A process that nobody knows may be one that a helper has handed over to
    /// and that has executed and ended since: the status sockets tell.
    fn hear_all(&mut self) {
        let waiting = self.starting.iter().filter(|(_, s)| s.failed.is_none());
        let waiting: Vec<u32> = waiting.map(|(pid, _)| *pid).collect();
        for helper in waiting {
            self.spawning_has_news(helper);
        }
    }

    /// Whether a helper that is gone has left its work to another process.
    fn has_handed_over(&mut self, process: Gone) -> bool {
        match self.starting.get_mut(&process.pid) {
            Some(starting) if starting.spawning.hands_over && starting.failed.is_none() => {
                starting.handed_over = process.code == 0;
                starting.handed_over
            }
            _ => false,
        }
    }

    fn start_failed(&mut self, pid: u32, caller: Caller, fault: Fault) {
        let owner = self.pod.failed(pid);
        let unheard = !self.link.hears(caller);
        if let (true, Some(owner)) = (unheard, &owner) {
            self.report_unheard(owner, &fault);
        }
        match owner {
            Some(Owner::Container(id)) => {
                self.end_checks(&id);
                if let Some(container) = self.containers.remove(&id) {
                    self.discard(&id, container, None);
                }
            }
            Some(Owner::Exec(id)) => {
                if let Some(exec) = self.execs.remove(&id) {
                    self.close_streams(&exec.streams);
                }
            }
            None => {}
        }
        self.link.reply(caller, Err(fault));
    }

    /// The supervisor that asked is gone: the next one learns of it as an end.
    fn report_unheard(&mut self, owner: &Owner, fault: &Fault) {
        let exit = ProcessExit {
            code: code_of(fault),
            signal: None,
            oom_killed: false,
            unix_nanos: unix_nanos(),
        };
        let event = match owner.clone() {
            Owner::Container(container) => Event::Exited {
                container,
                exit,
                message: None,
            },
            Owner::Exec(exec) => Event::ExecExited { exec, exit },
        };
        self.warn(format!("a process could not be started: {fault}"));
        self.link.report(event);
    }

    fn first_process_ended(&mut self, process: Gone) {
        let Some(owner) = self.pod.owner(process.pid).cloned() else {
            return; // An orphan.
        };
        let oom_killed = match &owner {
            Owner::Container(id) => self
                .containers
                .get(id)
                .is_some_and(|container| container.cgroup.oom_kills() > 0),
            Owner::Exec(id) => self
                .execs
                .get(id)
                .is_some_and(|exec| exec.cgroup.oom_kills() > exec.oom_kills),
        };
        let exit = ProcessExit {
            code: process.code,
            signal: process.signal,
            oom_killed,
            unix_nanos: unix_nanos(),
        };
        self.pod.exited(process.pid, exit);
        match owner {
            Owner::Container(id) => self.container_ending(&id),
            Owner::Exec(id) => self.exec_ended(id, exit),
        }
    }

    fn container_ending(&mut self, id: &ContainerId) {
        self.end_checks(id);
        self.look_for_oom(id);
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        container.give_up_at = Some(Instant::now() + EMPTYING);
        let killed = container.cgroup.kill();
        let mut streams = std::mem::take(&mut container.streams);
        self.close_input(&mut streams);
        if let Some(container) = self.containers.get_mut(id) {
            container.streams = streams;
        }
        if let Err(error) = killed {
            self.warn(crate::log::chain(&error));
        }
    }

    fn exec_ended(&mut self, id: ExecId, exit: ProcessExit) {
        if let Some(Exec { mut streams, .. }) = self.execs.remove(&id) {
            // What it wrote is still delivered, up to its end of file.
            self.close_input(&mut streams);
        }
        self.link.report(Event::ExecExited { exec: id, exit });
    }

    /// Reports ending containers of which nothing is left.
    fn report_empty(&mut self) {
        let now = Instant::now();
        let ending: Vec<ContainerId> = self.pod.ending().cloned().collect();
        for id in ending {
            let Some(container) = self.containers.get_mut(&id) else {
                continue;
            };
            let given_up = container.give_up_at.is_some_and(|at| now >= at);
            if container.cgroup.is_populated() && !given_up {
                continue;
            }
            container.give_up_at = None;
            let message = crate::termination::read(&container.writable);
            if given_up {
                self.warn(format!(
                    "container {id} has processes that cannot be killed"
                ));
            }
            if let Some(event) = self.pod.emptied(&id, message) {
                self.link.report(event);
            }
        }
    }

    /// Event files of cgroups changed.
    pub(super) fn cgroups_changed(&mut self) {
        for id in self.watches.changed() {
            self.look_for_oom(&id);
        }
        // What became empty is seen by this turn's `report_empty`.
    }

    fn look_for_oom(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let strikes = container.cgroup.oom_kills();
        if strikes > container.oom_kills {
            container.oom_kills = strikes;
            self.link.report(Event::OomKilled {
                container: id.clone(),
            });
        }
    }

    /// Forgets an ended container and deletes what it wrote.
    pub(super) fn remove(&mut self, caller: Caller, id: &ContainerId) -> Result<(), Fault> {
        self.pod.remove(id)?;
        match self.containers.remove(id) {
            Some(container) => self.discard(id, container, Some(caller)),
            None => {
                self.link.reply(caller, Ok(Reply::Done));
            }
        }
        Ok(())
    }

    /// Gives back what a container held. Deleting a large layer takes long:
    /// a child does it.
    pub(super) fn discard(
        &mut self,
        id: &ContainerId,
        container: Container,
        caller: Option<Caller>,
    ) {
        self.close_streams(&container.streams);
        self.watches.forget(id);
        container.cgroup.remove();
        let path = container.writable;
        if path.is_empty() {
            return self.deleted(&Deletion { caller, path }, true);
        }
        if !self.storage.on_disk {
            // In memory: unmounting deletes it, once the last mount is gone.
            let _ = unmount(&*path, UnmountFlags::DETACH);
        }
        debug_assert!(path.starts_with(SCRATCH));
        let tree = path.clone();
        match sys::in_child(move || delete_tree(&tree)) {
            Ok(pid) => drop(self.deletions.insert(pid, Deletion { caller, path })),
            Err(_) => self.deleted(&Deletion { caller, path }, false),
        }
    }

    fn deleted(&mut self, deletion: &Deletion, complete: bool) {
        if !complete {
            let path = &deletion.path;
            self.warn(format!(
                "{path} could not be deleted; the pod's end frees it"
            ));
        }
        if let Some(caller) = deletion.caller {
            self.link.reply(caller, Ok(Reply::Done));
        }
    }

    /// Kills whatever is left of the pod's containers; the loop then waits for
    /// them to be gone.
    pub(super) fn kill_all(&mut self) {
        if let Err(error) = crate::cgroup::kill_pod() {
            self.warn(crate::log::chain(&error));
        }
    }
}

/// Deletes a tree without following links; what is gone already is no error.
fn delete_tree(path: &str) -> bool {
    match std::fs::remove_dir_all(path) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Signals a process that has not been reaped, so that its PID is still its own.
pub(super) fn signal_process(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may have ended this moment: then there is nothing to signal.
        let _ = sys::kill(pid, signal);
    }
}

impl Starting {
    pub(super) fn new(spawning: Spawning, caller: Caller, nonces: StdioNonces) -> Self {
        Self {
            spawning,
            caller,
            nonces,
            failed: None,
            handed_over: false,
            kill: false,
        }
    }

    /// A process on its way, watched.
    pub(super) fn watch(self, agent: &mut Agent) -> std::io::Result<()> {
        let pid = self.spawning.pid;
        agent
            .poller
            .add_readable(self.spawning.status_fd(), Token::Spawning(pid))?;
        agent.starting.insert(pid, self);
        Ok(())
    }
}
