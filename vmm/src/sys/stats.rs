//! KVM's binary statistics.

use super::check;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

/// `KVM_GET_STATS_FD`, `_IO(0xAE, 0xce)`.
const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;

/// Opens the statistics of a vCPU (or a VM).
pub fn open(of: &impl AsRawFd) -> io::Result<File> {
    // SAFETY: the ioctl takes no argument; another kind of descriptor refuses.
    let fd = check(unsafe { libc::ioctl(of.as_raw_fd(), KVM_GET_STATS_FD, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}
