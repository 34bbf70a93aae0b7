//! A process of the host's that stands for a container of a sandbox.
//!
//! containerd names a container by the PID of its task wherever another one is to see its
//! processes, and all containers of a pod are in one process of the host, the VMM, which is
//! the sandbox's task. So each of them has one that does nothing, has no rights, and ends
//! with the server: its standard input does then.

use crate::error::ShimError;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// What the program is told to be one.
pub const HOLD: &str = "hold";

/// The process; it ends when this is dropped.
#[derive(Debug)]
pub struct Holder {
    child: Child,
}

impl Holder {
    /// One for a task, whose name it shows to whoever lists processes.
    pub fn start(task: &str) -> Result<Self, ShimError> {
        let program = std::env::current_exe().map_err(ShimError::system("find this program"))?;
        let child = Command::new(program)
            .args(["-id", task, HOLD])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(ShimError::system("start the container's process"))?;
        Ok(Self { child })
    }

    /// Its PID, which nobody else has before this is dropped.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is one, until its standard input ends.
pub fn hold() -> Result<(), ShimError> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    let dropped = rustix::thread::set_capabilities(None, none);
    dropped.map_err(ShimError::system("drop capabilities"))?;
    let read = std::io::stdin().read_to_end(&mut Vec::new());
    read.map(drop).map_err(ShimError::system("wait"))
}
