//! Making files in the name of whoever asks in the guest.

use crate::rights::{KEPT, Rights};
use crate::sys;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// While it lives, what this thread makes belongs to somebody else.
#[derive(Debug)]
pub struct Caller {
    is_other: bool,
}

impl Caller {
    /// Acts as `uid` and `gid` from now on. Errors for numbers that are
    /// nobody's.
    pub fn become_other(rights: Rights, uid: u32, gid: u32) -> Result<Self, Errno> {
        if rights == Rights::Plain || (uid, gid) == (0, 0) {
            return Ok(Self { is_other: false });
        }
        let caller = Self { is_other: true };
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::INVAL);
        }
        if !sys::set_fs_gid(gid) || !sys::set_fs_uid(uid) {
            return Err(Errno::PERM);
        }
        // With another user the kernel takes the capabilities for files away.
        // The guest's kernel has decided already, with groups that are not
        // known here.
        let sets = CapabilitySets {
            effective: KEPT,
            permitted: KEPT,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, sets)?;
        Ok(caller)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if self.is_other {
            // In one's own name again; both are this process's own numbers.
            let is_back = sys::set_fs_uid(0) & sys::set_fs_gid(0);
            if !is_back {
                // What came next would be done as somebody else.
                eprintln!("beluga-share: cannot act as root any more");
                std::process::abort();
            }
        }
    }
}
