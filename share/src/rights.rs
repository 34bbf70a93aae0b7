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

/// Gives up for good every right but [`KEPT`], or but none where the process
/// is not root.
pub fn drop_all_others() -> Result<Rights, Errno> {
    rustix::process::umask(rustix::fs::Mode::empty());
    rustix::thread::set_no_new_privs(true)?;
    if !rustix::process::geteuid().is_root() {
        return Ok(Rights::Plain);
    }
    let held = rustix::thread::capabilities(None)?.permitted;
    if !held.contains(KEPT) {
        return Err(Errno::PERM);
    }
    rustix::thread::set_thread_groups(&[])?;
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if CapabilitySet::all().contains(one) && !KEPT.contains(one) {
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
            effective: KEPT,
            permitted: KEPT,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(Rights::Privileged)
}
