//! The agent itself: one thread, one loop, nothing in it waits.
//!
//! Each turn of the loop takes what epoll has, lets the link, the layers, the
//! reaper and the streams do a bounded piece of work, and sleeps until the next
//! event or deadline. What may take long runs in child processes: the helper
//! that builds a container's root ([`crate::spawn`]), and the one that deletes
//! a writable layer.

mod begin;
mod checks;
mod forward;
mod lifecycle;
mod requests;
mod stdio;

use crate::cgroup::{self, Cgroup};
use crate::clock::Clock;
use crate::layers::Layers;
use crate::link::{Caller, Dial, Link};
use crate::pod::Pod;
use crate::poller::{Poller, Readiness, Token};
use crate::reclaim::Reclaim;
use crate::setup::Storage;
use crate::spawn::Spawning;
use crate::stream::Streams;
use crate::sys;
use crate::variables::Values;
use crate::watch::Watches;
use beluga_proto::agent::StdioNonces;
use beluga_proto::{CONTROL_PORT, ContainerId, ExecId, Fault, Stamp};
use checks::Checks;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use stdio::ProcessStreams;

/// How long the first supervisor may take to answer.
const FIRST_WELCOME: Duration = Duration::from_secs(10);
/// How long the processes of a pod that is shut down may take to die.
const SHUTDOWN: Duration = Duration::from_secs(3);
/// How long a container whose first process is gone may keep others.
const EMPTYING: Duration = Duration::from_secs(5);

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The loop could not be made or waited on.
    #[error("the event loop failed")]
    Loop(#[from] io::Error),
    /// The supervisor wants nothing to do with this agent.
    #[error("the supervisor refused this agent")]
    Refused {
        /// Why.
        #[source]
        source: Fault,
    },
}

/// How the guest ends when nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As asked.
    Shutdown,
    /// No supervisor came.
    Orphaned,
}

/// What a container holds besides its processes.
struct Container {
    cgroup: Cgroup,
    writable: String,
    project: Option<u32>,
    streams: ProcessStreams,
    oom_kills: u64,
    /// When to report its end although processes are left.
    give_up_at: Option<Instant>,
    /// What files said when it started.
    variables: Values,
}

/// What a command beside a container's own process holds.
struct Exec {
    cgroup: Cgroup,
    streams: ProcessStreams,
    /// Strikes of the out-of-memory killer before it.
    oom_kills: u64,
}

/// A process on its way.
struct Starting {
    spawning: Spawning,
    caller: Caller,
    /// For its terminal, once there is one.
    nonces: StdioNonces,
    /// Set when it cannot come to be any more: what to answer when it is gone.
    failed: Option<Fault>,
    /// The helper has ended; the process that goes on in its place has yet to
    /// say that it executes.
    handed_over: bool,
    /// It is to be killed as soon as it has a PID.
    kill: bool,
}

/// A deletion under way in a child.
struct Deletion {
    caller: Option<Caller>,
    path: String,
}

/// A shutdown under way.
struct Ending {
    caller: Caller,
    until: Instant,
}

/// The agent.
pub struct Agent {
    poller: Poller,
    children: OwnedFd,
    link: Link,
    streams: Streams,
    layers: Layers,
    clock: Clock,
    reclaim: Reclaim,
    watches: Watches,
    checks: Checks,
    pod: Pod,
    storage: Storage,
    containers: BTreeMap<ContainerId, Container>,
    execs: BTreeMap<ExecId, Exec>,
    starting: BTreeMap<u32, Starting>,
    deletions: BTreeMap<u32, Deletion>,
    /// Nothing is run beside the containers' own programs, and nobody is connected to them.
    no_exec: bool,
    /// First process of the PID namespace that the containers share.
    pause: Option<u32>,
    ran_a_container: bool,
    reap_again: bool,
    ending: Option<Ending>,
    orphaned_at: Instant,
}

impl Agent {
    /// An agent that dials the host with `dial`.
    pub fn new(dial: Dial, boot_id: String) -> Result<Self, AgentError> {
        let poller = Poller::new()?;
        let children = sys::child_signals()?;
        poller.add_readable(&children, Token::Child)?;
        let watches = Watches::new()?;
        poller.add_readable(watches.fd(), Token::Watch)?;
        Ok(Self {
            poller,
            children,
            link: Link::new(dial, CONTROL_PORT, boot_id),
            streams: Streams::new(dial),
            layers: Layers::default(),
            clock: Clock::new(),
            reclaim: Reclaim::new(),
            watches,
            checks: Checks::default(),
            pod: Pod::default(),
            storage: Storage::default(),
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            starting: BTreeMap::new(),
            deletions: BTreeMap::new(),
            no_exec: false,
            pause: None,
            ran_a_container: false,
            reap_again: false,
            ending: None,
            orphaned_at: Instant::now() + FIRST_WELCOME,
        })
    }

