//! Directories: listed.

use super::{FILE_NAME, Server};
use crate::table::Handle;
use crate::wire::abi;
use crate::wire::{MAX_DATA, Output, Request};
use rustix::fs::{FileType, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// Bytes of `fuse_dirent` before the name.
const ENTRY: usize = size_of::<abi::fuse_dirent>();

impl Server {
    pub(super) fn open_directory(
        &mut self,
        request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let number = request.header.nodeid;
        self.table.room()?;
        let fd = if self.is_stage(number) {
            rustix::io::fcntl_dupfd_cloexec(&self.table.node(number)?.fd, 0)?
        } else {
            self.directory(number)?;
            self.reopen(number, OFlags::RDONLY | OFlags::DIRECTORY)?
        };
        let is_directory = true;
        self.put_handle(Handle { fd, is_directory }, 0, output)
    }

    pub(super) fn read_directory(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: abi::fuse_read_in = request.arguments.take()?;
        let most = (asked.size as usize).min(MAX_DATA);
        let handle = self.table.handle(asked.fh)?;
        if !handle.is_directory {
            return Err(Errno::NOTDIR);
        }
        if self.view.single_file {
            if asked.offset == 0 {
                add(output, most, (1, 1), FILE_NAME, FileType::RegularFile);
            }
            return Ok(());
        }
        // Every answer says where it stopped, and the next request where to go
        // on: what the buffer holds beyond that is read again.
        if asked.offset > i64::MAX.cast_unsigned() {
            return Err(Errno::INVAL);
        }
        rustix::fs::seek(&handle.fd, SeekFrom::Start(asked.offset))?;
        let mut buffer = vec![MaybeUninit::uninit(); most.max(512)];
        let mut entries = RawDir::new(&handle.fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(_) if !output.is_empty() => break,
                Err(errno) => return Err(errno),
            };
            let place = (entry.ino(), entry.next_entry_cookie());
            if !add(output, most, place, entry.file_name(), entry.file_type()) {
                break;
            }
        }
        Ok(())
    }
}

/// Adds an entry if it fits into `most` bytes.
fn add(
    output: &mut Output,
    most: usize,
    (ino, off): (u64, u64),
    name: &CStr,
    kind: FileType,
) -> bool {
    let name = name.to_bytes();
    let padded = (ENTRY + name.len()).next_multiple_of(8);
    if output.len() + padded > most {
        return false;
    }
    output.put(&abi::fuse_dirent {
        ino,
        off,
        namelen: u32::try_from(name.len()).unwrap_or(0),
        // The wire has what `readdir` has: the mode's type, shifted.
        type_: kind.as_raw_mode() >> 12,
        ..abi::fuse_dirent::default()
    });
    output.bytes(name);
    output.bytes(&[0; 8][..padded - ENTRY - name.len()]);
    true
}
