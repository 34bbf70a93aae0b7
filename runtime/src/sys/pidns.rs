//! Processes that see no process of the host.

use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

/// Runs `start`, which starts one process, so that the process is alone in a PID
/// namespace of its own. Where the right to make one lacks, it is in ours.
pub fn alone<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let ours = File::open("/proc/self/ns/pid")?;
    // SAFETY: of what can be unshared only a table of descriptors endangers the
    // memory of others; this one changes where children are made, and no more.
    match unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) } {
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
