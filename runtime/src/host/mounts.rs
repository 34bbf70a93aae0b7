//! What containers of a sandbox use of the host: mounted side by side in one
//! directory, which the pod's share serves.
//!
//! Nothing here removes what is below an entry: an entry is a mount of somebody
//! else's files until it has been taken away.

use crate::path_error::PathError;
use crate::store::private;
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Makes the directory.
pub fn create(path: &Path) -> Result<(), PathError> {
    private::make(path)
}

/// How it is mounted.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// Not to be written to.
    pub read_only: bool,
    /// Nor what is mounted below it.
    pub recursive: bool,
    /// What the host mounts below it later is seen here.
    pub follows_host: bool,
}

/// What has been mounted.
#[derive(Debug, Clone, Copy)]
pub struct Added {
    /// Other file systems are mounted below it.
    pub has_others_below: bool,
}

/// Mounts a directory or file of the host, with what is mounted below it, as the
/// directory's entry `name`.
pub fn add(directory: &Path, name: &str, source: &Path, how: How) -> Result<Added, PathError> {
    let target = directory.join(name);
    if !source.exists() {
        // As containerd does: a volume of the host that nobody has made is a directory.
        private::but_for(|| std::fs::create_dir_all(source))
            .map_err(PathError::on("make directory", source))?;
    }
    let found = std::fs::metadata(source).map_err(PathError::on("look at", source))?;
    let made = if found.is_dir() {
        rustix::fs::mkdirat(CWD, &target, Mode::from_raw_mode(0o700)).map_err(io::Error::from)
    } else {
        File::create_new(&target).map(drop)
    };
    made.map_err(PathError::on("make", &target))?;
    let mounted = mount(source, &target, how);
    if mounted.is_err() {
        let _ = take_away(&target);
    }
    mounted.map_err(PathError::on("mount", source))
}

fn mount(source: &Path, target: &Path, how: How) -> io::Result<Added> {
    rustix::mount::mount_bind_recursive(source, target)?;
    if how.follows_host {
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change(target, flags)?;
    } else {
        make_private(target)?;
    }
    let below = below(target, &std::fs::read_to_string("/proc/self/mountinfo")?);
    if how.read_only {
        let also = below.iter().map(PathBuf::as_path);
        let also = also.filter(|_| how.recursive);
        for place in std::iter::once(target).chain(also) {
            rustix::mount::mount_remount(place, MountFlags::BIND | MountFlags::RDONLY, "")?;
        }
    }
    Ok(Added {
        has_others_below: !below.is_empty(),
    })
}

/// Where something is mounted below a place, by the text of `mountinfo`.
fn below(place: &Path, mountinfo: &str) -> Vec<PathBuf> {
    let places = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let places = places.map(|text| PathBuf::from(unescaped(text)));
    let all = places.filter(|found| found != place && found.starts_with(place));
    all.collect()
}

/// White space and backslashes are octal there.
fn unescaped(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let digits = others.get(..3).filter(|_| first == b'\\');
        let octal = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() {
            &others[3..]
        } else {
            others
        };
    }
    OsString::from_vec(bytes)
}

/// What is unmounted here stays mounted where it came from.
fn make_private(target: &Path) -> rustix::io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(target, flags)
}

/// Takes all entries away whose names `is_gone` says so of.
pub fn drop_entries(directory: &Path, is_gone: impl Fn(&str) -> bool) -> Result<(), PathError> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(PathError::on("list", directory))?,
    };
    for entry in entries {
        let entry = entry.map_err(PathError::on("list", directory))?;
        if is_gone(&entry.file_name().to_string_lossy()) {
            take_away(&entry.path()).map_err(PathError::on("unmount", &entry.path()))?;
        }
    }
    Ok(())
}

/// Takes all entries away, and the directory.
pub fn remove(directory: &Path) -> Result<(), PathError> {
    drop_entries(directory, |_| true)?;
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PathError::on("remove", directory)(error))
        }
        _ => Ok(()),
    }
}

/// Unmounts whatever is mounted there, then removes the empty place.
fn take_away(target: &Path) -> io::Result<()> {
    // Should whoever mounted it have died before this: what is mounted below it
    // must not be unmounted where it came from. One that is no mount is no error.
    let _ = make_private(target);
    loop {
        match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Not a mount (any more).
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // A place has nothing in it: neither call removes anybody's files.
    match std::fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => std::fs::remove_dir(target),
        Ok(_) => std::fs::remove_file(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_below_is_found_whatever_it_is_called() {
        let text = "30 20 0:25 / /a/b rw - tmpfs t rw\n\
                    31 30 0:26 / /a/b/with\\040space\\134 rw - tmpfs t rw\n\
                    32 20 0:27 / /a/bc rw - tmpfs t rw\n";
        let found = below(Path::new("/a/b"), text);
        assert_eq!(found, [PathBuf::from("/a/b/with space\\")]);
        assert!(below(Path::new("/x"), text).is_empty());
    }
}
