//! Names: found, made, moved, removed.

use super::{Server, own_name};
use crate::caller::Caller;
use crate::table::Handle;
use crate::wire::abi::{self, fuse_entry_out};
use crate::wire::{Output, Request};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Bits of a mode that a file may be made with.
const PERMISSIONS: u32 = 0o7777;

/// Flags of an open that concern the host: how data is written. Where the
/// guest's own cache is bypassed, ours need not be.
const OPEN_FLAGS: OFlags = OFlags::RDWR
    .union(OFlags::WRONLY)
    .union(OFlags::APPEND)
    .union(OFlags::SYNC)
    .union(OFlags::DSYNC);

impl Server {
    pub(super) fn lookup(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let name = request.arguments.name()?;
        self.put_entry(request.header.nodeid, name, output)
    }

    /// Looks a name up and tells what it is: the answer to everything that
    /// makes one.
    fn put_entry(&mut self, parent: u64, name: &CStr, output: &mut Output) -> Result<(), Errno> {
        let found = self.child(parent, name)?;
        self.put_found(found, output)
    }

    fn put_found(&mut self, found: OwnedFd, output: &mut Output) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(&found)?;
        let nodeid = self.table.intern(found, &stat)?;
        output.put(&fuse_entry_out {
            nodeid,
            attr: self.attributes(&stat),
            ..fuse_entry_out::default()
        });
        Ok(())
    }

    fn caller(&self, request: &Request<'_>) -> Result<Caller, Errno> {
        Caller::become_other(self.rights, request.header.uid, request.header.gid)
    }

    pub(super) fn read_link(
        &mut self,
        request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let node = self.node(request.header.nodeid)?;
        if node.kind != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        let target = rustix::fs::readlinkat(&node.fd, c"", Vec::new())?;
        output.bytes(target.as_bytes());
        Ok(())
    }

    pub(super) fn symlink(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let name = request.arguments.name()?;
        let target = request.arguments.text()?;
        let parent = request.header.nodeid;
        let directory = self.writable_directory(parent)?;
        let caller = self.caller(&request)?;
        rustix::fs::symlinkat(target, directory, name)?;
        drop(caller);
        self.put_entry(parent, name, output)
    }

    /// Regular files, FIFOs and sockets. A device node that a guest made would
    /// be a device of the host to whoever opens it there.
    pub(super) fn make_node(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_mknod_in = request.arguments.take()?;
        let name = request.arguments.name()?;
        let parent = request.header.nodeid;
        let directory = self.writable_directory(parent)?;
        let kind = match FileType::from_raw_mode(asked.mode) {
            FileType::Unknown if asked.mode & !PERMISSIONS == 0 => FileType::RegularFile,
            kind @ (FileType::RegularFile | FileType::Fifo | FileType::Socket) => kind,
            _ => return Err(Errno::PERM),
        };
        let mode = Mode::from_raw_mode(asked.mode & PERMISSIONS);
        let caller = self.caller(&request)?;
        rustix::fs::mknodat(directory, name, kind, mode, 0)?;
        drop(caller);
        self.put_entry(parent, name, output)
    }

    pub(super) fn make_directory(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_mkdir_in = request.arguments.take()?;
        let name = request.arguments.name()?;
        let parent = request.header.nodeid;
        let directory = self.writable_directory(parent)?;
        let caller = self.caller(&request)?;
        let mode = Mode::from_raw_mode(asked.mode & PERMISSIONS);
        rustix::fs::mkdirat(directory, name, mode)?;
        drop(caller);
        self.put_entry(parent, name, output)
    }

    /// Makes a regular file and opens it.
    pub(super) fn create(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_create_in = request.arguments.take()?;
        let name = request.arguments.name()?;
        let parent = request.header.nodeid;
        let asked_flags = OFlags::from_bits_retain(asked.flags);
        self.table.room()?;
        let flags = open_flags(asked.flags);
        let made = self.make_file(&request, name, flags, asked.mode);
        let fd = match made {
            // Somebody else, on the host perhaps, was faster.
            Err(Errno::EXIST) if !asked_flags.contains(OFlags::EXCL) => None,
            made => Some(made?),
        };
        let start = output.len();
        self.put_entry(parent, name, output)?;
        debug_assert_eq!(output.len(), start + size_of::<fuse_entry_out>());
        let fd = match fd {
            Some(fd) => fd,
            None => {
                let found = self.child(parent, name)?;
                self.open_found(&found, flags | (asked_flags & OFlags::TRUNC))?
            }
        };
        let is_directory = false;
        self.put_handle(Handle { fd, is_directory }, 0, output)
    }

    fn make_file(
        &self,
        request: &Request<'_>,
        name: &CStr,
        flags: OFlags,
        mode: u32,
    ) -> Result<OwnedFd, Errno> {
        let directory = self.writable_directory(request.header.nodeid)?;
        let _caller = self.caller(request)?;
        rustix::fs::openat2(
            directory,
            name,
            flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::from_raw_mode(mode & PERMISSIONS),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    }

    /// Opens what [`Server::child`] found, if it is a regular file.
    fn open_found(&self, found: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        let stat = rustix::fs::fstat(found)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::EXIST);
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(&self.own_fds, own_name(found), flags, Mode::empty())
    }

    pub(super) fn unlink(&mut self, request: Request<'_>, _: &mut Output) -> Result<(), Errno> {
        self.remove(request, AtFlags::empty())
    }

    pub(super) fn remove_directory(
        &mut self,
        request: Request<'_>,
        _: &mut Output,
    ) -> Result<(), Errno> {
        self.remove(request, AtFlags::REMOVEDIR)
    }

    fn remove(&mut self, mut request: Request<'_>, flags: AtFlags) -> Result<(), Errno> {
        let name = request.arguments.name()?;
        let directory = self.writable_directory(request.header.nodeid)?;
        rustix::fs::unlinkat(directory, name, flags)
    }

    pub(super) fn rename(&mut self, mut request: Request<'_>, _: &mut Output) -> Result<(), Errno> {
        let to: abi::fuse_rename_in = request.arguments.take()?;
        self.move_name(request, to.newdir, RenameFlags::empty())
    }

    pub(super) fn rename_with(
        &mut self,
        mut request: Request<'_>,
        _: &mut Output,
    ) -> Result<(), Errno> {
        let to: abi::fuse_rename2_in = request.arguments.take()?;
        let flags = RenameFlags::from_bits_retain(to.flags);
        // A whiteout is a device node.
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL);
        }
        self.move_name(request, to.newdir, flags)
    }

    fn move_name(
        &mut self,
        mut request: Request<'_>,
        to: u64,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let old = request.arguments.name()?;
        let new = request.arguments.name()?;
        let from = self.writable_directory(request.header.nodeid)?;
        let to = self.writable_directory(to)?;
        rustix::fs::renameat_with(from, old, to, new, flags)
    }

    pub(super) fn link(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_link_in = request.arguments.take()?;
        let name = request.arguments.name()?;
        let parent = request.header.nodeid;
        let directory = self.writable_directory(parent)?;
        let node = self.node(asked.oldnodeid)?;
        // Through /proc: by the descriptor itself it would take another right.
        let own = own_name(&node.fd);
        let follow = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(&self.own_fds, own, directory, name, follow)?;
        self.put_entry(parent, name, output)
    }
}

/// The flags of the guest's open that are ours as well. Never `O_CREAT`.
pub(super) fn open_flags(asked: u32) -> OFlags {
    OFlags::from_bits_retain(asked) & OPEN_FLAGS
}
