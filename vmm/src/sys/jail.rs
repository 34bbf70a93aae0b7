//! What this process gives up: descriptors, namespaces, rights. All of it is meant
//! for a process of one thread.

use super::check;
use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;

/// Namespaces that need no process of their own to be entered.
pub const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Closes all descriptors but the standard streams and `keep`, which is sorted.
/// Before anything has been opened that could be meant.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut first: u32 = libc::STDERR_FILENO.cast_unsigned() + 1;
    for fd in keep {
        let fd = fd.cast_unsigned();
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd.saturating_add(1));
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: no memory is passed. The caller's contract: nobody in this process
    // owns a descriptor of the range.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Sets both limits of a resource; never raises one.
pub fn limit(resource: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local that outlives the call.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    limit.rlim_max = limit.rlim_max.min(most);
    limit.rlim_cur = limit.rlim_cur.min(limit.rlim_max);
    // SAFETY: as above.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}

/// The soft limit of descriptors becomes the hard one.
pub fn freeze_descriptor_limit() -> io::Result<()> {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local that outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now) })?;
    limit(libc::RLIMIT_NOFILE, now.rlim_cur)
}

/// Becomes a user and its group, of no other group, and keeps the capabilities
/// for what is still to be done.
pub fn become_user(id: u32) -> io::Result<()> {
    const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP)?;
    // SAFETY: no group is passed.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::setresgid(id, id, id) })?;
    // SAFETY: as above.
    check(unsafe { libc::setresuid(id, id, id) })?;
    // The files of the process in /proc are its own user's, until it is done.
    set_dumpable(true)
}

/// Whether the process's memory may be looked at by its own user, and its core
/// dumped.
pub fn set_dumpable(may: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, may.into())
}

/// Nothing that this process runs gets rights, not that it could run anything.
pub fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the options used here take a number.
    check(unsafe { libc::prctl(option, value, zero, zero, zero) }).map(drop)
}

/// This process's effective group.
#[must_use]
pub fn own_gid() -> u32 {
    // SAFETY: no memory is passed; the call cannot fail.
    unsafe { libc::getegid() }
}

/// Enters new namespaces.
pub fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the flags used here leave memory and descriptors as they are.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Mounts of the process's own: changes do not reach anybody else's.
pub fn make_mounts_private() -> io::Result<()> {
    mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"")
}

/// An empty directory that cannot be written to becomes the working directory.
/// It covers one that every Linux has.
pub fn enter_empty_directory() -> io::Result<()> {
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let options = c"size=4k,nr_inodes=2,mode=555";
    mount(c"none", c"/proc", c"tmpfs", flags, options)?;
    change_directory(c"/proc")
}

/// The working directory becomes the root, and all other mounts go.
pub fn pivot_root() -> io::Result<()> {
    let here = c".".as_ptr();
    // SAFETY: both are strings that end with zero.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, here, here) })?;
    // The old root lies over the new one now.
    // SAFETY: as above.
    check(unsafe { libc::umount2(here, libc::MNT_DETACH) })?;
    change_directory(c"/")
}

/// The working directory becomes the root.
pub fn change_root() -> io::Result<()> {
    // SAFETY: a string that ends with zero.
    check(unsafe { libc::chroot(c".".as_ptr()) }).map(drop)
}

fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: libc::c_ulong,
    options: &CStr,
) -> io::Result<()> {
    let (source, target, kind) = (source.as_ptr(), target.as_ptr(), kind.as_ptr());
    // SAFETY: all are strings that end with zero and outlive the call.
    check(unsafe { libc::mount(source, target, kind, flags, options.as_ptr().cast()) }).map(drop)
}

fn change_directory(to: &CStr) -> io::Result<()> {
    // SAFETY: a string that ends with zero.
    check(unsafe { libc::chdir(to.as_ptr()) }).map(drop)
}

/// Gives up every capability, for good.
pub fn drop_capabilities() -> io::Result<()> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(()) => {}
            // Behind the last one that this kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            // Who has not the right to shrink the set has nothing to lose by it.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => break,
            Err(error) => return Err(error),
        }
    }
    // `struct __user_cap_header_struct` of version 3, and the two sets of each kind.
    let header: [u32; 2] = [0x2008_0522, 0];
    let none = [0u32; 6];
    // SAFETY: both have the sizes that version 3 says, and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }).map(drop)
}

/// Denies all of the file system, TCP, and what is of other processes, as far as
/// the kernel's Landlock knows it. Gives its version.
pub fn landlock() -> io::Result<i64> {
    const VERSION: u32 = 1;
    let none: *const u64 = std::ptr::null();
    // SAFETY: asked for its version, the call takes no memory.
    let version =
        check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, VERSION) })?;
    let (files, size) = match version {
        ..=1 => (0x1fff, 8),
        2 => (0x3fff, 8),
        3 => (0x7fff, 8),
        4 => (0x7fff, 16),
        5 => (0xffff, 16),
        _ => (0xffff, 24),
    };
    // `struct landlock_ruleset_attr`: files, network, scopes.
    let handled: [u64; 3] = [files, 3, 3];
    // SAFETY: `handled` has at least `size` bytes and outlives the call.
    let rules = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            handled.as_ptr(),
            size as usize,
            0,
        )
    })?;
    // SAFETY: no memory is passed.
    let result = check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules, 0) });
    // SAFETY: the descriptor is this function's own and not used again.
    unsafe { libc::close(rules as libc::c_int) };
    result.map(|_| version)
}
