//! Requests carried out.
//!
//! Every file that the guest has heard of is a [`crate::table::Node`] with a
//! descriptor open by `O_PATH`. A name is always one component, resolved below
//! such a descriptor by [`Server::child`], the only place where a name of the
//! guest meets the host's tree: links are returned, never followed, and `..` is
//! no name. What a node is opened for goes through its descriptor, not through
//! a path, so that nothing can be exchanged between look and use.

mod attributes;
mod directories;
mod files;
mod names;
#[cfg(test)]
mod tests;
mod xattr;

use crate::options::View;
use crate::rights::Rights;
use crate::table::{Node, ROOT, Table};
use crate::wire::abi::{self, fuse_init_in, fuse_init_out, fuse_opcode as op};
use crate::wire::{MAX_DATA, Output, Request};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

/// Name of a file that is shared alone.
pub const FILE_NAME: &CStr = c"file";

/// Version of the protocol that is spoken: 7.35. The driver uses what both know.
const MINOR: u32 = 35;

/// What is asked of the driver. Nothing is kept longer than it takes: another
/// pod, or the host, may write to the same directory (`AUTO_INVAL_DATA`, and
/// attributes and names that are valid for no time). Locks are the guest's own
/// business (no `POSIX_LOCKS`). `HANDLE_KILLPRIV_V2`: the server clears the
/// set-user-ID bit where the driver says so, which spares it a question before
/// each write.
const FLAGS: u32 = abi::FUSE_ASYNC_READ
    | abi::FUSE_BIG_WRITES
    | abi::FUSE_AUTO_INVAL_DATA
    | abi::FUSE_PARALLEL_DIROPS
    | abi::FUSE_MAX_PAGES
    | abi::FUSE_HANDLE_KILLPRIV_V2;

/// Serves one directory.
#[derive(Debug)]
pub struct Server {
    table: Table,
    view: View,
    rights: Rights,
    /// `/proc/self/fd`: through which an `O_PATH` descriptor is opened.
    own_fds: OwnedFd,
    /// File system of the root: files of others get other inode numbers.
    device: u64,
    /// Whether the driver has begun a session.
    has_begun: bool,
}

impl Server {
    /// A server of `root`, which is open with `O_PATH`, with up to
    /// `descriptors` open files. Errors when the root is not of the kind that
    /// the view says.
    pub fn new(root: OwnedFd, view: View, descriptors: usize) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(&root)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if !view.single_file => {}
            FileType::RegularFile if view.single_file => {}
            _ => return Err(Errno::NOTDIR),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            table: Table::new(root, &stat, view.single_file, descriptors),
            view,
            rights: Rights::Plain,
            own_fds: rustix::fs::open("/proc/self/fd", flags, Mode::empty())?,
            device: stat.st_dev,
            has_begun: false,
        })
    }

    /// The same with these rights.
    #[must_use]
    pub fn with_rights(mut self, rights: Rights) -> Self {
        self.rights = rights;
        self
    }

    /// Carries one request out; whether there is an answer to send.
    pub fn serve(&mut self, packet: &[u8], output: &mut Output) -> bool {
        let Some((request, fits)) = Request::parse(packet) else {
            return false;
        };
        output.begin();
        let opcode = request.header.opcode;
        let result = if !fits {
            Err(Errno::INVAL)
        } else if is(opcode, op::FUSE_FORGET) || is(opcode, op::FUSE_BATCH_FORGET) {
            // Nobody waits for an answer to these, not even for an error.
            let _ = self.forget(request);
            return false;
        } else if is(opcode, op::FUSE_INTERRUPT) {
            // What it would interrupt has been answered: one at a time.
            return false;
        } else if is(opcode, op::FUSE_INIT) {
            self.init(request, output)
        } else if !self.has_begun {
            Err(Errno::IO)
        } else {
            self.dispatch(request, output)
        };
        output.finish(request.header.unique, result);
        true
    }

    /// Everything that has an answer.
    fn dispatch(&mut self, request: Request<'_>, output: &mut Output) -> Result<(), Errno> {
        let opcode = request.header.opcode;
        for (known, carry_out) in OPERATIONS {
            if is(opcode, *known) {
                return carry_out(self, request, output);
            }
        }
        // The driver does without, and does not ask again.
        Err(Errno::NOSYS)
    }

    fn init(&mut self, mut request: Request<'_>, output: &mut Output) -> Result<(), Errno> {
        let asked: fuse_init_in = request.arguments.take()?;
        if asked.major != abi::FUSE_KERNEL_VERSION {
            return Err(Errno::PROTO);
        }
        self.table.clear();
        self.has_begun = true;
        output.put(&fuse_init_out {
            major: abi::FUSE_KERNEL_VERSION,
            minor: MINOR,
            max_readahead: asked.max_readahead,
            flags: asked.flags & FLAGS,
            max_background: 16,
            congestion_threshold: 12,
            max_write: u32::try_from(MAX_DATA).unwrap_or(u32::MAX),
            time_gran: 1,
            max_pages: u16::try_from(MAX_DATA / 4096).unwrap_or(u16::MAX),
            ..fuse_init_out::default()
        });
        Ok(())
    }

    fn destroy(&mut self, _: Request<'_>, _: &mut Output) -> Result<(), Errno> {
        self.table.clear();
        self.has_begun = false;
        Ok(())
    }

    fn forget(&mut self, mut request: Request<'_>) -> Result<(), Errno> {
        let arguments = &mut request.arguments;
        if is(request.header.opcode, op::FUSE_FORGET) {
            let one: abi::fuse_forget_in = arguments.take()?;
            self.table.forget(request.header.nodeid, one.nlookup);
            return Ok(());
        }
        let batch: abi::fuse_batch_forget_in = arguments.take()?;
        for _ in 0..batch.count {
            let one: abi::fuse_forget_one = arguments.take()?;
            self.table.forget(one.nodeid, one.nlookup);
        }
        Ok(())
    }

    /// A node of the shared tree.
    fn node(&self, number: u64) -> Result<&Node, Errno> {
        if self.is_stage(number) {
            return Err(Errno::ACCESS);
        }
        self.table.node(number)
    }

    /// Whether the number is that of the directory that only holds a single file.
    fn is_stage(&self, number: u64) -> bool {
        self.view.single_file && number == ROOT
    }

    /// A directory in which something is to be looked up.
    fn directory(&self, number: u64) -> Result<BorrowedFd<'_>, Errno> {
        let node = self.node(number)?;
        match node.kind {
            FileType::Directory => Ok(node.fd.as_fd()),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// A directory that is to be changed.
    fn writable_directory(&self, number: u64) -> Result<BorrowedFd<'_>, Errno> {
        self.writable()?;
        if self.is_stage(number) {
            return Err(Errno::ROFS);
        }
        self.directory(number)
    }

    fn writable(&self) -> Result<(), Errno> {
        if self.view.read_only {
            Err(Errno::ROFS)
        } else {
            Ok(())
        }
    }

    /// What lies under one name in a directory: a link itself, not its target.
    fn child(&self, parent: u64, name: &CStr) -> Result<OwnedFd, Errno> {
        if self.is_stage(parent) {
            return if name == FILE_NAME {
                Ok(rustix::io::fcntl_dupfd_cloexec(
                    &self.table.node(ROOT)?.fd,
                    0,
                )?)
            } else {
                Err(Errno::NOENT)
            };
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The kernel's own word that no name leads elsewhere, beside ours.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(self.directory(parent)?, name, flags, Mode::empty(), resolve)
    }

    /// Opens a node for reading or writing. Only a regular file or a directory:
    /// opening anything else can block or act.
    fn reopen(&self, number: u64, flags: OFlags) -> Result<OwnedFd, Errno> {
        let node = self.node(number)?;
        match node.kind {
            FileType::RegularFile | FileType::Directory => {}
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::ACCESS),
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        rustix::fs::openat(&self.own_fds, own_name(&node.fd), flags, Mode::empty())
    }

    /// Attributes as the protocol has them.
    fn attributes(&self, stat: &Stat) -> abi::fuse_attr {
        // Numbers of another file system below the root could be those of this.
        let other = stat.st_dev ^ self.device;
        let seconds = |value: i64| value.cast_unsigned();
        let nanos = |value: u64| u32::try_from(value).unwrap_or_default();
        abi::fuse_attr {
            ino: stat.st_ino ^ other.rotate_left(32),
            size: stat.st_size.cast_unsigned(),
            blocks: stat.st_blocks.cast_unsigned(),
            atime: seconds(stat.st_atime),
            mtime: seconds(stat.st_mtime),
            ctime: seconds(stat.st_ctime),
            atimensec: nanos(stat.st_atime_nsec),
            mtimensec: nanos(stat.st_mtime_nsec),
            ctimensec: nanos(stat.st_ctime_nsec),
            mode: stat.st_mode,
            nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: device_number(stat.st_rdev),
            blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
            flags: 0,
        }
    }
}

