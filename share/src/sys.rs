//! System calls that no crate has a safe form of.

use rustix::io::Errno;
use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::sync::Mutex;

/// Takes over a descriptor that this process inherited; `None` when it is not
/// open, one of the standard streams, or taken already.
pub fn take_inherited(number: RawFd) -> Option<OwnedFd> {
    static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().ok()?;
    if number <= libc::STDERR_FILENO || taken.contains(&number) {
        return None;
    }
    // SAFETY: F_SETFD takes no memory; it fails for a number that is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    taken.push(number);
    // SAFETY: the number is open (just seen) and inherited, and nobody else in
    // this process owns it: the list above gives each out once, before the
    // program has opened anything.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes this thread act as this user on file systems; whether it does now.
pub fn set_fs_uid(uid: u32) -> bool {
    // SAFETY: no memory is passed. The raw call is this thread's alone.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
    // The call never fails: asked for nobody, it tells who it is.
    // SAFETY: as above.
    let now = unsafe { libc::syscall(libc::SYS_setfsuid, u32::MAX) };
    now == libc::c_long::from(uid)
}

/// The same for the group.
pub fn set_fs_gid(gid: u32) -> bool {
    // SAFETY: as in `set_fs_uid`.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
    // SAFETY: as in `set_fs_uid`.
    let now = unsafe { libc::syscall(libc::SYS_setfsgid, u32::MAX) };
    now == libc::c_long::from(gid)
}

/// Closes a descriptor and says what came of it.
pub fn close(fd: OwnedFd) -> Result<(), Errno> {
    // SAFETY: the descriptor is given up by its owner, and the kernel closes it
    // whatever it says.
    if unsafe { libc::close(fd.into_raw_fd()) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
