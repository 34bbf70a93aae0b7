//! The default profile: which verdict each number gets.

use super::bpf::{Verdict, add, begin, finish};
use super::table::{self, Calls, Group};
use crate::sys::spawn::Instruction;
use rustix::thread::CapabilitySet;

/// `AUDIT_ARCH_X86_64` of linux/audit.h.
pub const X86_64: u32 = 0xc000_003e;
/// `AUDIT_ARCH_I386` of linux/audit.h.
pub const I386: u32 = 0x4000_0003;
/// Numbers of the x32 interface start here; the guest's kernel has none.
const X32: u32 = 0x4000_0000;

const EPERM: u16 = libc::EPERM as u16;
const ENOSYS: u16 = libc::ENOSYS as u16;

/// `CLONE_NEW*` but for the time namespace, which clone does not know.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// What personality may be: Linux, with or without the two harmless flags of
/// old programs (UNAME26, no randomisation is not among them), or a query.
const PERSONALITIES: &[u32] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Puts files into another quota project, or takes them out of theirs by
/// clearing the inheriting flag: on x86-64 and for 32-bit callers.
const QUOTA_IOCTLS: &[u32] = &[0x401c_5820, 0x4008_6602, 0x4004_6602];

/// The way to the host: the agent's alone. `socketcall` of i386 keeps its
/// arguments in memory, out of a filter's sight; there the nonces must do.
const VSOCK: &[u32] = &[libc::AF_VSOCK as u32];

/// What one architecture calls the calls with conditions.
struct Numbers {
    clone: u32,
    clone3: u32,
    ioctl: u32,
    personality: u32,
    socket: u32,
    /// Numbers that stand for no call, first and last of each run.
    unassigned: &'static [(u32, u32)],
}

const ON_X86_64: Numbers = Numbers {
    clone: 56,
    clone3: 435,
    ioctl: 16,
    personality: 135,
    socket: 41,
    unassigned: &[(335, 423)],
};

const ON_I386: Numbers = Numbers {
    clone: 120,
    clone3: 435,
    ioctl: 54,
    personality: 136,
    socket: 359,
    unassigned: &[(222, 223), (251, 251), (285, 285), (387, 392), (415, 415)],
};

/// What each capability adds.
static BY_CAPABILITY: [(CapabilitySet, &Group); 14] = [
    (CapabilitySet::DAC_READ_SEARCH, &table::DAC_READ_SEARCH),
    (CapabilitySet::SYS_ADMIN, &table::SYS_ADMIN),
    (CapabilitySet::SYS_BOOT, &table::SYS_BOOT),
    (CapabilitySet::SYS_CHROOT, &table::SYS_CHROOT),
    (CapabilitySet::SYS_MODULE, &table::SYS_MODULE),
    (CapabilitySet::SYS_PACCT, &table::SYS_PACCT),
    (CapabilitySet::SYS_PTRACE, &table::SYS_PTRACE),
    (CapabilitySet::SYS_RAWIO, &table::SYS_RAWIO),
    (CapabilitySet::SYS_TIME, &table::SYS_TIME),
    (CapabilitySet::SYS_TTY_CONFIG, &table::SYS_TTY_CONFIG),
    (CapabilitySet::SYS_NICE, &table::SYS_NICE),
    (CapabilitySet::SYSLOG, &table::SYSLOG),
    (CapabilitySet::BPF, &table::BPF),
    (CapabilitySet::PERFMON, &table::PERFMON),
];

/// The filter of a process with these capabilities.
pub fn default_profile(capabilities: CapabilitySet) -> Vec<Instruction> {
    let mut x86_64 = table::ALWAYS.x86_64;
    let mut i386 = table::ALWAYS.i386;
    x86_64.add(&table::OBSOLETE.x86_64);
    i386.add(&table::OBSOLETE.i386);
    for (capability, group) in &BY_CAPABILITY {
        if capabilities.contains(*capability) {
            x86_64.add(&group.x86_64);
            i386.add(&group.i386);
        }
    }
    let admin = capabilities.contains(CapabilitySet::SYS_ADMIN);
    let mut program = begin();
    add(&mut program, X86_64, &ranges(x86_64, &ON_X86_64, admin));
    add(&mut program, I386, &ranges(i386, &ON_I386, admin));
    finish(&mut program);
    program
}

