//! What the process sees beside its descriptors: nothing.
//!
//! It stays in the host's namespace of users, since it gives files their owners.
//! What it cannot have where it is not root, it says in its log.

use crate::sys;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

/// Closes what was inherited beside the standard streams and these. Call before
/// anything is opened.
pub fn close_all_but(named: [RawFd; 2]) -> io::Result<()> {
    sys::close_all_but(named)
}

/// Leaves the host's mounts, network and processes for good; of files, only what
/// lies below `root` can be reached, on a kernel that has Landlock. Errors when the
/// process has the right to and cannot.
pub fn enter(root: BorrowedFd<'_>, is_file: bool) -> io::Result<()> {
    sys::forbid_core_dumps()?;
    match sys::leave_namespaces() {
        Ok(()) => sys::enter_empty_root()?,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!("beluga-share: jail: no namespaces: {error}");
        }
        Err(error) => return Err(error),
    }
    // Landlock asks for it.
    rustix::thread::set_no_new_privs(true)?;
    if let Err(error) = sys::only_below(root, is_file) {
        eprintln!("beluga-share: jail: no Landlock: {error}");
    }
    Ok(())
}
