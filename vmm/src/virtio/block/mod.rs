//! virtio-blk over extents of files.

use std::fs::File;
use std::sync::Arc;

/// A piece of an open file.
#[derive(Debug, Clone)]
pub struct FileExtent {
    /// The file.
    pub file: Arc<File>,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}
