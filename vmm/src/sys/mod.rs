//! System calls that the standard library has no safe form of. Every function
//! here is safe to call: what it needs is in its types.

pub mod balloon;
pub mod file;
pub mod fs;
pub mod jail;
pub mod mapping;
pub mod net;
pub mod process;
pub mod random;
pub mod socket;
pub mod stats;
pub mod vsock;

use std::io;

/// Turns the result of a system call into a value or the system's reason.
pub(crate) fn check<T: PartialOrd + Default>(result: T) -> io::Result<T> {
    if result < T::default() {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
