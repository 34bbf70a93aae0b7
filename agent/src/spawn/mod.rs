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
//! is a direct child of PID 1 and keeps its PID to the end: the reaper sees the
//! program's exit under the PID that [`Spawning::pid`] has.
//!
//! The helper is executed, not only forked, so that no copy of the agent's
//! memory (nonces, tokens) is ever inside a container's namespaces; and it is
//! executed from a detached read-only mount, so that a container that reaches
//! `/proc/PID/exe` of it cannot write to the agent's file (CVE-2019-5736).

mod plan;

pub use plan::{FileMount, LayerMount, Place, RootPlan, SpawnPlan, VolumeMount, Writable};

use beluga_proto::Fault;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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
    /// Its PID in the first PID namespace.
    pub pid: u32,
    status: OwnedFd,
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

    /// Takes what the helper has said so far. Never blocks.
    pub fn poll(&mut self) -> Progress {
        Progress::Pending
    }
}

/// Starts a process. Does not block; the child is a direct child of the caller.
pub fn start(plan: &SpawnPlan, stdio: Stdio) -> Result<Spawning, SpawnError> {
    let _ = (plan, stdio);
    Err(SpawnError::Os {
        what: "start",
        source: std::io::ErrorKind::Unsupported.into(),
    })
}

/// Starts the first process of a PID namespace that containers share: it
/// reaps, sleeps, and has neither rights nor files. Its PID is given back.
pub fn start_pause(cgroup: &str) -> Result<u32, SpawnError> {
    let _ = cgroup;
    Err(SpawnError::Os {
        what: "start",
        source: std::io::ErrorKind::Unsupported.into(),
    })
}

/// The helper's `main`: for `main` to call before anything else when `argv[0]`
/// is [`HELPER_ARG0`].
pub fn helper_main() -> ! {
    std::process::exit(1)
}
