//! From a plan to a running process: the helper that becomes a container.
//!
//! ```text
//! agent (PID 1)                            helper (a second life of this program)
//!   │ clone3 into the cgroup,                 │
//!   │   new PID namespace ───────────────────►│ exec of the agent's own file, argv[0] = "beluga-spawn"
//!   │ plan (memfd), status (socket) ─────────►│ layers mounted for the whole pod
//!   │                                         │ mount and cgroup namespaces, root, /proc /sys /dev, volumes
//!   │◄─ terminal (SCM_RIGHTS) ────────────────│ pivot_root, working directory, rights, filter
//!   │◄─ fault | "executing" ──────────────────│ execve: the status socket closes
//! ```
//!
//! The agent never waits: [`start`] returns as soon as the helper exists, and
//! [`Spawning::poll`] is called when its status socket is readable. The helper
//! is a direct child of PID 1. A container's first process keeps its PID to the
//! end. The helper of a command beside it ends, and a sibling goes on in its
//! place, whose PID [`Spawning::pid`] gives from then on: so the container's
//! processes never see one that has the guest's root.
//!
//! The helper is executed, not only forked, so that no copy of the agent's
//! memory (nonces, tokens) is ever inside a container's namespaces; and it is
//! executed from a detached read-only mount, so that a container that reaches
//! `/proc/PID/exe` of it cannot write to the agent's file (CVE-2019-5736).
//!
//! Two limits. With a PID namespace that containers share, a further container's
//! helper is in it before it has changed its root, since /proc shows the
//! namespace of who mounts it; and so is that of a probe's or hook's command,
//! which keeps its PID. A container that has `CAP_SYS_PTRACE` can trace it in
//! that moment.

mod dev;
mod error;
mod helper;
mod kernel;
mod plan;
mod program;
mod resolve;
mod rights;
mod root;
mod seccomp;
mod status;
mod terminal;
#[cfg(test)]
mod tests;
mod user;
mod volumes;

pub use error::{HelperError, code_of};
pub use helper::helper_main;
pub use plan::{
    DeviceNode, FileMount, ImageMount, LayerMount, Place, RootPlan, SpawnPlan, VolumeMount,
    Writable,
};
pub use resolve::{Boundary, PathError, existing};

use crate::sys::spawn::{Launch, launch, make_read_only};
use beluga_proto::Fault;
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// `argv[0]` of the helper.
pub const HELPER_ARG0: &str = "beluga-spawn";

/// The standard streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Its ends of three pipes (or /dev/null).
    Pipes {
        /// To be read by it.
        stdin: OwnedFd,
        /// To be written by it.
        stdout: OwnedFd,
        /// To be written by it.
        stderr: OwnedFd,
    },
    /// A pseudo-terminal, made in the container's own devpts; its size is in
    /// the plan.
    Terminal,
}

/// A process on its way to its program.
#[derive(Debug)]
pub struct Spawning {
    /// Its PID in the first PID namespace: the helper's, or from
    /// [`Progress::Executed`] on the program's.
    pub pid: u32,
    /// The helper ends with code 0 when another process goes on.
    pub hands_over: bool,
    status: OwnedFd,
    terminal: Option<OwnedFd>,
    executing: bool,
    silent: bool,
}

/// How far a process is.
#[derive(Debug)]
pub enum Progress {
    /// Still on its way.
    Pending,
    /// The program runs.
    Executed {
        /// Master side of its terminal, non-blocking.
        terminal: Option<OwnedFd>,
    },
    /// It did not come to that; the PID ends by itself and must be reaped.
    Failed(Fault),
}

/// Why no process could be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The kernel refused something.
    #[error("cannot {what}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The plan cannot be encoded.
    #[error("cannot encode the plan of a process")]
    Encode(#[source] serde_json::Error),
}

