//! Paths inside trees whose content is hostile: image roots and volumes.
//!
//! Every step goes through `openat2` relative to a descriptor of the tree's
//! root, so that no link, `..` or exchange under way leads out of it
//! (CVE-2017-1002101, CVE-2021-30465 and their kin). Directories that are
//! missing are made one by one under descriptors already held.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What happens to a link that leads out of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// The tree's root is `/`, and its own `..`: for a container's root.
    Root,
    /// It is an error: for a path in a volume.
    Fence,
}

/// Why a path has no place in its tree.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// A link or `..` leads out of the tree.
    #[error("{path:?} leads out of its volume")]
    Escapes {
        /// Which.
        path: String,
    },
    /// Something that is no directory stands in the way.
    #[error("{path:?} passes through something that is no directory")]
    NotADirectory {
        /// Which.
        path: String,
    },
    /// A directory stands where a file should be.
    #[error("{path:?} is a directory, but a file is to be mounted there")]
    IsDirectory {
        /// Which.
        path: String,
    },
    /// A place that must be a directory itself is a link.
    #[error("{path:?} must be a directory in the image, but it is or lies behind a link")]
    IsLink {
        /// Which.
        path: String,
    },
    /// Links that never end, or that change faster than they can be followed.
    #[error("{path:?} cannot be resolved: too many links")]
    TooManyLinks {
        /// Which.
        path: String,
    },
    /// The kernel refused.
    #[error("cannot open or make {path:?}")]
    Os {
        /// What.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// As many links as the kernel follows in one path.
const MOST_LINKS: usize = 40;
/// How often a resolution is repeated that a rename elsewhere disturbed.
const MOST_TRIES: usize = 64;
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// The components of a path without `.` and empty ones, `..` resolved by text:
/// what a manifest means by a path, whatever links are in the tree.
pub fn components(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

/// Opens what is at `path` (`O_PATH` and `flags`); `None` when nothing is.
pub fn existing(
    root: impl AsFd,
    path: &str,
    flags: OFlags,
    boundary: Boundary,
) -> Result<Option<OwnedFd>, PathError> {
    let parts = components(path);
    match open(root.as_fd(), &parts, flags, boundary) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(refused(path, errno)),
    }
}

/// Opens a directory of the tree, and makes it and its parents with `mode`
/// where they are missing.
pub fn directory(
    root: impl AsFd,
    path: &str,
    mode: Mode,
    boundary: Boundary,
) -> Result<OwnedFd, PathError> {
    let root = root.as_fd();
    let mut parts: Vec<String> = components(path).into_iter().map(str::to_owned).collect();
    for _ in 0..MOST_LINKS {
        match open(root, &parts, DIRECTORY, boundary) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(refused(path, errno)),
        }
        let (parent, there) = deepest(root, &parts, boundary).map_err(|e| refused(path, e))?;
        match rustix::fs::readlinkat(&parent, parts[there].as_str(), Vec::new()) {
            Ok(target) => {
                let target = target.to_str().map_err(|_| refused(path, Errno::ILSEQ))?;
                parts = follow(&parts, there, target, boundary)
                    .ok_or_else(|| PathError::Escapes { path: path.into() })?;
            }
            Err(Errno::NOENT) => {
                return make(parent, &parts[there..], mode).map_err(|e| refused(path, e));
            }
            // It came into being meanwhile.
            Err(Errno::INVAL) => {}
            Err(errno) => return Err(refused(path, errno)),
        }
    }
    Err(PathError::TooManyLinks { path: path.into() })
}

/// Opens a file of the tree that can be mounted on; makes it, empty, and its
/// parents where they are missing.
pub fn file(root: impl AsFd, path: &str) -> Result<OwnedFd, PathError> {
    let root = root.as_fd();
    if let Some(fd) = existing(root, path, OFlags::PATH, Boundary::Root)? {
        let stat = rustix::fs::fstat(&fd).map_err(|errno| refused(path, errno))?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
            return Err(PathError::IsDirectory { path: path.into() });
        }
        return Ok(fd);
    }
    let mut parts = components(path);
    let Some(name) = parts.pop() else {
        return Err(PathError::IsDirectory { path: path.into() });
    };
    let parent = directory(root, &parts.join("/"), Mode::from(0o755), Boundary::Root)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, name, flags, Mode::from(0o644)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(refused(path, errno)),
    }
    rustix::fs::openat(
        &parent,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| refused(path, errno))
}