/// The verdicts on all numbers, ascending, equal neighbours joined.
fn ranges(mut allowed: Calls, numbers: &Numbers, admin: bool) -> Vec<(u32, Verdict)> {
    let last = allowed.last();
    // What the kernel does not have it refuses itself, and better: by ENOSYS.
    // Every gap less is a comparison less.
    for run in numbers.unassigned {
        allowed.add_range(*run);
    }
    let mut special = numbers.verdicts(admin);
    special.sort_unstable_by_key(|entry| entry.0);
    let mut special = special.into_iter().peekable();
    let mut ranges: Vec<(u32, Verdict)> = Vec::with_capacity(160);
    let mut at = 0;
    while at <= last {
        let (verdict, next) = match special.next_if(|entry| entry.0 == at) {
            Some((_, verdict)) => (verdict, at + 1),
            None => {
                let allow = allowed.contains(at);
                let next = allowed.next(at, !allow).unwrap_or(Calls::END);
                let next = special.peek().map_or(next, |entry| next.min(entry.0));
                let deny = Verdict::Errno(EPERM);
                (if allow { Verdict::Allow } else { deny }, next)
            }
        };
        if ranges.last().is_none_or(|(_, before)| *before != verdict) {
            ranges.push((at, verdict));
        }
        at = next;
    }
    ranges.push((last + 1, Verdict::Errno(ENOSYS)));
    ranges.push((X32, Verdict::Kill));
    ranges
}

