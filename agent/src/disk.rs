//! Volumes that are disks of their own and outlive the pod.

use rustix::fs::{AtFlags, CWD, Gid};
use rustix::mount::{MountFlags, mount};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What a group that owns a volume may do with its files, and with its
/// directories besides: `rwMask`, and `execMask` with setgid, of
/// pkg/volume/volume_linux.go.
const GROUP_FILE: u32 = 0o660;
const GROUP_DIRECTORY: u32 = 0o2110;

/// The device's file in the guest.
pub fn file(device: &str) -> io::Result<String> {
    let is_plain = !device.is_empty() && device.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_plain {
        Ok(format!("/dev/{device}"))
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// Mounts the file system of a disk.
pub fn mount_at(device: &str, path: &str) -> io::Result<()> {
    Ok(mount(
        &*file(device)?,
        path,
        "ext4",
        MountFlags::NOATIME,
        c"discard",
    )?)
}

/// Gives all that is on a volume to a group, as the kubelet does before the
/// pod's first container: nothing runs that could put a link in the way. Not
/// by recursion: containers of an earlier pod may have made it deep.
///
/// With `on_mismatch` a volume whose root is the group's stays as it is. The root
/// is given last, so that one that was not done to the end is done again.
pub fn give_to_group(root: &str, group: u32, on_mismatch: bool) -> io::Result<()> {
    let root = Path::new(root);
    if on_mismatch && is_given(root, group)? {
        return Ok(());
    }
    let mut waiting = entries(root)?;
    while let Some(path) = waiting.pop() {
        if give(&path, group)?.is_dir() {
            waiting.extend(entries(&path)?);
        }
    }
    give(root, group).map(drop)
}

/// Gives a group the root of a volume alone, and with it what is made there later:
/// what is in it other pods may be using.
pub fn give_root_to_group(root: &str, group: u32) -> io::Result<()> {
    let root = Path::new(root);
    if is_given(root, group)? {
        return Ok(());
    }
    give(root, group).map(drop)
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Whether a directory is a group's, with all the rights that it gets: then so is
/// what is in it (`requiresPermissionChange` there).
fn is_given(root: &Path, group: u32) -> io::Result<bool> {
    let found = std::fs::symlink_metadata(root)?;
    let wanted = GROUP_FILE | GROUP_DIRECTORY;
    Ok(found.gid() == group && found.mode() & wanted == wanted)
}

fn give(path: &Path, group: u32) -> io::Result<std::fs::FileType> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(CWD, path, None, Some(Gid::from_raw(group)), flags)?;
    // After the owner: a change of it takes bits away.
    let found = std::fs::symlink_metadata(path)?;
    if !found.is_symlink() {
        let more = if found.is_dir() { GROUP_DIRECTORY } else { 0 };
        let mode = (found.permissions().mode() & 0o7777) | GROUP_FILE | more;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(found.file_type())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_gets_files_directories_and_links_but_not_what_links_lead_to() {
        let root = std::env::temp_dir().join(format!("beluga-disk-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let outside = root.join("outside");
        let volume = root.join("volume");
        std::fs::create_dir_all(volume.join("d/e")).unwrap();
        std::fs::write(volume.join("d/e/f"), "x").unwrap();
        std::fs::write(&outside, "x").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&outside, 0o600);
        mode(&volume.join("d/e/f"), 0o604);
        mode(&volume.join("d"), 0o700);
        std::os::unix::fs::symlink(&outside, volume.join("link")).unwrap();
        let own = rustix::process::getegid().as_raw();
        give_to_group(volume.to_str().unwrap(), own, false).unwrap();
        let of = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(of(&volume.join("d/e/f")), 0o664);
        assert_eq!(of(&volume.join("d")), 0o2770);
        assert_eq!(of(&outside), 0o600);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_volume_whose_root_is_the_groups_is_not_looked_through() {
        let root = std::env::temp_dir().join(format!("beluga-root-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let file = root.join("f");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(&file, "x").unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let of = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let own = rustix::process::getegid().as_raw();
        for (mode, on_mismatch, is_done) in [
            (0o2770, true, false),
            (0o2775, true, false),
            (0o2770, false, true),
            (0o770, true, true),
            (0o2750, true, true),
            (0o2760, true, true),
        ] {
            set(&file, 0o600);
            set(&root, mode);
            give_to_group(root.to_str().unwrap(), own, on_mismatch).unwrap();
            let expected = if is_done { 0o660 } else { 0o600 };
            assert_eq!(of(&file), expected, "{mode:o} {on_mismatch}");
            assert_eq!(of(&root), mode | 0o2770);
        }
        assert!(!is_given(&root, own + 1).unwrap());
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_root_that_is_given_alone_leaves_what_is_in_it() {
        let root = std::env::temp_dir().join(format!("beluga-alone-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let file = root.join("f");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(&file, "x").unwrap();
        for (path, mode) in [(&file, 0o600), (&root, 0o700)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let own = rustix::process::getegid().as_raw();
        let of = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for _ in 0..2 {
            give_root_to_group(root.to_str().unwrap(), own).unwrap();
            assert_eq!((of(&root), of(&file)), (0o2770, 0o600));
        }
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_device_is_no_path() {
        assert!(mount_at("../x", "/nowhere").is_err() && mount_at("", "/nowhere").is_err());
    }
}
