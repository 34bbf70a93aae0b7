//! Why images cannot be written out.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::store::StoreError;

/// Why images cannot be written out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// A blob is not what its name says.
    #[error("the store's file {path} is damaged: load or pull the image again", path = .path.display())]
    Damaged {
        /// The blob.
        path: PathBuf,
    },
    /// A layer that is not there as it was packed: somebody has taken the file away, or an older
    /// version left it out because its contents had come in another packing.
    #[error("layer {layer} is not here as it was packed: pull or load the image again")]
    NotKept {
        /// The packed layer.
        layer: Digest,
    },
    /// What takes the archive does not take it, or a blob cannot be read.
    #[error("the archive cannot be written")]
    Write(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