/// Opens a directory of the root that no link may stand for, and makes it when
/// it is missing. Mounting /proc through a link of the image is a way out of
/// the masks (CVE-2019-19921).
pub fn real_directory(root: impl AsFd, path: &str) -> Result<OwnedFd, PathError> {
    let root = root.as_fd();
    let mut at = rustix::io::fcntl_dupfd_cloexec(root, 0).map_err(|e| refused(path, e))?;
    for part in components(path) {
        at = match make(at, &[part.to_owned()], Mode::from(0o755)) {
            Ok(fd) => fd,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(PathError::IsLink { path: path.into() });
            }
            Err(errno) => return Err(refused(path, errno)),
        };
    }
    Ok(at)
}

/// The deepest directory that exists on the way, and how many components lead
/// to it; at least one is left.
fn deepest(
    root: BorrowedFd<'_>,
    parts: &[String],
    boundary: Boundary,
) -> Result<(OwnedFd, usize), Errno> {
    for there in (0..parts.len()).rev() {
        match open(root, &parts[..there], DIRECTORY, boundary) {
            Ok(fd) => return Ok((fd, there)),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::NOENT)
}

/// The path that results when the link at `at`, which leads to nothing yet, is
/// replaced by its target. `None` when it leads out of a fence.
fn follow(parts: &[String], at: usize, target: &str, boundary: Boundary) -> Option<Vec<String>> {
    let absolute = target.starts_with('/');
    if absolute && boundary == Boundary::Fence {
        return None;
    }
    let head = if absolute { &[] } else { &parts[..at] };
    // `..` of a target stays for the kernel: it counts from where links lead.
    let middle = target
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .map(str::to_owned);
    Some(
        head.iter()
            .cloned()
            .chain(middle)
            .chain(parts[at + 1..].iter().cloned())
            .collect(),
    )
}

/// Makes directories below one another, never through a link.
fn make(parent: OwnedFd, parts: &[String], mode: Mode) -> Result<OwnedFd, Errno> {
    let mut at = parent;
    for part in parts {
        // Behind something that had to be made, `..` could only lead back.
        if part == ".." {
            return Err(Errno::NOENT);
        }
        match rustix::fs::mkdirat(&at, part.as_str(), mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = rustix::fs::openat(&at, part.as_str(), flags, Mode::empty())?;
    }
    Ok(at)
}

fn open<S: AsRef<str>>(
    root: BorrowedFd<'_>,
    parts: &[S],
    flags: OFlags,
    boundary: Boundary,
) -> Result<OwnedFd, Errno> {
    let mut path = String::with_capacity(64);
    for part in parts {
        path.push_str(part.as_ref());
        path.push('/');
    }
    // A slash at the end would demand a directory.
    path.pop();
    if path.is_empty() {
        path.push('.');
    }
    let resolve = ResolveFlags::NO_MAGICLINKS
        | match boundary {
            Boundary::Root => ResolveFlags::IN_ROOT,
            Boundary::Fence => ResolveFlags::BENEATH,
        };
    for _ in 0..MOST_TRIES {
        match rustix::fs::openat2(
            root,
            path.as_str(),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        ) {
            // A rename somewhere made the walk through `..` uncertain.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::LOOP)
}

fn refused(path: &str, errno: Errno) -> PathError {
    let path = path.to_owned();
    match errno {
        Errno::XDEV => PathError::Escapes { path },
        Errno::NOTDIR => PathError::NotADirectory { path },
        Errno::LOOP => PathError::TooManyLinks { path },
        errno => PathError::Os {
            path,
            source: errno.into(),
        },
    }
}

#[cfg(test)]
mod tests;
