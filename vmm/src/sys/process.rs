//! This process: clocks, signals, timers, descriptors.

use super::check;
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

/// CPU time that all threads of this process have used.
#[must_use]
pub fn cpu_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the result.
    let result = unsafe { libc::clock_gettime(id, &raw mut time) };
    debug_assert_eq!(result, 0, "the clock exists on every Linux");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Takes over a descriptor that this process inherited. Each number once: a
/// second claim is an error, as is a number that is not open.
pub fn claim_inherited(number: RawFd) -> io::Result<OwnedFd> {
    static CLAIMED: std::sync::Mutex<Vec<RawFd>> = std::sync::Mutex::new(Vec::new());
    let mut claimed = CLAIMED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if number <= libc::STDERR_FILENO || claimed.contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: F_SETFD takes no memory; it fails for a number that is not open.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    claimed.push(number);
    // SAFETY: the number is open (just checked), was inherited, and nobody
    // else in this process owns it: the list above hands each out once, before
    // this program has opened anything that could be named by a number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

thread_local! {
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) };
}

/// The signal that makes a vCPU thread leave `KVM_RUN`.
fn kick_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn on_kick(_: libc::c_int) {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: the pointer was set by this thread to its own `kvm_run`
        // mapping and is cleared before that goes (`KickTarget`'s drop).
        unsafe { flag.write_volatile(1) };
    }
}

/// While it lives, a kick of this thread sets the `immediate_exit` byte that
/// it was made for, so that no kick between two `KVM_RUN`s is lost.
#[derive(Debug)]
pub struct KickTarget(());

impl KickTarget {
    /// Of the calling thread, for the vCPU whose `kvm_run` is given. The
    /// caller keeps the mapping for as long as the value lives.
    #[must_use]
    pub fn of_this_thread(run: &mut kvm_bindings::kvm_run) -> Self {
        static INSTALLED: OnceLock<()> = OnceLock::new();
        INSTALLED.get_or_init(install_kick);
        IMMEDIATE_EXIT.set(&raw mut run.immediate_exit);
        Self(())
    }
}

impl Drop for KickTarget {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(std::ptr::null_mut());
    }
}

fn install_kick() {
    // SAFETY: an all-zero sigaction is a valid one (default action, no flags).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_kick as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler touches nothing but its thread's own flag; the
    // action is a valid value and the old one is not asked for.
    let result = unsafe { libc::sigaction(kick_signal(), &raw const action, std::ptr::null_mut()) };
    debug_assert_eq!(result, 0, "a real-time signal can be handled");
}

/// A thread of this process that can be kicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadId(libc::pid_t);

impl ThreadId {
    /// The calling thread.
    #[must_use]
    pub fn current() -> Self {
        // SAFETY: no memory is passed.
        Self(unsafe { libc::gettid() })
    }

    /// Makes the thread leave `KVM_RUN`. One that is gone is none's loss.
    pub fn kick(self) {
        let process = std::process::id() as libc::pid_t;
        // SAFETY: no memory is passed; the signal goes to this process only.
        let _ = unsafe { libc::syscall(libc::SYS_tgkill, process, self.0, kick_signal()) };
    }
}

/// A timer that a poll can wait for.
#[derive(Debug)]
pub struct Timer(File);

impl Timer {
    /// A timer that is not set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = check(unsafe {
            libc::timerfd_create(
                libc::CLOCK_MONOTONIC,
                libc::TFD_CLOEXEC | libc::TFD_NONBLOCK,
            )
        })?;
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Fires once after `after`; zero unsets it.
    pub fn set(&self, after: Duration) -> io::Result<()> {
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = libc::itimerspec {
            it_interval: zero,
            it_value: libc::timespec {
                tv_sec: after.as_secs() as libc::time_t,
                tv_nsec: libc::c_long::from(after.subsec_nanos()),
            },
        };
        // SAFETY: `value` is a valid setting; the old one is not asked for.
        check(unsafe {
            libc::timerfd_settime(
                self.0.as_raw_fd(),
                0,
                &raw const value,
                std::ptr::null_mut(),
            )
        })
        .map(drop)
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
