//! Which system calls each kind of thread may make once the guest runs.
//!
//! Nothing here opens, connects, forks, executes, maps code or changes rights: what
//! a thread has not got when it begins, it does not get. Which calls are needed was
//! measured (tests/lab/calls.py); those marked [`rare`] come only when something goes
//! wrong, and the comment says when. The kernel keeps a bitmap of calls that are
//! always allowed, so that only those with an argument to be looked at cost anything.

use serde::Serialize;

/// What a thread is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ThreadKind {
    /// The control socket and all devices but disks.
    Main,
    /// The disks.
    Block,
    /// A vCPU.
    Vcpu,
}

/// All of them.
pub const KINDS: [ThreadKind; 3] = [ThreadKind::Main, ThreadKind::Block, ThreadKind::Vcpu];

/// A system call that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub number: libc::c_long,
    /// What its arguments must be.
    #[serde(skip_serializing_if = "Only::is_any")]
    pub only: Only,
    /// Whether a machine that runs as it should never makes it.
    pub rare: bool,
}

/// What arguments of a call must be, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// Anything.
    Any,
    /// The lower 32 bits of an argument are one of these.
    OneOf(u8, &'static [u32]),
    /// An argument has none of these bits.
    Without(u8, u32),
}

impl Only {
    fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

impl ThreadKind {
    /// What it may call, beside what all may.
    #[must_use]
    pub fn own_calls(self) -> &'static [Call] {
        match self {
            Self::Main => MAIN,
            Self::Block => BLOCK,
            Self::Vcpu => VCPU,
        }
    }

    /// All that it may call.
    pub fn calls(self) -> impl Iterator<Item = &'static Call> {
        self.own_calls().iter().chain(COMMON)
    }
}

const fn call(name: &'static str, number: libc::c_long) -> Call {
    Call {
        name,
        number,
        only: Only::Any,
        rare: false,
    }
}

/// One that only an accident needs.
const fn rare(name: &'static str, number: libc::c_long) -> Call {
    Call {
        rare: true,
        ..call(name, number)
    }
}

const fn only(call: Call, only: Only) -> Call {
    Call { only, ..call }
}

/// `_IO(0xAE, 0x80)`.
const KVM_RUN: u32 = 0xae80;
const FIONBIO: u32 = 0x5421;
const TUNSETOFFLOAD: u32 = 0x4004_54d0;
const SCM_LEVEL: u32 = libc::SOL_SOCKET as u32;

/// No mapping of ours is ever code.
const NO_CODE: Only = Only::Without(2, libc::PROT_EXEC as u32);

