//! Project quotas: a directory tree with a size limit.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::Ioctl = 0x401c_5820;
const FS_XFLAG_PROJINHERIT: u32 = 0x200;
const PRJQUOTA: u32 = 2;
const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
const QIF_BLIMITS: u32 = 1;
/// Unit of the kernel's block limits in bytes.
const QUOTA_BLOCK: u64 = 1024;

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct FsXattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `struct if_dqblk` of linux/quota.h.
#[repr(C)]
#[derive(Default)]
struct Limits {
    bhardlimit: u64,
    bsoftlimit: u64,
    curspace: u64,
    ihardlimit: u64,
    isoftlimit: u64,
    curinodes: u64,
    btime: u64,
    itime: u64,
    valid: u32,
}

fn command(call: u32) -> u32 {
    (call << 8) | PRJQUOTA
}

fn quotactl(file: impl AsFd, call: u32, project: u32, limits: &mut Limits) -> io::Result<()> {
    // SAFETY: the kernel reads or writes one `if_dqblk`, which `limits` is.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            file.as_fd().as_raw_fd(),
            command(call),
            project,
            std::ptr::from_mut(limits),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Puts a directory, and all that will be made below it, into a project.
pub fn set_project(directory: impl AsFd, project: u32) -> io::Result<()> {
    let fd = directory.as_fd().as_raw_fd();
    let mut attributes = FsXattr::default();
    // SAFETY: the kernel writes one `fsxattr`.
    super::check(unsafe { libc::ioctl(fd, FS_IOC_FSGETXATTR, &raw mut attributes) })?;
    attributes.projid = project;
    attributes.xflags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: the kernel reads one `fsxattr`.
    super::check(unsafe { libc::ioctl(fd, FS_IOC_FSSETXATTR, &raw const attributes) }).map(|_| ())
}

/// Limits a project of the file system that holds `file` to a number of bytes.
pub fn set_limit(file: impl AsFd, project: u32, bytes: u64) -> io::Result<()> {
    let blocks = bytes.div_ceil(QUOTA_BLOCK);
    let mut limits = Limits {
        bhardlimit: blocks,
        bsoftlimit: blocks,
        valid: QIF_BLIMITS,
        ..Limits::default()
    };
    quotactl(file, Q_SETQUOTA, project, &mut limits)
}

/// Bytes that a project uses.
pub fn usage(file: impl AsFd, project: u32) -> io::Result<u64> {
    let mut limits = Limits::default();
    quotactl(file, Q_GETQUOTA, project, &mut limits)?;
    Ok(limits.curspace)
}
