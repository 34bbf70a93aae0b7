//! A task's root file system: what containerd's snapshotter says to mount, at the
//! bundle's `rootfs`, as every shim does.

use crate::error::ShimError;
use containerd_shim_protos::api::Mount;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// The most that mount(2) takes of options.
const MAX_OPTIONS: usize = 4095;

/// Where it is mounted.
pub fn path(bundle: &Path) -> PathBuf {
    bundle.join("rootfs")
}

/// Mounts it; nothing to mount is a directory that somebody has filled.
pub fn mount(bundle: &Path, mounts: &[Mount]) -> Result<(), ShimError> {
    let target = path(bundle);
    std::fs::create_dir_all(&target).map_err(ShimError::path("make directory", &target))?;
    for one in mounts {
        if let Err(error) = mount_one(one, &target) {
            let _ = unmount(bundle);
            return Err(error);
        }
    }
    Ok(())
}

fn mount_one(mount: &Mount, target: &Path) -> Result<(), ShimError> {
    let (flags, options) = options(&mount.options);
    if options.len() > MAX_OPTIONS {
        return Err(ShimError::Refused {
            field: "rootfs.options".to_owned(),
            why: "more than a page of mount options: the image has too many layers",
        });
    }
    let invalid = |_| ShimError::Invalid {
        field: "rootfs.options",
        why: "a zero byte in it".to_owned(),
    };
    let options = CString::new(options).map_err(invalid)?;
    let error = ShimError::path::<Errno>("mount the root file system at", target);
    let kind = match mount.type_.as_str() {
        "bind" | "" => "none",
        kind => kind,
    };
    rustix::mount::mount(&*mount.source, target, kind, flags, options.as_c_str()).map_err(error)?;
    // The kernel heeds no other flag when it binds.
    if flags.contains(MountFlags::BIND) && flags.contains(MountFlags::RDONLY) {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        let remounted = rustix::mount::mount_remount(target, flags, "");
        remounted.map_err(ShimError::path("protect", target))?;
    }
    Ok(())
}

/// Options of a mount: those that are flags, and what goes to the file system.
fn options(all: &[String]) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut others = Vec::new();
    for option in all {
        flags |= match option.as_str() {
            "ro" => MountFlags::RDONLY,
            "bind" => MountFlags::BIND,
            "rbind" => MountFlags::BIND | MountFlags::REC,
            "nosuid" => MountFlags::NOSUID,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "noatime" => MountFlags::NOATIME,
            "nodiratime" => MountFlags::NODIRATIME,
            "relatime" => MountFlags::RELATIME,
            "sync" => MountFlags::SYNCHRONOUS,
            "rw" | "defaults" | "suid" | "dev" | "exec" | "async" => MountFlags::empty(),
            other => {
                others.push(other);
                MountFlags::empty()
            }
        };
    }
    (flags, others.join(","))
}

/// Unmounts all that is mounted there; nothing is no error.
pub fn unmount(bundle: &Path) -> Result<(), ShimError> {
    let target = path(bundle);
    loop {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        match rustix::mount::unmount(&target, flags) {
            Ok(()) => {}
            // Not a mount (any more).
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(ShimError::path("unmount", target)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_from_what_the_file_system_is_told() {
        let all = ["index=off", "ro", "lowerdir=/a:/b", "rbind"].map(str::to_owned);
        let (flags, rest) = options(&all);
        let bind = MountFlags::BIND | MountFlags::REC;
        assert_eq!(flags, bind | MountFlags::RDONLY);
        assert_eq!(rest, "index=off,lowerdir=/a:/b");
    }
}
