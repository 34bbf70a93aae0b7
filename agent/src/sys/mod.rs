//! Every `unsafe` of this crate: system calls that have no safe wrapper in
//! `rustix`. Each function here is safe to call with any arguments.

pub mod block;
pub mod bpf;
mod entry;
pub mod quota;
pub mod spawn;

use beluga_proto::{STAMP_PORT, Stamp};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The result of a libc call that reports errors as -1 and errno.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Tells the VMM how far the guest is. The right to the port is given back at
/// once: it would be inherited by containers, across execve too.
pub fn stamp(stamp: Stamp) {
    let port = libc::c_ulong::from(STAMP_PORT);
    // SAFETY: ioperm changes only this thread's port permissions.
    if unsafe { libc::ioperm(port, 1, 1) } != 0 {
        return;
    }
    // SAFETY: the port was just permitted; the VMM keeps it free of side
    // effects on memory, registers and flags.
    unsafe {
        std::arch::asm!(
            "out dx, al",
            in("dx") STAMP_PORT,
            in("al") stamp as u8,
            options(nomem, nostack, preserves_flags)
        );
    }
    // SAFETY: as above.
    unsafe { libc::ioperm(port, 1, 0) };
}

/// Starts a vsock connection to the host. The socket is non-blocking: it
/// becomes writable when the connection stands, or shows an error.
pub fn dial_host(port: u32) -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::VSOCK,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all-zero is a valid sockaddr_vm; its padding must be zero.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = libc::VMADDR_CID_HOST;
    address.svm_port = port;
    // SAFETY: the pointer and length describe `address`, which outlives the call.
    let result = unsafe {
        libc::connect(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_vm>() as libc::socklen_t,
        )
    };
    match check(result) {
        Ok(_) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Blocks every signal in this process and gives back a descriptor that is
/// readable when a child ended.
pub fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: a signal set is plain memory; the calls below initialise it.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid place for a signal set.
    unsafe { libc::sigfillset(&raw mut set) };
    // SAFETY: `set` was initialised above; no handler of ours runs.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) })?;
    // SAFETY: as above.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: as above.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: -1 asks for a new descriptor; `set` is valid.
    let fd = check(unsafe {
        libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
    })?;
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal by number to a process, or to a process group when `pid` is
/// negative. Refuses what would reach every process (0 and -1) and this one.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if matches!(pid, -1..=1) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: sending a signal touches no memory of this process.
    check(unsafe { libc::kill(pid, signal) }).map(|_| ())
}

/// Runs `work` in a child process and returns its PID; the reaper sees its
/// end. For what may take long: the caller goes on at once. The child shares
/// no memory with the caller and ends with code 0, or 1 when `work` failed.
pub fn in_child(work: impl FnOnce() -> bool) -> io::Result<u32> {
    // SAFETY: this process has one thread, so the child's copy of every lock
    // is in a consistent state.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        // A connection that the parent closes meanwhile must not stay open.
        let _ = spawn::close_range(0, RawFd::MAX);
        let code = i32::from(!work());
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(code) };
    }
    Ok(u32::try_from(pid).unwrap_or(0))
}

/// Moves the clock by so many nanoseconds at once, without a look at it.
pub fn step_clock(nanos: i64) -> io::Result<()> {
    // SAFETY: all-zero is a valid timex: it asks for nothing.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    request.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    request.time.tv_sec = nanos.div_euclid(1_000_000_000);
    // With ADJ_NANO these are nanoseconds, and never less than none.
    request.time.tv_usec = nanos.rem_euclid(1_000_000_000);
    // SAFETY: `request` is a valid structure that outlives the call.
    check(unsafe { libc::adjtimex(&raw mut request) }).map(|_| ())
}

/// Shifts the clock by so many nanoseconds, little by little (at most half a
/// millisecond a second), so that time never jumps.
pub fn slew_clock(nanos: i64) -> io::Result<()> {
    // SAFETY: all-zero is a valid timex: it asks for nothing.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    // struct timex counts microseconds here.
    request.modes = libc::ADJ_OFFSET_SINGLESHOT;
    request.offset = nanos / 1000;
    // SAFETY: `request` is a valid structure that outlives the call.
    check(unsafe { libc::adjtimex(&raw mut request) }).map(|_| ())
}
