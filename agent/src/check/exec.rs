//! An attempt that is a program in the container, in a cgroup of its own, so
//! that all it has started can be killed with it.

use super::Outcome;
use crate::cgroup::Cgroup;
use crate::poller::{Poller, Token};
use crate::spawn::{self, Progress, SpawnPlan, Spawning, Stdio};
use crate::sys;
use beluga_proto::Fault;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::OwnedFd;

/// Bytes of its output that are kept, as the kubelet has it.
const MAX_OUTPUT: usize = 10 << 10;

/// A program under way.
pub struct Command {
    pid: u32,
    args: Vec<String>,
    cgroup: Cgroup,
    spawning: Option<Spawning>,
    output: OwnedFd,
    said: Vec<u8>,
    fault: Option<Fault>,
    has_ended: bool,
}

impl Command {
    /// Starts a program. The cgroup is made; the plan names it.
    pub fn start(
        plan: &SpawnPlan,
        cgroup: Cgroup,
        poller: &Poller,
        id: u32,
    ) -> Result<Self, Outcome> {
        let error = |what: &str, why: &dyn std::fmt::Display| {
            Outcome::Errored(format!("cannot {what}: {why}"))
        };
        let (output, theirs) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|e| error("make a pipe", &e))?;
        // Only our end: what a program writes to must block when it is full.
        rustix::io::ioctl_fionbio(&output, true).map_err(|e| error("make a pipe", &e))?;
        let stdin = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| error("open /dev/null", &e))?;
        let stderr = theirs.try_clone().map_err(|e| error("make a pipe", &e))?;
        let stdio = Stdio::Pipes {
            stdin,
            stdout: theirs,
            stderr,
        };
        let spawning =
            spawn::start(plan, stdio).map_err(|e| Outcome::Errored(crate::log::chain(&e)))?;
        let command = Self {
            pid: spawning.pid,
            args: plan.process.args.clone(),
            cgroup,
            output,
            said: Vec::new(),
            fault: None,
            spawning: None,
            has_ended: false,
        };
        // Without a watch its end is still seen by the reaper.
        let watched = poller
            .add_readable(spawning.status_fd(), Token::Check(id))
            .and_then(|()| poller.add(&command.output, Token::Check(id)));
        if let Err(why) = watched {
            let mut command = command;
            command.kill(poller);
            return Err(error("watch a process", &why));
        }
        Ok(Self {
            spawning: Some(spawning),
            ..command
        })
    }

    /// Its first process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether its first process is gone.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes its news; true when its program has begun to run.
    pub fn advance(&mut self, poller: &Poller) -> bool {
        self.read();
        let Some(spawning) = &mut self.spawning else {
            return false;
        };
        let begun = match spawning.poll() {
            Progress::Pending => return false,
            Progress::Executed { .. } => true,
            Progress::Failed(fault) => {
                self.fault = Some(fault);
                false
            }
        };
        poller.remove(spawning.status_fd());
        self.spawning = None;
        begun
    }

    fn read(&mut self) {
        let mut buffer = [0u8; 4096];
        loop {
            match rustix::io::read(&self.output, &mut buffer) {
                Ok(0) => return,
                // The rest is read as well, so that the program can go on.
                Ok(bytes) => {
                    let room = MAX_OUTPUT - self.said.len();
                    self.said.extend_from_slice(&buffer[..bytes.min(room)]);
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Its first process is gone.
    pub fn exited(&mut self, code: i32) -> Outcome {
        self.has_ended = true;
        self.read();
        if let Some(Progress::Failed(fault)) = self.spawning.as_mut().map(Spawning::poll) {
            self.fault = Some(fault);
        }
        match (&self.fault, code) {
            (Some(fault), _) => Outcome::Errored(fault.message.clone()),
            (None, 0) => Outcome::Passed,
            (None, _) => Outcome::Failed(String::from_utf8_lossy(&self.said).trim_end().to_owned()),
        }
    }

    /// What is said of one that takes too long.
    pub fn timed_out(&self) -> String {
        format!("command {:?} timed out", self.args.join(" "))
    }

    /// Kills it and all that it has started, whatever sessions they made.
    pub fn kill(&mut self, poller: &Poller) {
        if let Some(spawning) = self.spawning.take() {
            poller.remove(spawning.status_fd());
        }
        poller.remove(&self.output);
        if self.cgroup.kill().is_err()
            && let Ok(pid) = i32::try_from(self.pid)
        {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
    }

    /// Lets go of one that has ended by itself; what it left runs on.
    pub fn close(&mut self, poller: &Poller) {
        if let Some(spawning) = self.spawning.take() {
            poller.remove(spawning.status_fd());
        }
        poller.remove(&self.output);
    }
}