    /// Serves until the guest is to end.
    pub fn run(&mut self) -> Result<End, AgentError> {
        loop {
            // The link comes last of those that have something to say.
            self.turn_children();
            self.turn_layers();
            self.turn_checks();
            self.clock.turn();
            self.reclaim.turn();
            self.turn_link()?;
            let more = self.streams.pump(&self.poller);
            if let Some(end) = self.end() {
                return Ok(end);
            }
            let timeout = if more || self.reap_again {
                Some(Duration::ZERO)
            } else {
                self.timeout()
            };
            for (token, readiness) in self.poller.wait(timeout)? {
                self.take(token, readiness);
            }
        }
    }

    fn take(&mut self, token: Token, readiness: Readiness) {
        match token {
            Token::Child => {
                // One record says no more than many: the reaper looks itself.
                let mut records = [0u8; 1024];
                let _ = rustix::io::read(&self.children, &mut records);
                self.reap_again = true;
            }
            Token::Link => self.link.mark(readiness),
            Token::Watch => self.cgroups_changed(),
            Token::Spawning(pid) => self.spawning_has_news(pid),
            Token::Stream(id, side) => self.streams.mark(id, side, readiness),
            Token::Check(id) => self.check_has_news(id),
        }
    }

    fn turn_link(&mut self) -> Result<(), AgentError> {
        let turn = self.link.turn(&self.poller);
        if turn.connected && !self.link_was_ready() {
            sys::stamp(Stamp::Connected);
        }
        if turn.ready && !self.pod_is_set_up() {
            sys::stamp(Stamp::Ready);
        }
        if let Some(source) = turn.refused {
            return Err(AgentError::Refused { source });
        }
        let answered = !turn.requests.is_empty();
        for (caller, request) in turn.requests {
            self.serve(caller, request);
        }
        if answered {
            // Answers that are ready go out now, not after the next sleep.
            self.link.turn(&self.poller);
        }
        Ok(())
    }

    fn link_was_ready(&self) -> bool {
        self.link.was_welcomed()
    }

    fn pod_is_set_up(&self) -> bool {
        self.pod.admit_setup().is_err()
    }

    fn turn_layers(&mut self) {
        for (caller, result) in self.layers.turn() {
            let result = result.map(|()| beluga_proto::Reply::Done);
            self.link.reply(caller, result.map_err(Fault::from));
        }
    }

    /// How long the loop may sleep.
    fn timeout(&self) -> Option<Duration> {
        let deadlines = [
            self.link.deadline(),
            self.layers.deadline(),
            self.clock.deadline(),
            self.reclaim.deadline(),
            self.streams.deadline(),
            self.checks.deadline(),
            self.ending.as_ref().map(|ending| ending.until),
            (!self.link.was_welcomed()).then_some(self.orphaned_at),
        ];
        let emptying = self.containers.values().filter_map(|c| c.give_up_at);
        deadlines
            .into_iter()
            .flatten()
            .chain(emptying)
            .min()
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether and how the guest ends now.
    fn end(&mut self) -> Option<End> {
        let now = Instant::now();
        if !self.link.was_welcomed() && now >= self.orphaned_at {
            return Some(End::Orphaned);
        }
        let ending = self.ending.as_ref()?;
        if cgroup::pod_is_populated() && now < ending.until {
            return None;
        }
        let caller = ending.caller;
        self.unmount();
        self.link.reply(caller, Ok(beluga_proto::Reply::Done));
        self.link.turn(&self.poller);
        Some(End::Shutdown)
    }

    /// Leaves disks as clean file systems: what has been written to one that
    /// outlives the pod is on it then.
    fn unmount(&self) {
        use crate::boot::{SCRATCH, VOLUMES};
        use rustix::io::Errno;
        use rustix::mount::{UnmountFlags, unmount};
        let volumes = std::fs::read_dir(VOLUMES).into_iter().flatten().flatten();
        // Most are no mounts of their own, which is no failure.
        let held = |path: std::path::PathBuf| {
            unmount(path, UnmountFlags::empty()).is_err_and(|error| error != Errno::INVAL)
        };
        let count = volumes.filter(|one| held(one.path())).count();
        // A process that would not die has mounts of its own.
        let is_held = held(SCRATCH.into()) || count > 0 || cgroup::pod_is_populated();
        if is_held || self.storage.has_devices {
            // Somebody still holds it, or it is no file system that could be
            // unmounted: at least what was written is kept.
            rustix::fs::sync();
        }
    }
}
