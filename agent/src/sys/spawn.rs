//! System calls of the spawn helper.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Descriptors are moved out of the way of the low numbers to at least here.
const HIGH_FD: libc::c_int = 64;

/// Of linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// One BPF instruction of a system-call filter.
pub type Instruction = libc::sock_filter;

/// A process to be made.
pub struct Launch<'a> {
    /// The program, an `O_PATH` descriptor.
    pub program: BorrowedFd<'a>,
    /// Its arguments.
    pub args: &'a [CString],
    /// Which descriptors it gets, by number; `None` leaves the caller's.
    pub descriptors: &'a [Option<BorrowedFd<'a>>],
    /// Directory of the cgroup that it is born in.
    pub cgroup: BorrowedFd<'a>,
    /// Whether it is the first process of a new PID namespace.
    pub new_pid_namespace: bool,
}

/// Makes a child process that executes a program with an empty environment.
/// Errors of the child itself show as its early end (exit code 127).
pub fn launch(launch: &Launch<'_>) -> io::Result<u32> {
    let mut argv: Vec<*const libc::c_char> = launch.args.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(ptr::null());
    let mut fds: Vec<RawFd> = launch
        .descriptors
        .iter()
        .map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd()))
        .collect();
    // SAFETY: all-zero is a valid clone_args: no flag, no pointer.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    if launch.new_pid_namespace {
        args.flags |= libc::CLONE_NEWPID as u64;
    }
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = u64::from(launch.cgroup.as_raw_fd().unsigned_abs());
    // Not a vfork, though that would be cheaper: whoever can trace the child in
    // the PID namespace that it joins would trace this process's own memory.
    // SAFETY: without CLONE_VM the child has its own copy of all memory, so the
    // call is a fork; the structure outlives it.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        0 => child(launch.program.as_raw_fd(), &argv, &mut fds),
        pid if pid < 0 => Err(io::Error::last_os_error()),
        pid => u32::try_from(pid).map_err(|_| io::ErrorKind::InvalidData.into()),
    }
}

/// The child between clone3 and exec: system calls only, since another thread
/// of the parent (in tests) may have held any lock at that moment.
fn child(program: RawFd, argv: &[*const libc::c_char], fds: &mut [RawFd]) -> ! {
    // SAFETY: fcntl with these arguments touches no memory.
    let program = unsafe { libc::fcntl(program, libc::F_DUPFD_CLOEXEC, HIGH_FD) };
    for fd in fds.iter_mut().filter(|fd| **fd >= 0) {
        // SAFETY: as above.
        *fd = unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, HIGH_FD) };
        if *fd < 0 {
            exit(127);
        }
    }
    for (number, fd) in (0..).zip(fds.iter()) {
        // SAFETY: dup2 touches no memory; every source lies above the targets.
        if *fd >= 0 && unsafe { libc::dup2(*fd, number) } < 0 {
            exit(127);
        }
    }
    let environment = [ptr::null::<libc::c_char>()];
    // SAFETY: both lists end in a null pointer and outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            argv.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    exit(127)
}

/// Makes a copy of this process that is a child of its parent, not of it. False
/// in the copy.
pub fn fork_sibling() -> io::Result<bool> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // Not clone3, which a system-call filter cannot look into and refuses.
    // SAFETY: without CLONE_VM and with no stack the copy has its own copy of
    // all memory, so the call is a fork; this process has one thread, so every
    // lock in the copy is in a consistent state.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        pid if pid < 0 => Err(io::Error::last_os_error()),
        pid => Ok(pid != 0),
    }
}

/// Ends this process without running anything of the C library's.
pub fn exit(code: i32) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Takes over a descriptor that this process was executed with, and marks it
/// close-on-exec. Errors when there is none of that number.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with these arguments touches no memory.
    super::check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor exists, and by the helper's convention nobody
    // else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor from `first` to `last`, whoever owns it: only for