impl Numbers {
    /// What becomes of the calls with conditions.
    fn verdicts(&self, admin: bool) -> [(u32, Verdict); 5] {
        let (clone, clone3) = if admin {
            (Verdict::Allow, Verdict::Allow)
        } else {
            // The flags of clone3 lie in memory, where a filter cannot look: C
            // libraries fall back to clone when the kernel does not know it.
            (Verdict::NoBitOf(NAMESPACES), Verdict::Errno(ENOSYS))
        };
        [
            (self.clone, clone),
            (self.clone3, clone3),
            (self.ioctl, Verdict::NoneOf(1, QUOTA_IOCTLS)),
            (self.personality, Verdict::OneOf(PERSONALITIES)),
            (self.socket, Verdict::NoneOf(0, VSOCK)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::bpf::judge;
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const DENY: u32 = libc::SECCOMP_RET_ERRNO | EPERM as u32;
    const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | ENOSYS as u32;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

    fn plain() -> Vec<Instruction> {
        default_profile(CapabilitySet::CHOWN)
    }

    fn with_args(first: u64, second: u64) -> [u64; 6] {
        [first, second, 0, 0, 0, 0]
    }

    #[test]
    fn every_listed_call_is_allowed_and_every_other_one_is_not() {
        let filter = plain();
        let (always, obsolete) = (&table::ALWAYS, &table::OBSOLETE);
        for (architecture, calls, obsolete, numbers) in [
            (X86_64, always.x86_64, obsolete.x86_64, ON_X86_64),
            (I386, always.i386, obsolete.i386, ON_I386),
        ] {
            let special = [
                numbers.clone,
                numbers.clone3,
                numbers.ioctl,
                numbers.personality,
                numbers.socket,
            ];
            let group = |number| calls.contains(number) || obsolete.contains(number);
            let unassigned = |number| {
                let within = |run: &(u32, u32)| (run.0..=run.1).contains(&number);
                numbers.unassigned.iter().any(within)
            };
            for number in (0..Calls::END).filter(|number| !special.contains(number)) {
                let found = judge(&filter, architecture, number, [0; 6]);
                if group(number) || unassigned(number) {
                    assert_eq!(found, ALLOW, "{architecture:#x} {number}");
                } else {
                    assert!(
                        matches!(found, DENY | UNKNOWN),
                        "{architecture:#x} {number}"
                    );
                }
            }
        }
    }

    #[test]
    fn numbers_agree_with_the_c_library() {
        let known = [
            ("read", libc::SYS_read),
            ("statx", libc::SYS_statx),
            ("futex_waitv", libc::SYS_futex_waitv),
            ("openat2", libc::SYS_openat2),
            ("seccomp", libc::SYS_seccomp),
        ];
        for (name, number) in known {
            let found = table::ALWAYS
                .names
                .iter()
                .find(|entry| entry.0 == name)
                .unwrap();
            assert_eq!(found.1.map(i64::from), Some(number), "{name}");
        }
    }

    #[test]
    fn what_opens_the_kernel_is_denied() {
        let filter = plain();
        for number in [
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_open_by_handle_at,
            libc::SYS_perf_event_open,
            libc::SYS_reboot,
            libc::SYS_move_mount,
            libc::SYS_swapon,
        ] {
            assert_eq!(
                judge(&filter, X86_64, number as u32, [0; 6]),
                DENY,
                "{number}"
            );
        }
        assert_eq!(judge(&filter, X86_64, 500, [0; 6]), UNKNOWN);
        assert_eq!(judge(&filter, X86_64, X32 + 1, [0; 6]), KILL);
        assert_eq!(judge(&filter, 0xc000_00b7, 0, [0; 6]), KILL);
    }

    #[test]
    fn capabilities_widen_the_list() {
        let filter = default_profile(CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_CHROOT);
        for number in [
            libc::SYS_mount,
            libc::SYS_clone3,
            libc::SYS_chroot,
            libc::SYS_setns,
        ] {
            assert_eq!(
                judge(&filter, X86_64, number as u32, [0; 6]),
                ALLOW,
                "{number}"
            );
        }
        assert_eq!(
            judge(&filter, X86_64, libc::SYS_reboot as u32, [0; 6]),
            DENY
        );
    }

    #[test]
    fn clone_makes_threads_but_no_namespaces() {
        let filter = plain();
        let clone =
            |flags: libc::c_int| judge(&filter, X86_64, 56, with_args(u64::from(flags as u32), 0));
        assert_eq!(
            clone(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND),
            ALLOW
        );
        assert_eq!(clone(libc::CLONE_NEWUSER), DENY);
        assert_eq!(clone(libc::CLONE_VM | libc::CLONE_NEWNET), DENY);
        assert_eq!(judge(&filter, X86_64, 435, [0; 6]), UNKNOWN);
        assert_eq!(judge(&filter, I386, 120, with_args(0x1000_0000, 0)), DENY);
    }

    #[test]
    fn arguments_are_looked_at_without_their_noise() {
        let filter = plain();
        let call = |number: i64, first, second| {
            judge(&filter, X86_64, number as u32, with_args(first, second))
        };
        assert_eq!(call(libc::SYS_ioctl, 1, 0x401c_5820), DENY);
        assert_eq!(call(libc::SYS_ioctl, 1, 0xdead_beef_401c_5820), DENY);
        assert_eq!(call(libc::SYS_ioctl, 1, 0x4008_6602), DENY);
        assert_eq!(call(libc::SYS_ioctl, 1, 0x5401), ALLOW);
        assert_eq!(call(libc::SYS_socket, 40, 1), DENY);
        assert_eq!(call(libc::SYS_socket, 0x1_0000_0028, 1), DENY);
        assert_eq!(call(libc::SYS_socket, 2, 1), ALLOW);
        assert_eq!(call(libc::SYS_personality, 0xffff_ffff, 0), ALLOW);
        assert_eq!(call(libc::SYS_personality, 0x40000, 0), DENY);
    }

    #[test]
    fn every_combination_of_capabilities_gives_a_small_filter() {
        for combination in 0..1u32 << BY_CAPABILITY.len() {
            let capabilities = BY_CAPABILITY
                .iter()
                .enumerate()
                .filter(|(number, _)| combination & (1 << number) != 0)
                .fold(CapabilitySet::empty(), |set, (_, entry)| set | entry.0);
            let filter = default_profile(capabilities);
            assert!(filter.len() < 400, "{capabilities:?}: {}", filter.len());
        }
    }
}
