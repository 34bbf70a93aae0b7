//! The servers of directories and files of the host: watched, so that the loss
//! of one is told, and seen off.

use super::supervisor::Supervisor;
use crate::host::process;
use crate::host::share::{self, ServerProcess};
use crate::store::{Life, ShareRef};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd as _, OwnedFd};
use std::task::Poll;
use tokio::io::unix::AsyncFd;

/// How long a VMM that has closed its sockets may take to be gone.
const VMM_MILLIS: u32 = 200;

/// The servers that run.
#[derive(Debug, Default)]
pub(super) struct Shares(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    known: ShareRef,
    end: AsyncFd<OwnedFd>,
    /// Its wait status is this process's to have.
    is_child: bool,
}

impl Shares {
    fn watch(&mut self, known: ShareRef, pidfd: Option<OwnedFd>, is_child: bool) -> bool {
        let end = pidfd.and_then(|pidfd| crate::sys::watch(pidfd).ok());
        let Some(end) = end else { return false };
        self.0.push(Watched {
            known,
            end,
            is_child,
        });
        true
    }

    /// The place of one that has ended; never, while all run.
    pub(super) async fn ended(&self) -> usize {
        std::future::poll_fn(|context| {
            let mut all = self.0.iter();
            match all.position(|one| one.end.poll_read_ready(context).is_ready()) {
                Some(at) => Poll::Ready(at),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Supervisor {
    /// Puts the servers of a new pod on record.
    pub(super) fn keep_shares(&mut self, started: Vec<ServerProcess>) {
        for server in started {
            let (known, pidfd) = server.keep();
            self.record.shares.push(known.clone());
            let _ = self.shares.watch(known, pidfd, true);
        }
        self.is_dirty = true;
    }

    /// Takes over the servers that an earlier supervisor started.
    pub(super) fn adopt_shares(&mut self) {
        for known in self.record.shares.clone() {
            let pidfd = process::open(known.process);
            if !self.shares.watch(known.clone(), pidfd, false) {
                self.share_lost(&known, "has ended");
            }
        }
    }

    pub(super) fn share_ended(&mut self, at: usize) {
        let Watched {
            known,
            end,
            is_child,
        } = self.shares.0.swap_remove(at);
        let status = is_child
            .then(|| {
                let id = WaitId::PidFd(end.as_fd());
                waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
                    .ok()
                    .flatten()
            })
            .flatten();
        let signal = status.as_ref().and_then(|one| one.terminating_signal());
        let code = status.as_ref().and_then(|one| one.exit_status());
        match (signal, code) {
            // Its VMM has gone before it: that is told by itself.
            (None, Some(0)) => self.forget_share(&known),
            (Some(signal), _) => self.share_lost(&known, &format!("was ended by signal {signal}")),
            (None, Some(code)) => self.share_lost(&known, &format!("exited with {code}")),
            // Not our child. It goes with its VMM, and may be the faster.
            (None, None) if self.vmm_ends_now() => self.forget_share(&known),
            (None, None) => self.share_lost(&known, "has ended"),
        }
    }

    fn vmm_ends_now(&self) -> bool {
        let machine = self.machine.as_ref();
        machine.is_none_or(|machine| process::wait_end(&machine.pidfd, VMM_MILLIS))
    }

    fn share_lost(&mut self, known: &ShareRef, how: &str) {
        self.forget_share(known);
        if self.record.life == Life::Ending {
            return;
        }
        let message = format!(
            "The server of volume {:?} ({}) {how}: what is done there fails until the pod is \
             started again",
            known.volume,
            known.path.display()
        );
        self.warn("VolumeLost", message);
    }

    fn forget_share(&mut self, known: &ShareRef) {
        self.record.shares.retain(|one| one != known);
        self.is_dirty = true;
    }

    /// The VMM has gone: so do they, before their cgroup does.
    pub(super) fn end_shares(&mut self) {
        for known in std::mem::take(&mut self.record.shares) {
            share::end(&known);
        }
    }
}
