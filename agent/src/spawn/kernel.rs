//! The kernel's own file systems in a container: /proc, /sys and cgroups, with
//! the parts hidden or protected that runc hides and protects by default.

use super::error::{Context, HelperError};
use super::resolve::{Boundary, existing, real_directory};
use super::root::{cover, mount_of, new_context};
use crate::sys::spawn::make_read_only;
use beluga_proto::container::CoveredPaths;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const NO_PROGRAMS: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Hidden below /proc: state of the whole machine, or keys. Not `interrupts`,
/// which newer lists have: here they are the pod's own.
const HIDDEN_PROC: &[&str] = &[
    "acpi",
    "asound",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "scsi",
];

/// Hidden below /sys: firmware, and power meters that leak secrets.
const HIDDEN_SYS: &[&str] = &["firmware", "devices/virtual/powercap"];

/// Write-protected below /proc: what changes the machine.
const PROTECTED_PROC: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Rights over the machine that a container has.
#[derive(Debug, Clone, Copy)]
pub struct Exposure {
    /// Everything writable.
    pub privileged: bool,
    /// Hide and protect parts.
    pub mask: bool,
}

/// Mounts /proc, /sys and /sys/fs/cgroup into a root.
pub fn mount(root: &OwnedFd, null: &OwnedFd, exposure: Exposure) -> Result<(), HelperError> {
    let proc = place(root, c"proc", "/proc", NO_PROGRAMS)?;
    let read_only = if exposure.privileged {
        MountAttrFlags::empty()
    } else {
        MountAttrFlags::MOUNT_ATTR_RDONLY
    };
    let sys = place(root, c"sysfs", "/sys", NO_PROGRAMS | read_only)?;
    if exposure.mask {
        for path in HIDDEN_SYS {
            hide(inside(&sys, path)?, path, null)?;
        }
    }
    place(root, c"cgroup2", "/sys/fs/cgroup", NO_PROGRAMS | read_only)?;
    if exposure.mask {
        for path in HIDDEN_PROC {
            hide(inside(&proc, path)?, path, null)?;
        }
        for path in PROTECTED_PROC {
            protect(inside(&proc, path)?, path)?;
        }
    }
    Ok(())
}

/// Covers paths of a root that is complete.
pub fn cover_paths(
    root: &OwnedFd,
    covered: &CoveredPaths,
    null: &OwnedFd,
) -> Result<(), HelperError> {
    let find = |path: &str| {
        let found = existing(root, path, OFlags::PATH, Boundary::Root);
        found.to_with("open for masking", path)
    };
    for path in &covered.hidden {
        hide(find(path)?, path, null)?;
    }
    for path in &covered.protected {
        protect(find(path)?, path)?;
    }
    Ok(())
}

/// Mounts a file system of the kernel at a path that no link may stand for.
fn place(
    root: &OwnedFd,
    kind: &CStr,
    path: &str,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, HelperError> {
    let target = real_directory(root, path).to_with("mount", path)?;
    let context = new_context(kind)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", kind).to_with("name", path)?;
    rustix::mount::fsconfig_create(context.as_fd()).to_with("make", path)?;
    let mount = mount_of(&context, attributes)?;
    cover(&mount, &target).to_with("mount", path)?;
    Ok(mount)
}

/// What is at a path of a file system that was just mounted, if anything; no
/// link is followed and no other mount is entered.
fn inside(mount: &OwnedFd, path: &str) -> Result<Option<OwnedFd>, HelperError> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(mount, path, flags, Mode::empty(), resolve) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno).to_with("open for masking", path),
    }
}

/// Covers a file with /dev/null, a directory with an empty one.
fn hide(target: Option<OwnedFd>, path: &str, null: &OwnedFd) -> Result<(), HelperError> {
    let Some(target) = target else {
        return Ok(());
    };
    let stat = rustix::fs::fstat(&target).to_with("look at", path)?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    let mask = if kind == rustix::fs::FileType::Directory {
        let context = new_context(c"tmpfs")?;
        rustix::mount::fsconfig_create(context.as_fd()).to_with("make a mask for", path)?;
        mount_of(&context, NO_PROGRAMS | MountAttrFlags::MOUNT_ATTR_RDONLY)?
    } else {
        clone_mount(null.as_fd()).to_with("make a mask for", path)?
    };
    cover(&mask, &target).to_with("mask", path)
}

/// Puts a read-only view of a file or directory on top of itself.
fn protect(target: Option<OwnedFd>, path: &str) -> Result<(), HelperError> {
    let Some(target) = target else {
        return Ok(());
    };
    let copy = clone_mount(target.as_fd()).to_with("copy the mount of", path)?;
    make_read_only(copy.as_fd(), true).to_with("protect", path)?;
    cover(&copy, &target).to_with("protect", path)
}

/// A mount, nowhere yet, of what a descriptor refers to and what is below.
pub fn clone_mount(of: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::mount::open_tree(
        of,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE,
    )
}
