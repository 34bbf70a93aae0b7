//! Size limits of directories on the scratch disk.

use crate::sys;
use rustix::fs::{Mode, OFlags, open};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A project of the scratch disk's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectQuota {
    /// Its number; 0 is everybody else's.
    pub id: u32,
    /// Most bytes; none: the disk's size.
    pub limit_bytes: Option<u64>,
}

/// Why a directory has no limit.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// It could not be opened.
    #[error("cannot open {path}")]
    Open {
        /// Which.
        path: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The file system refused.
    #[error("cannot put {path} into quota project {project}")]
    Assign {
        /// Which.
        path: String,
        /// Into which.
        project: u32,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

fn open_directory(path: &Path) -> Result<OwnedFd, QuotaError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    open(path, flags, Mode::empty()).map_err(|errno| QuotaError::Open {
        path: path.display().to_string(),
        source: errno.into(),
    })
}

/// Puts an empty directory into a project and sets the project's limit.
pub fn assign(directory: &Path, quota: &ProjectQuota) -> Result<(), QuotaError> {
    let file = open_directory(directory)?;
    let failed = |source| QuotaError::Assign {
        path: directory.display().to_string(),
        project: quota.id,
        source,
    };
    sys::quota::set_project(&file, quota.id).map_err(failed)?;
    match quota.limit_bytes {
        Some(bytes) => sys::quota::set_limit(&file, quota.id, bytes).map_err(failed),
        None => Ok(()),
    }
}

/// Bytes that a project uses; none when the file system cannot say.
pub fn usage(directory: &Path, project: u32) -> Option<u64> {
    let file = open_directory(directory).ok()?;
    sys::quota::usage(&file, project).ok()
}