type Operation = fn(&mut Server, Request<'_>, &mut Output) -> Result<(), Errno>;

/// What is answered, the frequent first.
const OPERATIONS: &[(op, Operation)] = &[
    (op::FUSE_LOOKUP, Server::lookup),
    (op::FUSE_GETATTR, Server::get_attributes),
    (op::FUSE_READ, Server::read),
    (op::FUSE_WRITE, Server::write),
    (op::FUSE_OPEN, Server::open),
    (op::FUSE_RELEASE, Server::release),
    (op::FUSE_FLUSH, Server::flush),
    (op::FUSE_CREATE, Server::create),
    (op::FUSE_GETXATTR, Server::get_xattr),
    (op::FUSE_READDIR, Server::read_directory),
    (op::FUSE_OPENDIR, Server::open_directory),
    (op::FUSE_RELEASEDIR, Server::release),
    (op::FUSE_SETATTR, Server::set_attributes),
    (op::FUSE_READLINK, Server::read_link),
    (op::FUSE_SYMLINK, Server::symlink),
    (op::FUSE_MKNOD, Server::make_node),
    (op::FUSE_MKDIR, Server::make_directory),
    (op::FUSE_UNLINK, Server::unlink),
    (op::FUSE_RMDIR, Server::remove_directory),
    (op::FUSE_RENAME, Server::rename),
    (op::FUSE_RENAME2, Server::rename_with),
    (op::FUSE_LINK, Server::link),
    (op::FUSE_STATFS, Server::stat_file_system),
    (op::FUSE_FSYNC, Server::sync),
    (op::FUSE_FSYNCDIR, Server::sync),
    (op::FUSE_SETXATTR, Server::set_xattr),
    (op::FUSE_LISTXATTR, Server::list_xattr),
    (op::FUSE_REMOVEXATTR, Server::remove_xattr),
    (op::FUSE_FALLOCATE, Server::allocate),
    (op::FUSE_LSEEK, Server::seek),
    (op::FUSE_DESTROY, Server::destroy),
];

fn is(opcode: u32, known: op) -> bool {
    opcode == known as u32
}

/// A descriptor's name in `/proc/self/fd`.
fn own_name(fd: &OwnedFd) -> String {
    fd.as_raw_fd().to_string()
}

/// As `new_encode_dev` of the kernel has it.
fn device_number(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
