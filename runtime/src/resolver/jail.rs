//! What the process that answers gives up before it reads the first query.
//!
//! Sockets and the feed are open by then. It stays in the host's network, whose name
//! servers it asks, and in the host's namespace of users, in which it is a user of its own
//! without rights.

use crate::machine::jail::of_name;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use rustix::{process, thread};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// Most descriptors: two of each query that waits for others, and some.
const DESCRIPTORS: u64 = 512;

/// Why the process is not in its jail.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// A right that cannot be given up.
    #[error("cannot {step}")]
    Step {
        /// What failed.
        step: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The list makes no filter.
    #[error("the list of system calls makes no filter")]
    Compile(#[from] BackendError),
    /// The kernel refuses it.
    #[error("the kernel does not take the filter")]
    Install(#[from] seccompiler::Error),
}

fn failed(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> JailError {
    move |errno| JailError::Step {
        step,
        source: errno.into(),
    }
}

/// Shuts the process in, but for its system calls. It has one thread.
pub fn enter(name: &str) -> Result<(), JailError> {
    limits().map_err(failed("limit what the process uses"))?;
    let user = of_name(name);
    match leave_namespaces() {
        Ok(()) => empty_root().map_err(failed("make an empty root"))?,
        // Where it is not root.
        Err(error) => tell!("jail: no namespaces: {error}"),
    }
    drop_bounding().map_err(failed("give up the capabilities"))?;
    if let Some(user) = user {
        become_user(user).map_err(failed("become a user of its own"))?;
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    thread::set_capabilities(None, none).map_err(failed("give up the capabilities"))?;
    thread::set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("hide the process's memory"))?;
    // Last: whoever becomes another user loses it.
    process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failed("end with its keeper"))
}

fn limits() -> rustix::io::Result<()> {
    let most = |resource, most: u64| {
        let now = process::getrlimit(resource).maximum;
        let most = Some(now.map_or(most, |now| now.min(most)));
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        process::setrlimit(resource, limit)
    };
    most(Resource::Core, 0)?;
    most(Resource::Memlock, 0)?;
    most(Resource::Msgqueue, 0)?;
    most(Resource::Rtprio, 0)?;
    most(Resource::Nofile, DESCRIPTORS)
}

/// All but those of the network, of users and of processes.
fn leave_namespaces() -> rustix::io::Result<()> {
    let flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    crate::sys::leave_namespaces(flags)
}

/// The root becomes an empty directory that cannot be written to.
fn empty_root() -> rustix::io::Result<()> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private)?;
    let empty = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(
        "none",
        "/proc",
        "tmpfs",
        empty,
        c"size=4k,nr_inodes=2,mode=555",
    )?;
    process::chdir("/proc")?;
    if process::pivot_root(".", ".").is_ok() {
        // The old root lies over the new one now.
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    } else {
        // A host that runs from its initramfs.
        process::chroot(".")?;
    }
    process::chdir("/")
}

/// No capability can come back by what is executed. Where this is not allowed there is
/// none to lose.
fn drop_bounding() -> rustix::io::Result<()> {
    let held = thread::capabilities(None)?;
    if !held.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Beyond the last that this kernel knows.
            Err(rustix::io::Errno::INVAL) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn become_user(user: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (process::Uid::from_raw(user), process::Gid::from_raw(user));
    thread::set_thread_groups(&[])?;
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_thread_res_uid(uid, uid, uid)
}

/// Whatever their arguments.
const ALLOWED: &[libc::c_long] = &[
    // Queries, answers, the feed.
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_shutdown,
    libc::SYS_close,
    // Memory, the seed of tables, numbers of queries, the log, the end and its reasons.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_restart_syscall,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// From now on this thread, the only one, makes these calls and no others: another one
/// ends the process by SIGSYS.
pub fn limit_calls() -> Result<(), JailError> {
    Ok(seccompiler::apply_filter(&program()?)?)
}

fn program() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<_, _> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let rule = |argument, operator, value: libc::c_int| {
        let value = u64::from(value.cast_unsigned());
        let length = SeccompCmpArgLen::Dword;
        SeccompRule::new(vec![SeccompCondition::new(
            argument, length, operator, value,
        )?])
    };
    // No mapping is ever code.
    let code = SeccompCmpOp::MaskedEq(libc::PROT_EXEC.cast_unsigned().into());
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![rule(2, code.clone(), 0)?]);
    }
    // Assertions ask whether what is closed is open, and what is waited for does not block.
    let asked = [libc::F_GETFD, libc::F_GETFL].map(|what| rule(1, SeccompCmpOp::Eq, what));
    let asked = asked.into_iter().collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_fcntl, asked);
    let of_internet = [libc::AF_INET, libc::AF_INET6];
    let of_internet = of_internet.map(|family| rule(0, SeccompCmpOp::Eq, family));
    let of_internet = of_internet.into_iter().collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, of_internet);
    let (others, these) = (SeccompAction::KillProcess, SeccompAction::Allow);
    SeccompFilter::new(rules, others, these, TargetArch::x86_64)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    const VARIABLE: &str = "BELUGA_RESOLVER_TEST_CALL";

    fn after(call: &str) -> ExitStatus {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let name = "resolver::jail::tests::a_call_off_the_list_ends_the_process";
        child.args(["--exact", name, "--test-threads=1"]);
        child.env(VARIABLE, call).output().unwrap().status
    }

    /// What a taken-over process would do, by calls that are safe to make.
    fn call(name: &str) {
        match name {
            "clock" => drop(std::time::Instant::now()),
            "socket" => drop(std::net::UdpSocket::bind("127.0.0.1:0")),
            "open" => drop(std::fs::read("/etc/passwd")),
            "stat" => drop(std::fs::metadata("/etc/shadow")),
            "run" => drop(Command::new("/bin/true").status()),
            "unix" => drop(std::os::unix::net::UnixDatagram::unbound()),
            "kill" => drop(process::test_kill_process(process::getpid())),
            "fork" => drop(std::thread::spawn(|| ()).join()),
            name => panic!("{name}?"),
        }
    }

    #[test]
    fn a_call_off_the_list_ends_the_process() {
        if let Ok(name) = std::env::var(VARIABLE) {
            limit_calls().unwrap();
            call(&name);
            std::process::exit(7);
        }
        for allowed in ["clock", "socket"] {
            assert_eq!(after(allowed).code(), Some(7), "{allowed}");
        }
        for name in ["open", "stat", "run", "unix", "kill", "fork"] {
            assert_eq!(after(name).signal(), Some(libc::SIGSYS), "{name}");
        }
    }
}