/// a process that is about to execute another program.
pub fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: touches no memory; the caller uses no descriptor of that range
    // any longer, or forgets it on exec.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first.unsigned_abs(),
            last.unsigned_abs(),
            0,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Gives every signal its default effect and unblocks all.
pub fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is no code of ours; signals that cannot be changed
        // are refused, which is what is wanted.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a signal set is plain memory; the call below initialises it.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid place for a signal set.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: `set` was initialised above; every effect is the default one.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) };
}

/// Lets the kernel reap this process's children.
pub fn ignore_children() {
    // SAFETY: SIG_IGN is no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Waits for ever.
pub fn sleep_for_ever() -> ! {
    loop {
        // SAFETY: only waits.
        unsafe { libc::pause() };
    }
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const AT_RECURSIVE: libc::c_int = 0x8000;
/// `MOUNT_ATTR_RDONLY` of linux/mount.h.
const MOUNT_ATTR_RDONLY: u64 = 1;

/// Makes a mount read-only, and with `recursive` all that are mounted below it.
pub fn make_read_only(mount: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    change_mount(mount, recursive, MOUNT_ATTR_RDONLY, 0)
}

/// Lets mounts and their ends pass from the mount's peers to it and what is
/// mounted below, and not back.
pub fn make_slave(mount: BorrowedFd<'_>) -> io::Result<()> {
    change_mount(mount, true, 0, libc::MS_SLAVE)
}

fn change_mount(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attr_set: u64,
    propagation: u64,
) -> io::Result<()> {
    let attributes = MountAttr {
        attr_set,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads a path and one mount_attr, both of which
    // outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Moves this process into new namespaces.
pub fn unshare(namespaces: rustix::thread::UnshareFlags) -> io::Result<()> {
    // SAFETY: namespaces only; the descriptor table is not among them.
    Ok(unsafe { rustix::thread::unshare_unsafe(namespaces) }?)
}

/// Sets the supplementary groups of this process, which has one thread.
pub fn set_groups(groups: &[rustix::process::Gid]) -> io::Result<()> {
    // SAFETY: the kernel reads `len` group numbers; Gid is a plain number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_setgroups,
            groups.len(),
            groups.as_ptr().cast::<libc::gid_t>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Installs a system-call filter for this process and all that it executes.
pub fn install_filter(program: &[Instruction]) -> io::Result<()> {
    let fprog = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions, which `program` has.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const fprog,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The arguments or the environment of a program, as the kernel wants them.
pub struct Strings {
    pointers: Vec<*const libc::c_char>,
    /// What the pointers point to; a `CString`'s text does not move with it.
    _texts: Vec<CString>,
}

impl Strings {
    /// Wraps a list.
    pub fn new(texts: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
        pointers.push(ptr::null());
        Self {
            pointers,
            _texts: texts,
        }
    }
}

/// Becomes another program. Returns only when that failed.
pub fn exec(path: &CStr, args: &Strings, environment: &Strings) -> io::Error {
    // SAFETY: both lists end in a null pointer and own what they point to.
    unsafe {
        libc::execve(
            path.as_ptr(),
            args.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        )
    };
    io::Error::last_os_error()
}

/// In the test program: a second life as helper, before the test harness (and
/// its threads) exists.
#[cfg(test)]
mod second_life {
    use std::ffi::CStr;

    #[used]
    #[unsafe(link_section = ".init_array")]
    static ENTRY: extern "C" fn(
        libc::c_int,
        *const *const libc::c_char,
        *const *const libc::c_char,
    ) = entry;

    extern "C" fn entry(
        count: libc::c_int,
        args: *const *const libc::c_char,
        _environment: *const *const libc::c_char,
    ) {
        if count < 1 {
            return;
        }
        // SAFETY: the C library calls this with the vector that the kernel
        // gave it, which has `count` entries.
        let first = unsafe { *args };
        // SAFETY: the kernel terminates every argument.
        let name = unsafe { CStr::from_ptr(first) };
        if name.to_bytes() == crate::spawn::HELPER_ARG0.as_bytes() {
            crate::spawn::helper_main();
        }
    }
}
