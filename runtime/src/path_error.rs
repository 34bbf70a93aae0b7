//! What cannot be done with a file or directory, and which one it is.

use std::io;
use std::path::{Path, PathBuf};

/// Something that failed on a path. Part of most errors of this crate.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}", path = .path.display())]
pub struct PathError {
    /// What was tried: a verb.
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

impl PathError {
    /// For `map_err`: names what was tried, and on what.
    pub fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            action,
            path,
            source,
        }
    }

    /// Whether the file or directory is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Removes a file; one that is not there is no error.
    pub fn remove_file(path: &Path) -> Result<(), Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Self::on("remove", path)(error))
            }
            _ => Ok(()),
        }
    }
}
