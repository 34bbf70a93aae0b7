//! Open files: their content.

use super::Server;
use super::attributes::clear_set_id;
use super::names::open_flags;
use crate::table::Handle;
use crate::wire::abi;
use crate::wire::{MAX_DATA, Output, Request};
use rustix::fs::{FallocateFlags, FileType, OFlags, SeekFrom};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, BorrowedFd};

/// `lseek`'s names for data and holes on the wire.
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

impl Server {
    pub(super) fn open(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_open_in = request.arguments.take()?;
        let number = request.header.nodeid;
        let flags = open_flags(asked.flags);
        if flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
            self.writable()?;
        }
        if self.node(number)?.kind == FileType::Directory {
            return Err(Errno::ISDIR);
        }
        self.table.room()?;
        let fd = self.reopen(number, flags)?;
        let is_directory = false;
        // What was only read has nothing to say when it is closed.
        let open_flags = match flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
            true => 0,
            false => abi::FOPEN_NOFLUSH,
        };
        self.put_handle(Handle { fd, is_directory }, open_flags, output)
    }

    pub(super) fn put_handle(
        &mut self,
        handle: Handle,
        open_flags: u32,
        output: &mut Output,
    ) -> Result<(), Errno> {
        output.put(&abi::fuse_open_out {
            fh: self.table.open(handle)?,
            open_flags,
            ..abi::fuse_open_out::default()
        });
        Ok(())
    }

    fn file(&self, handle: u64) -> Result<BorrowedFd<'_>, Errno> {
        let handle = self.table.handle(handle)?;
        if handle.is_directory {
            return Err(Errno::ISDIR);
        }
        Ok(handle.fd.as_fd())
    }

    pub(super) fn read(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_read_in = request.arguments.take()?;
        let file = self.file(asked.fh)?;
        let most = asked.size as usize;
        if most > MAX_DATA {
            return Err(Errno::INVAL);
        }
        // Less than was asked for is the end of the file to the driver.
        output.fill(most, |buffer| {
            let mut filled = 0;
            while filled < buffer.len() {
                let at = asked.offset.checked_add(filled as u64);
                let at = at.ok_or(Errno::INVAL)?;
                match rustix::io::pread(file, &mut buffer[filled..], at) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(Errno::INTR) => {}
                    Err(_) if filled > 0 => break,
                    Err(errno) => return Err(errno),
                }
            }
            Ok(filled)
        })
    }

    pub(super) fn write(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_write_in = request.arguments.take()?;
        let data = request.arguments.data(asked.size)?;
        self.writable()?;
        let file = self.file(asked.fh)?;
        if asked.write_flags & abi::FUSE_WRITE_KILL_SUIDGID != 0 {
            clear_set_id(file, |mode| rustix::fs::fchmod(file, mode))?;
        }
        let mut written = 0;
        while written < data.len() {
            let at = asked.offset.checked_add(written as u64);
            match rustix::io::pwrite(file, &data[written..], at.ok_or(Errno::FBIG)?) {
                Ok(0) => break,
                Ok(more) => written += more,
                Err(Errno::INTR) => {}
                Err(_) if written > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        output.put(&abi::fuse_write_out {
            size: u32::try_from(written).unwrap_or(u32::MAX),
            padding: 0,
        });
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        mut request: Request<'_>,
        _: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_release_in = request.arguments.take()?;
        self.table.close(asked.fh)
    }

    /// What closing reports (a full quota, a server that is gone), reported
    /// while somebody can still be told.
    pub(super) fn flush(&mut self, mut request: Request<'_>, _: &mut Output) -> Result<(), Errno> {
        let asked: abi::fuse_flush_in = request.arguments.take()?;
        let copy = rustix::io::dup(self.file(asked.fh)?)?;
        crate::sys::close(copy)
    }

    pub(super) fn sync(&mut self, mut request: Request<'_>, _: &mut Output) -> Result<(), Errno> {
        let asked: abi::fuse_fsync_in = request.arguments.take()?;
        let handle = self.table.handle(asked.fh)?;
        if asked.fsync_flags & abi::FUSE_FSYNC_FDATASYNC != 0 {
            rustix::fs::fdatasync(&handle.fd)
        } else {
            rustix::fs::fsync(&handle.fd)
        }
    }

    pub(super) fn allocate(
        &mut self,
        mut request: Request<'_>,
        _: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_fallocate_in = request.arguments.take()?;
        self.writable()?;
        let flags = FallocateFlags::from_bits_retain(asked.mode);
        let known =
            FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        if !known.contains(flags) {
            return Err(Errno::OPNOTSUPP);
        }
        rustix::fs::fallocate(self.file(asked.fh)?, flags, asked.offset, asked.length)
    }

    pub(super) fn seek(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_lseek_in = request.arguments.take()?;
        // The driver does all others itself.
        let to = match asked.whence {
            SEEK_DATA => SeekFrom::Data(asked.offset),
            SEEK_HOLE => SeekFrom::Hole(asked.offset),
            _ => return Err(Errno::INVAL),
        };
        if asked.offset > i64::MAX.cast_unsigned() {
            return Err(Errno::NXIO);
        }
        let offset = rustix::fs::seek(self.file(asked.fh)?, to)?;
        output.put(&abi::fuse_lseek_out { offset });
        Ok(())
    }
}
