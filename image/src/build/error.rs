//! Why a directory cannot become an image.

use std::io;
use std::path::PathBuf;

use crate::load::LoadError;
use crate::store::StoreError;

/// Why a directory cannot become an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody writes to it.
    #[error("{path} has become shorter while it was read", path = .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A line of `.dockerignore` that says nothing.
    #[error("{path}:{line}: {pattern:?} is no pattern", path = .path.display())]
    Pattern {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// As it is there.
        pattern: String,
    },
    /// A name that means something else in a layer.
    #[error("{path}: in an image a name that begins with .wh. hides another file",
        path = .path.display())]
    Whiteout {
        /// The file.
        path: PathBuf,
    },
    /// An attribute whose name an archive cannot hold.
    #[error("{path} has an extended attribute {name:?}, which no archive can hold",
        path = .path.display())]
    Xattr {
        /// The file.
        path: PathBuf,
        /// The attribute.
        name: String,
    },
    /// More files than the limit.
    #[error("{path} has more than {limit} files", path = .path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// More bytes than the limit.
    #[error("{path}: the files come to more than {limit} bytes", path = .path.display())]
    TooLarge {
        /// The file that passes the limit.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The layer could not be stored.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
