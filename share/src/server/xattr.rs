//! Extended attributes: those of users, and no others.
//!
//! `security.*` would give rights on the host (file capabilities), `trusted.*`
//! is the host administrator's, `system.*` are access lists that the guest's
//! kernel does not know to keep.

use super::Server;
use crate::wire::abi;
use crate::wire::{MAX_DATA, Output, Request};
use rustix::fs::{FileType, OFlags, XattrFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Largest value or list in bytes (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX_XATTR: usize = 64 << 10;
const _: () = assert!(MAX_XATTR <= MAX_DATA, "an answer holds it");

/// Bytes of the arguments of SETXATTR without `FUSE_SETXATTR_EXT`.
type SetXattr = [u32; 2];

fn is_users(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"user.")
}

impl Server {
    /// Only files and directories have attributes of users.
    fn open_for_xattr(&self, number: u64, missing: Errno) -> Result<OwnedFd, Errno> {
        if self.is_stage(number) {
            return Err(missing);
        }
        match self.node(number)?.kind {
            FileType::RegularFile | FileType::Directory => self.reopen(number, OFlags::RDONLY),
            _ => Err(missing),
        }
    }

    pub(super) fn get_xattr(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_getxattr_in = request.arguments.take()?;
        let name = request.arguments.text()?;
        // Asked for at every execution (security.capability): quickly, then.
        if !is_users(name) {
            return Err(Errno::NODATA);
        }
        let file = self.open_for_xattr(request.header.nodeid, Errno::NODATA)?;
        put(asked.size, output, |buffer| {
            rustix::fs::fgetxattr(&file, name, buffer)
        })
    }

    pub(super) fn list_xattr(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_getxattr_in = request.arguments.take()?;
        let mut all = vec![0; MAX_XATTR];
        let length = match self.open_for_xattr(request.header.nodeid, Errno::NODATA) {
            Ok(file) => rustix::fs::flistxattr(&file, &mut all[..])?,
            Err(Errno::NODATA) => 0,
            Err(errno) => return Err(errno),
        };
        let names = all[..length].split_inclusive(|byte| *byte == 0);
        let shown: Vec<u8> = names
            .filter(|name| name.starts_with(b"user."))
            .flatten()
            .copied()
            .collect();
        put(asked.size, output, |buffer| {
            if buffer.is_empty() {
                return Ok(shown.len());
            }
            let place = buffer.get_mut(..shown.len()).ok_or(Errno::RANGE)?;
            place.copy_from_slice(&shown);
            Ok(shown.len())
        })
    }

    pub(super) fn set_xattr(
        &mut self,
        mut request: Request<'_>,
        _: &mut Output,
    ) -> Result<(), Errno> {
        let [size, flags]: SetXattr = request.arguments.take()?;
        let name = request.arguments.text()?;
        let value = request.arguments.data(size)?;
        self.writable()?;
        if !is_users(name) {
            return Err(Errno::OPNOTSUPP);
        }
        if value.len() > MAX_XATTR {
            return Err(Errno::TOOBIG);
        }
        let file = self.open_for_xattr(request.header.nodeid, Errno::PERM)?;
        rustix::fs::fsetxattr(&file, name, value, XattrFlags::from_bits_retain(flags))
    }

    pub(super) fn remove_xattr(
        &mut self,
        mut request: Request<'_>,
        _: &mut Output,
    ) -> Result<(), Errno> {
        let name = request.arguments.text()?;
        self.writable()?;
        if !is_users(name) {
            return Err(Errno::OPNOTSUPP);
        }
        let file = self.open_for_xattr(request.header.nodeid, Errno::NODATA)?;
        rustix::fs::fremovexattr(&file, name)
    }
}

/// Answers with bytes, or with their number when nothing is to be filled.
fn put(
    size: u32,
    output: &mut Output,
    get: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    if size == 0 {
        let size = u32::try_from(get(&mut [])?).unwrap_or(u32::MAX);
        output.put(&abi::fuse_getxattr_out { size, padding: 0 });
        return Ok(());
    }
    output.fill((size as usize).min(MAX_XATTR), get)
}
