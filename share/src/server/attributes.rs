//! What a file is: looked at and changed.

use super::{Server, own_name};
use crate::table::ROOT;
use crate::wire::abi::{self, fuse_attr_out, fuse_setattr_in};
use crate::wire::{Output, Request};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
};
use rustix::io::Errno;
use std::os::fd::AsFd;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o010;

impl Server {
    pub(super) fn get_attributes(
        &mut self,
        request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        self.put_attributes(request.header.nodeid, output)
    }

    fn put_attributes(&self, number: u64, output: &mut Output) -> Result<(), Errno> {
        output.put(&fuse_attr_out {
            attr: self.attributes(&self.stat(number)?),
            ..fuse_attr_out::default()
        });
        Ok(())
    }

    fn stat(&self, number: u64) -> Result<Stat, Errno> {
        if !self.is_stage(number) {
            return rustix::fs::fstat(&self.node(number)?.fd);
        }
        // The directory that holds a single file is not on the host. It takes
        // its times and its file system from the file.
        let mut stat = rustix::fs::fstat(&self.table.node(ROOT)?.fd)?;
        stat.st_ino = u64::MAX;
        stat.st_mode = FileType::Directory.as_raw_mode() | 0o555;
        stat.st_nlink = 2;
        (stat.st_uid, stat.st_gid) = (0, 0);
        (stat.st_size, stat.st_blocks) = (0, 0);
        Ok(stat)
    }

    pub(super) fn set_attributes(
        &mut self,
        mut request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let asked: fuse_setattr_in = request.arguments.take()?;
        let number = request.header.nodeid;
        let wants = |bits: u32| asked.valid & bits != 0;
        self.writable()?;
        let node = self.node(number)?;
        if wants(abi::FATTR_MODE) {
            // A link has no mode of its own; through it nothing is changed.
            if node.kind == FileType::Symlink {
                return Err(Errno::OPNOTSUPP);
            }
            let mode = Mode::from_raw_mode(asked.mode & 0o7777);
            rustix::fs::chmodat(&self.own_fds, own_name(&node.fd), mode, AtFlags::empty())?;
        }
        if wants(abi::FATTR_UID | abi::FATTR_GID) {
            // All ones is "leave it" to the system call.
            let owner = (wants(abi::FATTR_UID) && asked.uid != u32::MAX).then_some(asked.uid);
            let group = (wants(abi::FATTR_GID) && asked.gid != u32::MAX).then_some(asked.gid);
            let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
            rustix::fs::chownat(&node.fd, c"", owner, group, AtFlags::EMPTY_PATH)?;
        }
        if wants(abi::FATTR_SIZE) {
            self.truncate(number, &asked)?;
        }
        if wants(abi::FATTR_ATIME | abi::FATTR_MTIME) {
            let times = times(&asked);
            rustix::fs::utimensat(&node.fd, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        self.put_attributes(number, output)
    }

    fn truncate(&self, number: u64, asked: &fuse_setattr_in) -> Result<(), Errno> {
        let node = self.node(number)?;
        if node.kind != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        if asked.valid & abi::FATTR_KILL_SUIDGID != 0 {
            clear_set_id(&node.fd, |mode| {
                rustix::fs::chmodat(&self.own_fds, own_name(&node.fd), mode, AtFlags::empty())
            })?;
        }
        if asked.valid & abi::FATTR_FH != 0 {
            let handle = self.table.handle(asked.fh)?;
            return rustix::fs::ftruncate(&handle.fd, asked.size);
        }
        let file = self.reopen(number, OFlags::WRONLY)?;
        rustix::fs::ftruncate(&file, asked.size)
    }

    pub(super) fn stat_file_system(
        &mut self,
        request: Request<'_>,
        output: &mut Output,
    ) -> Result<(), Errno> {
        let node = self.table.node(request.header.nodeid)?;
        let found = rustix::fs::fstatvfs(&node.fd)?;
        let short = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        output.put(&abi::fuse_statfs_out {
            st: abi::fuse_kstatfs {
                blocks: found.f_blocks,
                bfree: found.f_bfree,
                bavail: found.f_bavail,
                files: found.f_files,
                ffree: found.f_ffree,
                bsize: short(found.f_bsize),
                namelen: short(found.f_namemax),
                frsize: short(found.f_frsize),
                ..abi::fuse_kstatfs::default()
            },
        });
        Ok(())
    }
}

/// Takes the bits away that a write by somebody without rights takes away.
pub(super) fn clear_set_id(
    file: impl AsFd,
    set: impl FnOnce(Mode) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mode = rustix::fs::fstat(file)?.st_mode;
    let mut kept = mode & !SET_UID;
    // Without execution by the group the bit once meant something else.
    if mode & GROUP_EXECUTES != 0 {
        kept &= !SET_GID;
    }
    if kept == mode {
        return Ok(());
    }
    set(Mode::from_raw_mode(kept & 0o7777))
}

fn times(asked: &fuse_setattr_in) -> Timestamps {
    let time = |set: u32, now: u32, seconds: u64, nanos: u32| {
        let (tv_sec, tv_nsec) = if asked.valid & set == 0 {
            (0, UTIME_OMIT)
        } else if asked.valid & now != 0 {
            (0, UTIME_NOW)
        } else {
            (seconds.cast_signed(), i64::from(nanos.min(999_999_999)))
        };
        Timespec { tv_sec, tv_nsec }
    };
    Timestamps {
        last_access: time(
            abi::FATTR_ATIME,
            abi::FATTR_ATIME_NOW,
            asked.atime,
            asked.atimensec,
        ),
        last_modification: time(
            abi::FATTR_MTIME,
            abi::FATTR_MTIME_NOW,
            asked.mtime,
            asked.mtimensec,
        ),
    }
}
