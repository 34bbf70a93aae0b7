//! A pod's supervisor: the process that owns the pod from its first host
//! object to its last.
//!
//! One task, [`supervisor`], owns the state and everything that is open; the
//! others (connections, streams) send it messages. [`state`] decides, the
//! supervisor carries out: [`begin`] how it comes to its pod, [`vm`], [`agent`]
//! and [`calls`] what the VMM, the agent and clients say, [`end`] how it lets
//! go. [`boot`] makes host objects and the VM, [`run_io`] carries the
//! containers' streams, [`hooks`] has hooks run, [`shares`] watches the servers of host files,
//! [`rules`] the packet filter, [`server`] talks to clients. A supervisor that starts
//! on a pod which has run before takes it over.

mod agent;
mod begin;
mod boot;
mod calls;
mod change;
mod container;
mod end;
mod failure;
mod fifo;
mod files;
mod forward;
mod hooks;
mod keeping;
mod output;
mod resize;
mod rules;
mod run_io;
mod sandbox;
mod server;
mod shares;
mod state;
mod supervisor;
mod tls;
mod vm;

pub use container::Face;
pub use state::{Action, Input, Now, PodState, Stage};

use crate::host::lock::FileLock;
use crate::settings::Settings;
use crate::store;
use beluga_proto::{ContainerId, ExecId, PodUid};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// The hidden verb that makes a process a supervisor.
pub const SUPERVISE: &str = "supervise";

/// What a pod's first supervisor is told to do.
pub(crate) const TASK_START: &str = "start";

/// What a later one is told to do.
pub(crate) const TASK_ADOPT: &str = "adopt";

/// Both clocks now.
#[must_use]
pub fn now() -> Now {
    let nanos = |clock| {
        let time = clock_gettime(clock);
        u64::try_from(time.tv_sec)
            .unwrap_or(0)
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
    };
    Now {
        boot: nanos(ClockId::Boottime),
        unix: nanos(ClockId::Realtime),
    }
}

/// Random bytes from the kernel.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(length) => filled += length,
            Err(rustix::io::Errno::INTR) => {}
            // Identifiers and nonces without randomness are worse than no supervisor.
            Err(error) => panic!("the kernel gives no random bytes: {error}"),
        }
    }
    bytes
}

pub(crate) fn random_container_id() -> ContainerId {
    ContainerId::from_random(random_bytes())
}

pub(crate) fn random_exec_id() -> ExecId {
    ExecId::from_random(random_bytes())
}

/// The main function of a supervisor: `UID ROOT STATE LOCK-FD SOCKET-FD
/// start|adopt`. The lock is held and the socket listens already, so that there
/// is no moment in which the pod seems to have no owner.
#[must_use]
pub fn supervise_main<S: AsRef<OsStr>>(args: &[S]) -> ExitCode {
    let args: Vec<OsString> = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
    let Some(start) = Start::parse(&args) else {
        tell!("beluga supervise is started by beluga itself");
        return ExitCode::from(2);
    };
    store::private::by_default();
    // What is read of guests and of Secrets is in no file of the host, should this process
    // or one that it starts crash.
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    // Its own session: no terminal's signals reach it.
    let _ = rustix::process::setsid();
    if let Err(error) = start.settle() {
        tell!("cannot make a namespace of users: {error}");
        // What needs none of it runs all the same, and the rest says so by name.
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tell!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(start)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell!("{}", crate::error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// What a supervisor is started with.
struct Start {
    uid: PodUid,
    settings: Settings,
    lock: FileLock,
    socket: OwnedFd,
    is_first: bool,
}

impl Start {
    /// An ordinary user's pod is made in a namespace of users. Whoever takes the pod
    /// over stays outside: from there it may do with it what its maker may.
    fn settle(&self) -> std::io::Result<()> {
        match self.settings.is_ordinary && self.is_first {
            true => crate::sys::userns::enter(),
            false => Ok(()),
        }
    }

    fn parse(args: &[OsString]) -> Option<Self> {
        let [uid, root, state, lock, socket, task] = args else {
            return None;
        };
        Some(Self {
            uid: PodUid::parse(uid.to_str()?).ok()?,
            settings: Settings::new(Some(root.into()), Some(state.into())).ok()?,
            lock: FileLock::inherited(inherited(lock)?),
            socket: inherited(socket)?,
            is_first: task == TASK_START,
        })
    }
}

/// Takes over a descriptor that the starter left open for us.
fn inherited(number: &OsString) -> Option<OwnedFd> {
    let number: i32 = number.to_str()?.parse().ok().filter(|number| *number > 2)?;
    crate::sys::take_inherited(number)
}

async fn run(start: Start) -> Result<(), supervisor::SupervisorError> {
    let Start {
        uid,
        settings,
        lock,
        socket,
        is_first,
    } = start;
    // Clients learn who listens: this process from here on, not the one that made it.
    let _ = rustix::net::listen(&socket, crate::api::BACKLOG);
    let record = store::read_record(&settings, &uid)?;
    let plan = store::read_plan(&settings, &uid)?;
    let (Some(record), Some(plan)) = (record, plan) else {
        return Ok(());
    };
    let supervisor = supervisor::Supervisor::new(settings, record, plan, lock);
    supervisor.run(socket, is_first).await
}
