//! A directory's files, parents first and sorted by name.
//!
//! Somebody else may write to the directory meanwhile. So each file is opened once, below the
//! directory and through no symlink, without a right to anything but looking; what it is, holds
//! and leads to is asked of that descriptor.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::BuildError;
use super::ignore::Ignore;
use crate::tarfile::Xattr;

/// The most that Linux gives: XATTR_LIST_MAX and XATTR_SIZE_MAX.
const MAX_XATTR: usize = 64 << 10;
/// Access lists: more owners, by number, and more modes.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
/// Of the attributes of `trusted.` and `user.`, these steer an overlay.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// The files of a directory.
pub(super) struct Walk {
    root: OwnedFd,
    shown: PathBuf,
    /// Paths below the root that are still to be visited, the next one last.
    left: Vec<Vec<u8>>,
    ignore: Ignore,
    /// Directories that stay out unless something below them is kept, from the top.
    out: Vec<Found>,
    /// What comes before anything else is looked at, the next one last.
    ready: Vec<Found>,
    max_entries: u64,
    listed: u64,
}

/// A file, held by a descriptor that only looks.
pub(super) struct Found {
    /// Below the root, without a slash at either end; empty for the root itself.
    pub path: Vec<u8>,
    /// As it is told to a person.
    pub shown: PathBuf,
    pub stat: Stat,
    fd: OwnedFd,
}

impl Walk {
    pub(super) fn new(dir: &Path, ignore: Ignore, max_entries: u64) -> Result<Self, BuildError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(unreadable(dir))?;
        Ok(Walk {
            root,
            shown: dir.to_owned(),
            left: vec![Vec::new()],
            ignore,
            out: Vec::new(),
            ready: Vec::new(),
            max_entries,
            listed: 0,
        })
    }

    /// The next file that is kept. What a directory holds comes right after it.
    pub(super) fn next(&mut self) -> Result<Option<Found>, BuildError> {
        loop {
            if let Some(ready) = self.ready.pop() {
                return Ok(Some(ready));
            }
            let Some(path) = self.left.pop() else {
                return Ok(None);
            };
            let is_out = self.ignore.is_out(&path);
            if is_out && !self.ignore.keeps_some() {
                continue;
            }
            let found = self.look(path)?;
            let is_below = |dir: &Found| {
                let rest = found.path.strip_prefix(&dir.path[..]);
                rest.is_some_and(|rest| rest.starts_with(b"/"))
            };
            while self.out.last().is_some_and(|dir| !is_below(dir)) {
                self.out.pop();
            }
            if found.is(libc_type::DIRECTORY) {
                self.list(&found)?;
            }
            match (is_out, found.is(libc_type::DIRECTORY)) {
                (true, true) => self.out.push(found),
                (true, false) => {}
                // What is kept needs the directories on its way.
                (false, _) => {
                    self.ready.push(found);
                    self.ready.extend(self.out.drain(..).rev());
                }
            }
        }
    }

    fn look(&self, path: Vec<u8>) -> Result<Found, BuildError> {
        let name = Path::new(std::ffi::OsStr::from_bytes(&path));
        let shown = match path.is_empty() {
            true => self.shown.clone(),
            false => self.shown.join(name),
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let below = if path.is_empty() { b"." } else { &path[..] };
        let fd = rustix::fs::openat2(&self.root, below, flags, Mode::empty(), resolve)
            .map_err(unreadable(&shown))?;
        let stat = rustix::fs::fstat(&fd).map_err(unreadable(&shown))?;
        Ok(Found {
            path,
            shown,
            stat,
            fd,
        })
    }

    fn list(&mut self, directory: &Found) -> Result<(), BuildError> {
        let failed = |source| BuildError::Read {
            path: directory.shown.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(directory.proc_path()).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().into_vec());
            self.listed += 1;
            if self.listed > self.max_entries {
                return Err(BuildError::TooMany {
                    path: self.shown.clone(),
                    limit: self.max_entries,
                });
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        for name in names {
            if name.starts_with(b".wh.") {
                let path = directory.shown.join(std::ffi::OsStr::from_bytes(&name));
                return Err(BuildError::Whiteout { path });
            }
            let parent = &directory.path;
            self.left.push(match parent.is_empty() {
                true => name,
                false => [parent, &b"/"[..], &name].concat(),
            });
        }
        Ok(())
    }
}

/// `S_IFMT` and what it masks.
pub(super) mod libc_type {
    pub const MASK: u32 = 0o170_000;
    pub const SOCKET: u32 = 0o140_000;
    pub const SYMLINK: u32 = 0o120_000;
    pub const REGULAR: u32 = 0o100_000;
    pub const BLOCK: u32 = 0o060_000;
    pub const DIRECTORY: u32 = 0o040_000;
    pub const CHARACTER: u32 = 0o020_000;
    pub const FIFO: u32 = 0o010_000;
}

impl Found {
    pub(super) fn is(&self, kind: u32) -> bool {
        self.stat.st_mode & libc_type::MASK == kind
    }

    /// The file itself, whatever has its name by now.
    fn proc_path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }

    pub(super) fn open(&self) -> Result<File, BuildError> {
        File::open(self.proc_path()).map_err(|source| BuildError::Read {
            path: self.shown.clone(),
            source,
        })
    }

    /// Where a symlink leads.
    pub(super) fn target(&self) -> Result<Vec<u8>, BuildError> {
        let target = rustix::fs::readlinkat(&self.fd, c"", Vec::new());
        let target = target.map_err(unreadable(&self.shown))?;
        Ok(target.into_bytes())
    }

    /// Its extended attributes, sorted: users', capabilities, access lists and `trusted.`. What a
    /// security module of this machine says means nothing on another.
    pub(super) fn xattrs(&self) -> Result<Vec<Xattr>, BuildError> {
        let path = self.proc_path();
        let mut names = vec![0; MAX_XATTR];
        let length = match rustix::fs::listxattr(&path, &mut names[..]) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => 0,
            Err(error) => return Err(unreadable(&self.shown)(error)),
        };
        names.truncate(length);
        let mut found = Vec::new();
        // The image's root has an owner and a mode of its own, which no list may add to.
        let is_root = self.path.is_empty();
        let is_kept = |name: &&[u8]| is_kept(name) && !(is_root && ACLS.contains(name));
        for name in names.split(|byte| *byte == 0).filter(is_kept) {
            let mut value = vec![0; MAX_XATTR];
            let length = match rustix::fs::getxattr(&path, name, &mut value[..]) {
                Ok(length) => length,
                // Taken away meanwhile.
                Err(Errno::NODATA) => continue,
                Err(error) => return Err(unreadable(&self.shown)(error)),
            };
            value.truncate(length);
            if name.contains(&b'=') {
                let name = String::from_utf8_lossy(name).into_owned();
                let path = self.shown.clone();
                return Err(BuildError::Xattr { path, name });
            }
            found.push((name.to_vec(), value));
        }
        found.sort();
        Ok(found)
    }
}