const COMMON: &[Call] = &[
    // Wakes another thread, raises an interrupt line; log and exit record.
    call("write", libc::SYS_write),
    // Locks of devices that two threads want at once.
    call("futex", libc::SYS_futex),
    // Memory given back: the allocator's, the guest's free pages.
    call("munmap", libc::SYS_munmap),
    call("madvise", libc::SYS_madvise),
    // More memory, where many streams or long messages need it: large blocks, arenas of
    // threads, the heap.
    only(rare("mmap", libc::SYS_mmap), NO_CODE),
    only(rare("mprotect", libc::SYS_mprotect), NO_CODE),
    rare("mremap", libc::SYS_mremap),
    rare("brk", libc::SYS_brk),
    // Times of boot stamps: CPU time is no matter of the vDSO, and where the host
    // has no good clock, no time is.
    call("clock_gettime", libc::SYS_clock_gettime),
    // The machine's end, which any thread may meet: KVM's counters are read for the
    // exit record, and exit(3) takes the stack for signals away.
    call("pread64", libc::SYS_pread64),
    call("sigaltstack", libc::SYS_sigaltstack),
    call("exit_group", libc::SYS_exit_group),
    // A build for tests looks at each descriptor before it closes it.
    only(
        rare("fcntl", libc::SYS_fcntl),
        Only::OneOf(1, &[libc::F_GETFD as u32]),
    ),
    // A fault of ours while the record is written: abort(3).
    rare("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    rare("gettid", libc::SYS_gettid),
    rare("getpid", libc::SYS_getpid),
    rare("tgkill", libc::SYS_tgkill),
    rare("rt_sigaction", libc::SYS_rt_sigaction),
];

const MAIN: &[Call] = &[
    // Waits for all that follows.
    call("epoll_wait", libc::SYS_epoll_wait),
    call("epoll_ctl", libc::SYS_epoll_ctl),
    // Wakes of other threads, timers.
    call("read", libc::SYS_read),
    // Packets of cards.
    call("readv", libc::SYS_readv),
    call("writev", libc::SYS_writev),
    // Streams of vsock, the supervisor, servers of shared directories.
    call("recvmsg", libc::SYS_recvmsg),
    call("sendmsg", libc::SYS_sendmsg),
    call("recvfrom", libc::SYS_recvfrom),
    call("close", libc::SYS_close),
    // A stream of vsock: a pair of sockets, of which the supervisor gets one.
    only(
        call("socketpair", libc::SYS_socketpair),
        Only::OneOf(0, &[libc::AF_UNIX as u32]),
    ),
    only(call("ioctl", libc::SYS_ioctl), Only::OneOf(1, &[FIONBIO])),
    only(
        call("setsockopt", libc::SYS_setsockopt),
        Only::OneOf(1, &[SCM_LEVEL]),
    ),
    call("shutdown", libc::SYS_shutdown),
    // A supervisor: comes, and is asked who it is.
    call("accept4", libc::SYS_accept4),
    only(
        call("getsockopt", libc::SYS_getsockopt),
        Only::OneOf(1, &[SCM_LEVEL]),
    ),
    // The guest's entropy.
    call("getrandom", libc::SYS_getrandom),
    // Limits of cards.
    call("timerfd_settime", libc::SYS_timerfd_settime),
];

const BLOCK: &[Call] = &[
    call("epoll_wait", libc::SYS_epoll_wait),
    call("preadv", libc::SYS_preadv),
    call("pwritev", libc::SYS_pwritev),
    // Discard and write-zeroes.
    call("fallocate", libc::SYS_fallocate),
    // Flush, on disks that outlive the pod.
    call("fdatasync", libc::SYS_fdatasync),
    // Events that come again; limits.
    call("read", libc::SYS_read),
    call("timerfd_settime", libc::SYS_timerfd_settime),
    // The host's disk is full: a timer to try again.
    rare("timerfd_create", libc::SYS_timerfd_create),
    rare("epoll_ctl", libc::SYS_epoll_ctl),
    rare("close", libc::SYS_close),
];

const VCPU: &[Call] = &[
    // Runs the guest; the guest's driver says which offloads it takes.
    only(
        call("ioctl", libc::SYS_ioctl),
        Only::OneOf(1, &[KVM_RUN, TUNSETOFFLOAD]),
    ),
    // A driver begins with a device, or leaves it.
    call("epoll_ctl", libc::SYS_epoll_ctl),
    rare("close", libc::SYS_close),
    // A pause has interrupted it, which no command asks for so far.
    rare("rt_sigreturn", libc::SYS_rt_sigreturn),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What would give a thread something that it has not got.
    const NEVER: [libc::c_long; 40] = [
        libc::SYS_open,
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_open_by_handle_at,
        libc::SYS_creat,
        libc::SYS_memfd_create,
        libc::SYS_memfd_secret,
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal,
        libc::SYS_kill,
        libc::SYS_setuid,
        libc::SYS_setresuid,
        libc::SYS_capset,
        libc::SYS_prctl,
        libc::SYS_seccomp,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_chroot,
        libc::SYS_pivot_root,
        libc::SYS_io_uring_setup,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_keyctl,
        libc::SYS_init_module,
    ];

    #[test]
    fn no_thread_can_get_what_it_has_not() {
        for kind in KINDS {
            let numbers: BTreeSet<_> = kind.calls().map(|call| call.number).collect();
            let found: Vec<_> = NEVER.iter().filter(|one| numbers.contains(one)).collect();
            assert!(found.is_empty(), "{kind:?} may call {found:?}");
        }
    }

    #[test]
    fn each_call_is_listed_once() {
        for kind in KINDS {
            let names: Vec<_> = kind.calls().map(|call| call.name).collect();
            let unique: BTreeSet<_> = names.iter().collect();
            assert_eq!(names.len(), unique.len(), "{kind:?}: {names:?}");
        }
    }
}
