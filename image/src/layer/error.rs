//! Why a layer cannot become a disk.

use std::io;

use crate::tarfile::TarError;

/// Why a layer cannot become a disk. Entries are named as the archive spells them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The archive itself is broken.
    #[error("the layer's archive is unusable")]
    Tar(#[source] TarError),
    /// The same, and how far it could be read.
    #[error("the layer's archive is unusable, at entry {entry:?} or right behind it")]
    TarAt {
        /// The last entry that could be read.
        entry: String,
        /// What is wrong.
        #[source]
        source: TarError,
    },
    /// The disk cannot be written.
    #[error("cannot write the layer's disk")]
    Write(#[source] io::Error),
    /// A path leads out of the root.
    #[error("entry {entry:?} leads out of the image's root")]
    Escape {
        /// The entry.
        entry: String,
    },
    /// A name is empty where it must not be, too long, or not one that a file can have.
    #[error("entry {entry:?} has an impossible name: {problem}")]
    BadName {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A path goes through something that is neither a directory nor a symlink.
    #[error("entry {entry:?} has a parent that is no directory")]
    NotADirectory {
        /// The entry.
        entry: String,
    },
    /// The symlinks on a path go on for ever.
    #[error("entry {entry:?} lies behind a loop of symlinks")]
    SymlinkLoop {
        /// The entry.
        entry: String,
    },
    /// A hard link to what is no file of this layer.
    #[error("entry {entry:?} is a hard link to {target:?}, which {problem}")]
    HardLink {
        /// The entry.
        entry: String,
        /// What it should be the same file as.
        target: String,
        /// Why it cannot.
        problem: &'static str,
    },
    /// A type flag that no layer may contain.
    #[error("entry {entry:?} has the unknown type {flag:?}")]
    UnknownType {
        /// The entry.
        entry: String,
        /// The tar's type flag.
        flag: char,
    },
    /// Device numbers beyond what Linux has.
    #[error("entry {entry:?} is a device with the impossible number {major}:{minor}")]
    DeviceNumber {
        /// The entry.
        entry: String,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// An attribute that no file system could hold.
    #[error("entry {entry:?} has an extended attribute {name:?} that is too long")]
    XattrTooLong {
        /// The entry.
        entry: String,
        /// The attribute.
        name: String,
    },
    /// The root directory hides all layers below, which overlayfs cannot express.
    #[error("the layer hides everything below it (entry {entry:?}), which is not supported")]
    OpaqueRoot {
        /// The entry.
        entry: String,
    },
    /// Paths through symlinks that cost more than any real layer's.
    #[error("entry {entry:?}: symlinks add more than {limit} components to paths")]
    TooManyLookups {
        /// The entry that passed the limit.
        entry: String,
        /// The limit.
        limit: u64,
    },
    /// More files than the limit.
    #[error("entry {entry:?}: the layer has more than {limit} files")]
    TooManyEntries {
        /// The entry that passed the limit.
        entry: String,
        /// The limit.
        limit: u64,
    },
    /// More bytes than a limit.
    #[error("entry {entry:?}: {what} come to more than {limit} bytes")]
    TooLarge {
        /// The entry that passed the limit.
        entry: String,
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

impl LayerError {
    /// An entry's name for a message: readable, and of bounded length.
    pub(crate) fn shown(name: &[u8]) -> String {
        const MAX: usize = 200;
        let mut text = String::from_utf8_lossy(&name[..name.len().min(MAX)]).into_owned();
        if name.len() > MAX {
            text.push('…');
        }
        text
    }
}

impl From<TarError> for LayerError {
    fn from(error: TarError) -> Self {
        LayerError::Tar(error)
    }
}
