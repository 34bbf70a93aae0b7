//! The only caller of wait(2): every process that ends in the guest and has no
//! other parent ends here, the agent's own children and orphans alike.

use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus, wait};

/// Most processes reaped in one turn of the loop.
const BATCH: usize = 128;

/// A process that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// Its PID, free for another process from now on.
    pub pid: u32,
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
}

impl Gone {
    /// `signal 9` or `code 1`, for a person.
    pub fn how(self) -> String {
        match self.signal {
            Some(signal) => format!("signal {signal}"),
            None => format!("code {}", self.code),
        }
    }
}

/// Reaps what has ended. True: there may be more.
pub fn reap() -> (Vec<Gone>, bool) {
    let mut gone = Vec::new();
    while gone.len() < BATCH {
        // Not waitpid(None): that is this process's own group only.
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => gone.extend(describe(pid.as_raw_nonzero().get(), status)),
            Err(Errno::INTR) => {}
            // None has ended, or there are no children at all.
            Ok(None) | Err(_) => return (gone, false),
        }
    }
    (gone, true)
}

fn describe(pid: i32, status: WaitStatus) -> Option<Gone> {
    let signal = status.terminating_signal();
    let code = match signal {
        Some(signal) => 128 + signal,
        None => status.exit_status()?,
    };
    let pid = u32::try_from(pid).ok()?;
    Some(Gone { pid, code, signal })
}
