//! Unix sockets at paths of any length.

use rustix::fs::{Mode, OFlags};
use rustix::net::SocketAddrUnix;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// Longest path that the kernel takes in a socket address, with its final zero.
const MAX_PATH: usize = 108;

/// Calls `with` with the address of the socket at `path`. A path that is too
/// long for an address goes through a descriptor of its directory.
pub fn with_address<T>(
    path: &Path,
    with: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<T>,
) -> io::Result<T> {
    if path.as_os_str().len() < MAX_PATH {
        return Ok(with(&SocketAddrUnix::new(path)?)?);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name);
    Ok(with(&SocketAddrUnix::new(short)?)?)
}
