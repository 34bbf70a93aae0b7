//! The system calls that are left when the first request is read.
//!
//! What a guest sends can make the process do what it serves, and nothing else:
//! another call ends it by SIGSYS.

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Why the process has no filter.
#[derive(Debug, thiserror::Error)]
pub enum CallsError {
    /// The list makes no filter.
    #[error("the list of system calls makes no filter")]
    Compile(#[from] BackendError),
    /// The kernel refuses it.
    #[error("the kernel does not take the filter")]
    Install(#[from] seccompiler::Error),
}

/// Whatever their arguments.
const ALLOWED: &[libc::c_long] = &[
    // The VMM's requests, and the answers.
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    // Names: below the directory alone, by openat2 and Landlock.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fcntl,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    // Attributes.
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_fstatfs,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_fgetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fremovexattr,
    // Content.
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    // In whose name.
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_geteuid,
    libc::SYS_umask,
    // Memory, the seed of tables, the log, the end and its reasons.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_write,
    libc::SYS_clock_gettime,
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

/// No mapping is ever code.
const WITHOUT_CODE: [libc::c_long; 2] = [libc::SYS_mmap, libc::SYS_mprotect];
/// Which of their arguments says so.
const PROTECTION: u8 = 2;

/// From now on this thread, the only one, makes these calls and no others. Call
/// after new privileges have been given up.
pub fn limit() -> Result<(), CallsError> {
    Ok(seccompiler::apply_filter(&program()?)?)
}

fn program() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<_, _> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    for call in WITHOUT_CODE {
        let code = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
        let length = SeccompCmpArgLen::Dword;
        let condition = SeccompCondition::new(PROTECTION, length, code, 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![condition])?]);
    }
    let (others, these) = (SeccompAction::KillProcess, SeccompAction::Allow);
    SeccompFilter::new(rules, others, these, TargetArch::x86_64)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    const VARIABLE: &str = "BELUGA_SHARE_TEST_CALL";

    /// What the test below does in a process of its own.
    #[test]
    fn one_call() {
        let Ok(number) = std::env::var(VARIABLE) else {
            return;
        };
        rustix::thread::set_no_new_privs(true).expect("given up");
        limit().expect("limited");
        crate::sys::call_with_zeros(number.parse().expect("a number"));
        std::process::exit(7);
    }

    fn after(number: libc::c_long) -> ExitStatus {
        let program = std::env::current_exe().expect("this one");
        let mut child = Command::new(program);
        child.args(["--exact", "calls::tests::one_call", "--test-threads=1"]);
        child.env(VARIABLE, number.to_string());
        child.output().expect("it runs").status
    }

    #[test]
    fn a_call_off_the_list_ends_the_process() {
        for allowed in [libc::SYS_getdents64, libc::SYS_fsync, libc::SYS_openat2] {
            assert_eq!(after(allowed).code(), Some(7), "{allowed}");
        }
        for number in [
            libc::SYS_execve,
            libc::SYS_socket,
            libc::SYS_clone,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_setuid,
            libc::SYS_unshare,
            libc::SYS_open_by_handle_at,
            libc::SYS_io_uring_setup,
        ] {
            assert_eq!(after(number).signal(), Some(libc::SIGSYS), "{number}");
        }
    }
}
