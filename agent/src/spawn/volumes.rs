//! Volumes and the agent's files in a container's root.

use super::error::{Context, HelperError};
use super::kernel::clone_mount;
use super::plan::{FileMount, VolumeMount};
use super::resolve::{Boundary, components, directory, existing, file};
use super::root::cover;
use crate::sys::spawn::{make_read_only, make_slave};
use beluga_proto::container::Propagation;
use rustix::fs::{FileType, Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};

/// `PROC_SUPER_MAGIC` of linux/magic.h.
const PROC_MAGIC: i64 = 0x9fa0;

/// Copies of the volumes below which mounts pass between containers, taken while
/// this namespace's mounts still belong to the agent's.
pub fn passing(volumes: &[VolumeMount]) -> Result<Vec<Option<OwnedFd>>, HelperError> {
    let copies = volumes.iter().map(|volume| {
        if volume.propagation.is_none() {
            return Ok(None);
        }
        let place = &volume.destination;
        let mount = clone_mount(source(volume)?.as_fd()).to_with("copy the mount for", place)?;
        if volume.propagation == Propagation::HostToContainer {
            make_slave(mount.as_fd()).to_with("let mounts pass to", place)?;
        }
        Ok(Some(mount))
    });
    copies.collect()
}

/// Mounts the volumes, in the plan's order; of some there is a copy already.
pub fn mount_volumes(
    root: &OwnedFd,
    volumes: &[VolumeMount],
    passing: Vec<Option<OwnedFd>>,
) -> Result<(), HelperError> {
    for (volume, copy) in volumes.iter().zip(passing) {
        match copy {
            Some(mount) => put(root, &mount, &volume.destination, volume.read_only)?,
            None => place(
                root,
                &source(volume)?,
                &volume.destination,
                volume.read_only,
            )?,
        }
    }
    Ok(())
}

/// Mounts the agent's files where no volume is mounted.
pub fn mount_files(
    root: &OwnedFd,
    files: &[FileMount],
    volumes: &[VolumeMount],
    read_only: bool,
) -> Result<(), HelperError> {
    for file in files {
        let place_of_file = components(&file.destination);
        let covered = volumes
            .iter()
            .any(|volume| components(&volume.destination) == place_of_file);
        if covered {
            continue;
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let source = rustix::fs::open(file.source.as_str(), flags, Mode::empty())
            .to_with("open", &file.source)?;
        place(root, &source, &file.destination, read_only)?;
    }
    Ok(())
}

/// Makes the file for a run's last message, and mounts it: writable for every
/// user, even where the root is read-only.
pub fn mount_termination_log(
    root: &OwnedFd,
    directory: &str,
    path: &str,
) -> Result<(), HelperError> {
    let file = crate::termination::file(directory);
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::open(file.as_str(), flags, Mode::from_raw_mode(0o666))
        .to_with("make", &file)?;
    place(root, &source, path, false)
}

/// The volume's directory, or what its sub-path leads to.
fn source(volume: &VolumeMount) -> Result<OwnedFd, HelperError> {
    // A file of the host is a volume too.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = rustix::fs::open(volume.source.as_str(), flags, Mode::empty())
        .to_with("open volume", &volume.source)?;
    let Some(path) = volume.sub_path.as_deref() else {
        return Ok(top);
    };
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(HelperError::Invalid {
            what: format!("subPath {path:?} must be relative and without \"..\""),
        });
    }
    if let Some(found) =
        existing(&top, path, OFlags::PATH, Boundary::Fence).to_with("find subPath", path)?
    {
        return Ok(found);
    }
    // Who may write to the volume may write to its parts.
    let stat = rustix::fs::fstat(&top).to_with("look at volume", &volume.source)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
    directory(&top, path, mode, Boundary::Fence).to_with("make subPath", path)
}

/// Mounts what a descriptor refers to at a path of the root, made when missing.
fn place(
    root: &OwnedFd,
    source: &OwnedFd,
    destination: &str,
    read_only: bool,
) -> Result<(), HelperError> {
    let mount = clone_mount(source.as_fd()).to_with("copy the mount for", destination)?;
    put(root, &mount, destination, read_only)
}

/// Attaches a mount at a path of the root, made when missing.
fn put(
    root: &OwnedFd,
    mount: &OwnedFd,
    destination: &str,
    read_only: bool,
) -> Result<(), HelperError> {
    if components(destination).is_empty() {
        return Err(HelperError::Invalid {
            what: format!("nothing can be mounted at {destination:?}, the root itself"),
        });
    }
    let stat = rustix::fs::fstat(mount).to_with("look at the source of", destination)?;
    let target = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        directory(root, destination, Mode::from(0o755), Boundary::Root)
    } else {
        file(root, destination)
    }
    .to_with("make the mount point", destination)?;
    // A link of the image or of another volume must not lead a mount into
    // /proc, where it would forge what programs take for the kernel's word.
    let place = rustix::fs::fstatfs(&target).to_with("look at", destination)?;
    if place.f_type == PROC_MAGIC {
        return Err(HelperError::Invalid {
            what: format!("nothing can be mounted at {destination:?}: it lies in /proc"),
        });
    }
    if read_only {
        make_read_only(mount.as_fd(), true).to_with("protect", destination)?;
    }
    cover(mount, &target).to_with("mount a volume at", destination)
}
