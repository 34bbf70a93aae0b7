//! What the process may do once it serves.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// What serving other users' files takes: giving files their owners
/// (`CHOWN`, `SETUID`, `SETGID`), reaching and changing them whatever their
/// permissions, which the guest's kernel has checked (`DAC_OVERRIDE`,
/// `FOWNER`), and keeping the set-group-ID bit where it says so (`FSETID`).
/// Not `MKNOD`: a device node made by a guest would be the host's device.
pub const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// How many users the host's own namespace has.
const ALL_USERS: &str = "4294967295";

/// Most descriptors that are asked for. Each file that a guest knows is one,
/// and keeps about 1.5 KiB of the host's kernel, which the pod's cgroup pays.
const DESCRIPTORS: u64 = 64 + (1 << 16);

/// Whether files can be made in other users' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// With [`KEPT`].
    Privileged,
    /// All files are this process's own user's.
    Plain,
}

/// Raises the number of open descriptors as far as it goes; the number.
#[must_use]
pub fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => limit.current.unwrap_or(wanted),
    };
    usize::try_from(now).unwrap_or(usize::MAX)
}

/// What the process can have: in a namespace of users that knows a few only, root is
/// an ordinary user. Asked before the process has shut itself in.
#[must_use]
pub fn possible() -> Rights {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let knows_all = map.split_whitespace().nth(2) == Some(ALL_USERS);
    match rustix::process::geteuid().is_root() && knows_all {
        true => Rights::Privileged,
        false => Rights::Plain,
    }
}

/// Gives up for good every right but [`KEPT`], or but none where it can have none.
pub fn drop_all_others(possible: Rights) -> Result<Rights, Errno> {
    rustix::process::umask(rustix::fs::Mode::empty());
    rustix::thread::set_no_new_privs(true)?;
    let kept = match possible {
        Rights::Privileged => KEPT,
        Rights::Plain => CapabilitySet::empty(),
    };
    let held = rustix::thread::capabilities(None)?.permitted;
    if !held.contains(kept) {
        return Err(Errno::PERM);
    }
    if possible == Rights::Privileged {
        rustix::thread::set_thread_groups(&[])?;
    }
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if CapabilitySet::all().contains(one) && !kept.contains(one) {
            match rustix::thread::remove_capability_from_bounding_set(one) {
                // A kernel older than the capability, or one without the right
                // to shrink the set: nothing is executed any more anyway.
                Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(possible)
}
