//! Why a tar cannot be read.

use std::io;

/// Why a tar cannot be read. Offsets are those of the entry's header in the uncompressed stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The stream below failed: reading, decompressing, or a bound on it.
    #[error("cannot read the archive")]
    Io(#[source] io::Error),
    /// The stream ends inside an entry.
    #[error("the archive ends in the middle of an entry, at byte {offset}")]
    Truncated {
        /// Bytes read before the end.
        offset: u64,
    },
    /// Something that is no header stands where one must be.
    #[error("no tar header at byte {offset}: its checksum is wrong")]
    Checksum {
        /// Where.
        offset: u64,
    },
    /// One block of zeros, and something after it.
    #[error("a lone block of zeros at byte {offset}")]
    LoneZeroBlock {
        /// Where.
        offset: u64,
    },
    /// A numeric field holds no number, or one out of range.
    #[error("the header at byte {offset} has a malformed {field}")]
    Number {
        /// Which field.
        field: &'static str,
        /// Where.
        offset: u64,
    },
    /// A pax extended header breaks the format.
    #[error("malformed pax header at byte {offset}: {problem}")]
    Pax {
        /// Where.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// An extended header is longer than the limit.
    #[error("an extended header of {size} bytes at byte {offset}: the limit is {limit}")]
    HeaderTooLong {
        /// Where its contents begin.
        offset: u64,
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The map of a sparse file contradicts itself or the file's size.
    #[error("malformed sparse map at byte {offset}")]
    Sparse {
        /// Where.
        offset: u64,
    },
}
