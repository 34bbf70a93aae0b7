//! A container's /dev: its own tmpfs with the handful of harmless devices, its
//! own pseudo-terminals, and the pod's shared memory and message queues.

use super::error::{Context, HelperError};
use super::kernel::clone_mount;
use super::plan::DeviceNode;
use super::resolve::{Boundary, components, directory, real_directory};
use super::root::{cover, mount_of, new_context};
use super::user::Identity;
use crate::sys::bpf::Disk;
use rustix::fs::{CWD, Dev, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::os::fd::{AsFd, OwnedFd};

/// Name, major and minor number.
const DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// The pod's, of which every container sees the same one.
const SHARED: &[&str] = &["shm", "mqueue"];

/// What a privileged container does not get from the guest's /dev: it has its
/// own, or it is a directory of other kernel file systems.
const NOT_COPIED: &[&str] = &["pts", "ptmx", "shm", "mqueue", "console", "fd"];

/// Deepest directory of the guest's /dev that is looked into.
const DEEPEST: usize = 4;

/// Loop devices of a privileged container.
const LOOP_DEVICES: u32 = 8;
const LOOP_MAJOR: u32 = 7;

const NOSUID_NOEXEC: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A container's /dev.
pub struct Devices {
    /// The directory.
    pub directory: OwnedFd,
    /// Its own /dev/null, held from its making: a mask for files.
    pub null: OwnedFd,
    /// Its devpts.
    pub terminals: OwnedFd,
}

/// Mounts /dev into a root. The umask must be 0.
pub fn mount(root: &OwnedFd, privileged: bool) -> Result<Devices, HelperError> {
    let target = real_directory(root, "/dev").to("mount /dev")?;
    let directory = file_system(
        c"tmpfs",
        &[("source", "tmpfs"), ("mode", "0755"), ("size", "64m")],
        MountAttrFlags::MOUNT_ATTR_NOSUID,
    )?;
    cover(&directory, &target).to("mount /dev")?;
    for &(name, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        make_device(&directory, name, FileType::CharacterDevice, 0o666, device)
            .to_with("make device", name)?;
    }
    for &(name, to) in LINKS {
        rustix::fs::symlinkat(to, &directory, name).to_with("make the link in /dev:", name)?;
    }
    if privileged {
        let guest = open_directory(CWD, "/dev").to("open the guest's devices")?;
        copy_devices(&guest, &directory, 0)?;
        make_loop_devices(&directory)?;
    }
    let terminals = file_system(
        c"devpts",
        &[
            ("source", "devpts"),
            ("ptmxmode", "0666"),
            ("mode", "0620"),
            ("gid", "5"),
        ],
        NOSUID_NOEXEC,
    )?;
    let place = real_directory(&directory, "pts").to("mount /dev/pts")?;
    cover(&terminals, &place).to("mount /dev/pts")?;
    for name in SHARED {
        share(&directory, name)?;
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = rustix::fs::openat(&directory, "null", flags, Mode::empty()).to("open /dev/null")?;
    Ok(Devices {
        directory,
        null,
        terminals,
    })
}

fn file_system(
    kind: &std::ffi::CStr,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, HelperError> {
    let context = new_context(kind)?;
    for &(key, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value)
            .to_with("set a mount option:", key)?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).to("make a file system for /dev")?;
    mount_of(&context, attributes)
}

fn make_device(
    directory: &OwnedFd,
    name: &str,
    kind: FileType,
    mode: u32,
    device: Dev,
) -> Result<(), Errno> {
    rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(mode), device)
}

/// The kernel makes loop devices when they are asked for, but their files only
/// in the guest's own /dev: a privileged container has its files beforehand.
fn make_loop_devices(directory: &OwnedFd) -> Result<(), HelperError> {
    if rustix::fs::statat(directory, "loop-control", rustix::fs::AtFlags::empty()).is_err() {
        return Ok(());
    }
    for number in 0..LOOP_DEVICES {
        let name = format!("loop{number}");
        let device = rustix::fs::makedev(LOOP_MAJOR, number);
        match make_device(directory, &name, FileType::BlockDevice, 0o660, device) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).to_with("make device", &name),
        }
    }
    Ok(())
}

/// Makes the nodes of the container's own disks, which its user may use; what
/// the device filter has to let pass.
pub fn make_disks(
    root: &OwnedFd,
    disks: &[DeviceNode],
    owner: &Identity,
) -> Result<Vec<Disk>, HelperError> {
    let mut made = Vec::with_capacity(disks.len());
    for disk in disks {
        let place = disk.destination.as_str();
        let stat = rustix::fs::stat(disk.source.as_str()).to_with("look at", &disk.source)?;
        let mut parts = components(place);
        let Some(name) = parts.pop() else {
            return Err(HelperError::Invalid {
                what: format!("{place:?} is no place for a device"),
            });
        };
        let parent = directory(root, &parts.join("/"), Mode::from(0o755), Boundary::Root)
            .to_with("make the directory of", place)?;
        let mode = if disk.read_only { 0o440 } else { 0o660 };
        make_device(&parent, name, FileType::BlockDevice, mode, stat.st_rdev)
            .to_with("make device", place)?;
        let (user, group) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&parent, name, Some(user), Some(group), flags)
            .to_with("own device", place)?;
        made.push(Disk {
            major: rustix::fs::major(stat.st_rdev).cast_signed(),
            minor: rustix::fs::minor(stat.st_rdev).cast_signed(),
            read_only: disk.read_only,
        });
    }
    Ok(made)
}

/// Mounts a directory of the pod's /dev. A guest kernel without message queues
/// has no such directory, and then containers have none either.
fn share(devices: &OwnedFd, name: &str) -> Result<(), HelperError> {
    let source = match open_directory(CWD, &format!("/dev/{name}")) {
        Ok(source) => source,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno).to_with("open in the pod's /dev:", name),
    };
    let place = real_directory(devices, name).to_with("mount in /dev:", name)?;
    let mount = clone_mount(source.as_fd()).to_with("copy the mount in /dev:", name)?;
    cover(&mount, &place).to_with("mount in /dev:", name)
}

/// Makes every device of one directory in another, and goes down.
fn copy_devices(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<(), HelperError> {
    let readable = rustix::fs::openat(
        from,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .to("read the guest's devices")?;
    let entries = rustix::fs::Dir::read_from(&readable).to("read the guest's devices")?;
    for entry in entries {
        let entry = entry.to("read the guest's devices")?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if matches!(name, "." | "..") || (depth == 0 && NOT_COPIED.contains(&name)) {
            continue;
        }
        copy_device(from, to, name, depth)?;
    }
    Ok(())
}

fn copy_device(from: &OwnedFd, to: &OwnedFd, name: &str, depth: usize) -> Result<(), HelperError> {
    let stat = match rustix::fs::statat(from, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        // Devices come and go.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno).to_with("look at device", name),
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::CharacterDevice | FileType::BlockDevice => {
            match make_device(to, name, kind, stat.st_mode & 0o7777, stat.st_rdev) {
                // The handful above.
                Err(Errno::EXIST) => return Ok(()),
                result => result.to_with("make device", name)?,
            }
            let owner = Some(Uid::from_raw(stat.st_uid));
            let group = Some(Gid::from_raw(stat.st_gid));
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(to, name, owner, group, flags).to_with("own device", name)
        }
        FileType::Directory if depth < DEEPEST => {
            let below = open_directory(from, name).to_with("open device directory", name)?;
            let made = real_directory(to, name).to_with("make device directory", name)?;
            copy_devices(&below, &made, depth + 1)
        }
        _ => Ok(()),
    }
}

fn open_directory(at: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}
