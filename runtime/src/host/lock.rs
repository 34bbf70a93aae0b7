//! Locks that end with their holder: flock(2) on files.

use rustix::fs::{FlockOperation, Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A held lock; given back when the last descriptor of it is closed.
#[derive(Debug)]
pub struct FileLock(OwnedFd);

impl FileLock {
    /// Waits for the lock. Makes the file when it is missing.
    pub fn wait(path: &Path) -> io::Result<Self> {
        Ok(Self(take(
            path,
            OFlags::CREATE,
            FlockOperation::LockExclusive,
        )?))
    }

    /// The lock, or `None` when somebody else holds it. Never makes the file:
    /// it would come to be in a directory that is just being removed.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let take = take(
            path,
            OFlags::empty(),
            FlockOperation::NonBlockingLockExclusive,
        );
        match take {
            Ok(file) => Ok(Some(Self(file))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same of a directory, or of whatever is there; nothing is written to it.
    pub fn try_read_only(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(path, flags, Mode::empty())?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A lock that was inherited, held already.
    #[must_use]
    pub fn inherited(file: OwnedFd) -> Self {
        Self(file)
    }

    /// The descriptor that holds it: whoever inherits it holds it too.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.0
    }
}

fn take(path: &Path, create: OFlags, operation: FlockOperation) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | create | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation))?;
    Ok(file)
}
