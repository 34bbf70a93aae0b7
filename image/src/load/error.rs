//! Why images cannot be loaded.

use std::path::PathBuf;

use crate::store::StoreError;

/// Why images cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Neither an OCI layout nor a docker-archive.
    #[error("{path} is neither an OCI layout (directory or tar) nor a docker-archive",
        path = .path.display())]
    UnknownFormat {
        /// The source.
        path: PathBuf,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
