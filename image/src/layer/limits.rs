//! Bounds on what an image may ask of us.

/// What one layer may hold, and an image in all. The defaults are far above real images; each
/// protects memory, disk or time from an image made to exhaust it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Files, directories and links, implied parent directories included.
    pub max_entries: u64,
    /// Bytes of the uncompressed tar.
    pub max_tar_bytes: u64,
    /// Sum of the file sizes, holes included.
    pub max_file_bytes: u64,
    /// Bytes of the uncompressed tar per byte of the blob; watched only beyond
    /// [`Limits::ratio_free_bytes`], because short runs of zeros compress a thousandfold.
    pub max_ratio: u64,
    /// Uncompressed bytes below which the ratio does not matter.
    pub ratio_free_bytes: u64,
    /// Bytes of an entry's whole path, and of a link's target.
    pub max_path_bytes: usize,
    /// Path components of an entry.
    pub max_depth: usize,
    /// Bytes of one extended header, long name or sparse map.
    pub max_header_bytes: u64,
    /// Bytes of all names, link targets and extended attributes, which are held in memory.
    pub max_metadata_bytes: u64,
    /// Layers of an image: as many as a pod's disk has partitions for.
    pub max_layers: usize,
    /// Bytes of all of an image's layers: as they are packed, and as the tars that come of them.
    pub max_image_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_entries: 2_000_000,
            max_tar_bytes: 64 << 30,
            max_file_bytes: 64 << 30,
            max_ratio: 200,
            ratio_free_bytes: 1 << 30,
            max_path_bytes: 4096,
            max_depth: 1024,
            max_header_bytes: 1 << 20,
            max_metadata_bytes: 256 << 20,
            max_layers: 255,
            max_image_bytes: 256 << 30,
        }
    }
}
