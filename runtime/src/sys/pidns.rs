//! Processes that see no process of the host.

use super::{netns, userns};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

/// Runs `start`, which starts one process, so that the process is alone in a PID
/// namespace of its own. Where the right to make one lacks, it is in ours.
pub fn alone<T: Send>(start: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    if userns::is_own() {
        // The host's PID namespace is not one to come back to from here: it is left
        // by a thread, which ends with it.
        return netns::on_a_thread(|| {
            unshare()?;
            start()
        });
    }
    let ours = File::open("/proc/self/ns/pid")?;
    match unshare() {
        Ok(()) => {}
        Err(rustix::io::Errno::PERM) => return start(),
        Err(error) => return Err(error.into()),
    }
    let started = start();
    // Whoever is started later is in ours again.
    let kind = Some(LinkNameSpaceType::ProcessID);
    rustix::thread::move_into_link_name_space(ours.as_fd(), kind)?;
    started
}

/// What the calling thread starts from now on is in a PID namespace of its own.
fn unshare() -> rustix::io::Result<()> {
    // SAFETY: of what can be unshared only a table of descriptors endangers the
    // memory of others; this one changes where children are made, and no more.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }
}
