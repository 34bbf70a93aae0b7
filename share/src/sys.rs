//! System calls that no crate has a safe form of.

use rustix::io::Errno;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
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

fn check(result: libc::c_long) -> std::io::Result<libc::c_long> {
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(result)
}

/// No core of this process, in which files of others would be.
pub fn forbid_core_dumps() -> std::io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is read, and outlives the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }.into()).map(drop)
}

/// Enters namespaces of its own, but of users and processes.
pub fn leave_namespaces() -> std::io::Result<()> {
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    // SAFETY: of one thread, whose memory and descriptors stay as they are.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// The root becomes an empty directory that cannot be written to, and all other
/// mounts go from sight. Descriptors stay what they are.
pub fn enter_empty_root() -> std::io::Result<()> {
    let (none, here) = (c"none".as_ptr(), c".".as_ptr());
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let empty = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let options = c"size=4k,nr_inodes=2,mode=555".as_ptr().cast();
    let (root, place, kind) = (c"/".as_ptr(), c"/proc".as_ptr(), c"tmpfs".as_ptr());
    // SAFETY: here and below, strings that end with zero, and that live for ever.
    check(unsafe { libc::mount(none, root, none, private, std::ptr::null()) }.into())?;
    // SAFETY: as above.
    check(unsafe { libc::mount(none, place, kind, empty, options) }.into())?;
    // SAFETY: as above.
    check(unsafe { libc::chdir(place) }.into())?;
    // SAFETY: as above.
    if check(unsafe { libc::syscall(libc::SYS_pivot_root, here, here) }).is_ok() {
        // SAFETY: as above; the old root lies over the new one now.
        check(unsafe { libc::umount2(here, libc::MNT_DETACH) }.into())?;
    } else {
        // A host that runs from its initramfs.
        // SAFETY: as above.
        check(unsafe { libc::chroot(here) }.into())?;
    }
    // SAFETY: as above.
    check(unsafe { libc::chdir(root) }.into()).map(drop)
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// Landlock: only what lies below a directory, or the one file, can be opened,
/// made or removed. Errors where the kernel cannot keep up with renames (before
/// 5.19) or has none.
pub fn only_below(root: BorrowedFd<'_>, is_file: bool) -> std::io::Result<()> {
    const VERSION: u32 = 1;
    const PATH_BENEATH: u32 = 1;
    /// Execute, write, read, truncate, device's ioctl.
    const OF_FILES: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15;
    let none: *const u64 = std::ptr::null();
    // SAFETY: asked for its version, the call takes no memory.
    let version =
        check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, VERSION) })?;
    let handled: u64 = match version {
        ..=1 => return Err(Errno::NOSYS.into()),
        2 => 0x3fff,
        3 | 4 => 0x7fff,
        _ => 0xffff,
    };
    let size = size_of_val(&handled);
    // SAFETY: `handled` has `size` bytes and outlives the call.
    let rules = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const handled,
            size,
            0,
        )
    })?;
    let number = i32::try_from(rules).map_err(|_| Errno::INVAL)?;
    // SAFETY: the descriptor is new and nobody else's.
    let rules = unsafe { OwnedFd::from_raw_fd(number) };
    let beneath = PathBeneath {
        allowed: if is_file { handled & OF_FILES } else { handled },
        parent: root.as_raw_fd(),
    };
    let (number, rule) = (rules.as_raw_fd(), &raw const beneath);
    // SAFETY: the rule is of the kind that is said, and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_landlock_add_rule, number, PATH_BENEATH, rule, 0) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, number, 0) }).map(drop)
}

/// Closes all descriptors but the standard streams and two.
pub fn close_all_but(mut named: [RawFd; 2]) -> std::io::Result<()> {
    named.sort_unstable();
    let mut first = libc::STDERR_FILENO + 1;
    for last in [named[0] - 1, named[1] - 1, RawFd::MAX] {
        if first <= last {
            let none: libc::c_uint = 0;
            // SAFETY: no memory is passed, and nobody owns what is closed: the
            // process has opened nothing yet.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, none) })?;
        }
        first = last.saturating_add(2);
    }
    Ok(())
}

/// Makes a call whose arguments are all zero.
#[cfg(test)]
pub fn call_with_zeros(number: libc::c_long) {
    // SAFETY: no address is valid there, so that nothing is read or written.
    let _ = unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) };
}