fn is_kept(name: &[u8]) -> bool {
    let is_kind = name.starts_with(b"user.") || name.starts_with(b"trusted.");
    let steers = OVERLAY.iter().any(|overlay| name.starts_with(overlay));
    name == b"security.capability" || ACLS.contains(&name) || (is_kind && !steers)
}

fn unreadable(path: &Path) -> impl FnOnce(Errno) -> BuildError + use<> {
    let path = path.to_owned();
    move |error| BuildError::Read {
        path,
        source: io::Error::from(error),
    }
}

/// Where the stored bytes of a file are, or `None` when all of them are: `(offset, length)`.
pub(super) fn data_runs(file: &File, size: u64) -> io::Result<Option<Vec<(u64, u64)>>> {
    use rustix::fs::{SeekFrom, seek};
    /// A file in more pieces than that is stored whole: its map would be taken for an attack.
    const MAX_RUNS: usize = 10_000;
    let (mut runs, mut at) = (Vec::new(), 0);
    while at < size {
        let begin = match seek(file, SeekFrom::Data(at)) {
            Ok(begin) => begin.min(size),
            // Nothing but a hole to the end.
            Err(Errno::NXIO) => size,
            // A file system that knows none.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if begin == size {
            break;
        }
        at = match seek(file, SeekFrom::Hole(begin)) {
            Ok(end) => end.min(size),
            Err(error) => return Err(error.into()),
        };
        if at <= begin {
            return Err(ErrorKind::InvalidData.into());
        }
        runs.push((begin, at - begin));
        if runs.len() > MAX_RUNS {
            return Ok(None);
        }
    }
    let stored: u64 = runs.iter().map(|(_, length)| length).sum();
    Ok((stored < size).then_some(runs))
}