impl Spawning {
    /// Readable when [`Spawning::poll`] has something to say.
    pub fn status_fd(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// Its socket is closed and it has told nothing: it ends without anybody's doing,
    /// and how it has ended is all that can be known.
    pub fn is_silent(&self) -> bool {
        self.silent
    }
}

impl SpawnError {
    fn os(what: &'static str, source: impl Into<std::io::Error>) -> Self {
        Self::Os {
            what,
            source: source.into(),
        }
    }
}

/// Starts a process. Does not block; the child is a direct child of the caller.
/// The first call needs /proc to be mounted.
pub fn start(plan: &SpawnPlan, stdio: Stdio) -> Result<Spawning, SpawnError> {
    let json = serde_json::to_vec(plan).map_err(SpawnError::Encode)?;
    let memory = rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC)
        .map_err(|errno| SpawnError::os("make a file for the plan", errno))?;
    rustix::io::pwrite(&memory, &json, 0)
        .map_err(|errno| SpawnError::os("write the plan", errno))?;
    let (status, theirs) = status::pair()?;
    let (birth, join) = match &plan.place {
        Place::Create(root) => match root.shared_pid {
            Some(pid) => (Birth::Among(pidfd(pid)?), None),
            None => (Birth::First, None),
        },
        Place::Join { pid, unseen: true } => (Birth::Unseen, Some(pidfd(*pid)?)),
        Place::Join { pid, unseen: false } => (Birth::Among(pidfd(*pid)?), Some(pidfd(*pid)?)),
    };
    let streams = match &stdio {
        Stdio::Pipes {
            stdin,
            stdout,
            stderr,
        } => [
            Some(stdin.as_fd()),
            Some(stdout.as_fd()),
            Some(stderr.as_fd()),
        ],
        Stdio::Terminal => [None; 3],
    };
    let descriptors = [
        streams[0],
        streams[1],
        streams[2],
        Some(memory.as_fd()),
        Some(theirs.as_fd()),
        join.as_ref().map(AsFd::as_fd),
    ];
    let pid = launch_helper(&[], &descriptors, &plan.cgroup, &birth)?;
    Ok(Spawning {
        pid,
        hands_over: plan.hands_over(),
        status,
        terminal: None,
        executing: false,
        silent: false,
    })
}

/// Starts the first process of a PID namespace that containers share: it
/// reaps, sleeps, and has neither rights nor files. Its PID is given back.
pub fn start_pause(cgroup: &str) -> Result<u32, SpawnError> {
    launch_helper(&[helper::PAUSE_ARG], &[], cgroup, &Birth::First)
}

/// In which PID namespace a helper is born.
enum Birth {
    /// As the first one of a new namespace.
    First,
    /// Where this process is: no container sees it.
    Unseen,
    /// In that of this process.
    Among(OwnedFd),
}

/// Executes the helper as a child.
fn launch_helper(
    args: &[&str],
    descriptors: &[Option<BorrowedFd<'_>>],
    cgroup: &str,
    birth: &Birth,
) -> Result<u32, SpawnError> {
    let args: Vec<CString> = std::iter::once(&HELPER_ARG0)
        .chain(args)
        .filter_map(|arg| CString::new(*arg).ok())
        .collect();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(cgroup, flags, Mode::empty())
        .map_err(|errno| SpawnError::os("open the cgroup of a process", errno))?;
    let program = program_file()?;
    let home = match birth {
        Birth::Among(process) => Some(enter_pid_namespace(process)?),
        Birth::First | Birth::Unseen => None,
    };
    let pid = launch(&Launch {
        program: program.as_fd(),
        args: &args,
        descriptors,
        cgroup: cgroup.as_fd(),
        new_pid_namespace: matches!(birth, Birth::First),
    })
    .map_err(|error| SpawnError::os("make a process", error));
    if let Some(home) = home {
        move_into_thread_name_spaces(home.as_fd(), ThreadNameSpaceType::PROCESS_ID)
            .map_err(|errno| SpawnError::os("return to the first PID namespace", errno))?;
    }
    pid
}

/// Lets this process's next children be born in the PID namespace of another
/// one; gives back the way home. The caller itself stays where it is.
fn enter_pid_namespace(of: &OwnedFd) -> Result<OwnedFd, SpawnError> {
    let home = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|errno| SpawnError::os("open this process", errno))?;
    move_into_thread_name_spaces(of.as_fd(), ThreadNameSpaceType::PROCESS_ID)
        .map_err(|errno| SpawnError::os("join a PID namespace", errno))?;
    Ok(home)
}

fn pidfd(pid: u32) -> Result<OwnedFd, SpawnError> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .map_err(|errno| SpawnError::os("open the process to join", errno))
}

/// This program's own file, on a read-only mount of its own.
fn program_file() -> Result<&'static OwnedFd, SpawnError> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = rustix::mount::open_tree(CWD, "/proc/self/exe", flags)
        .map_err(|errno| SpawnError::os("open this program", errno))?;
    make_read_only(program.as_fd(), false)
        .map_err(|error| SpawnError::os("protect this program", error))?;
    Ok(PROGRAM.get_or_init(|| program))
}
