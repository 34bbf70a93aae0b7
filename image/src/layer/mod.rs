//! One layer's tar to one read-only disk, in one pass, in bounded memory.

mod apply;
mod error;
mod limits;
pub(crate) mod parents;
mod path;
mod tree;

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::erofs::{self, DataWriter};
use crate::tarfile::Reader;

pub use error::LayerError;
pub use limits::Limits;
pub(crate) use tree::{Attributes, Body, Directory, FileData, Inode, InodeId, Tree};

/// Converts the uncompressed tar that `tar` gives into an EROFS image on `disk`; its length in
/// bytes, a multiple of 4096. The tar is read to the end of the stream, so that the caller can
/// hash all of it. `disk` and `spool` are empty; the spool holds the ends of files for a while and
/// can be thrown away afterwards. The same tar gives the same bytes.
pub fn convert<R, O, S>(tar: R, disk: O, spool: S, limits: &Limits) -> Result<u64, LayerError>
where
    R: Read,
    O: Write + Seek,
    S: Read + Write + Seek,
{
    let builder = build(tar, disk, spool, limits)?;
    // No two disks are mounted by UUID, and a random one would not be reproducible.
    let uuid = if builder.tree.has_implied() {
        IMPLIED
    } else {
        [0; 16]
    };
    erofs::finish(builder.data, &builder.tree, uuid)
}

/// The UUID of a disk with directories that no entry of its layer describes.
pub(crate) const IMPLIED: [u8; 16] = *b"implied-parents\0";

/// Reads a layer's tar; the tree and, on the disk, the contents of its files.
fn build<'l, R, O, S>(
    tar: R,
    disk: O,
    spool: S,
    limits: &'l Limits,
) -> Result<apply::Builder<'l, O, S>, LayerError>
where
    R: Read,
    O: Write + Seek,
    S: Read + Write + Seek,
{
    let mut reader = Reader::new(tar, limits.max_header_bytes);
    let mut builder = apply::Builder::new(DataWriter::new(disk, spool)?, limits);
    let mut last = Vec::new();
    while let Some(entry) = reader.next().map_err(|error| at(&last, error.into()))? {
        last.clone_from(&entry.path);
        let applied = builder.apply(entry, &mut reader);
        applied.map_err(|error| at(&last, error))?;
    }
    reader.drain().map_err(|error| at(&last, error.into()))?;
    Ok(builder)
}

/// The tree of a layer without the contents of its files.
pub(crate) fn tree_of(tar: impl Read, limits: &Limits) -> Result<Tree, LayerError> {
    Ok(build(tar, Nowhere::default(), Nowhere::default(), limits)?.tree)
}

/// Takes everything and keeps nothing.
#[derive(Default)]
struct Nowhere(u64);

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Nowhere {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl Seek for Nowhere {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(at) => self.0 = at,
            SeekFrom::Current(by) | SeekFrom::End(by) => self.0 = self.0.saturating_add_signed(by),
        }
        Ok(self.0)
    }
}

/// An error of the archive, or of the tree as a whole, with the last entry that could be read.
fn at(last: &[u8], error: LayerError) -> LayerError {
    match error {
        LayerError::Tar(source) if !last.is_empty() => LayerError::TarAt {
            entry: LayerError::shown(last),
            source,
        },
        LayerError::TooManyEntries { limit, .. } => LayerError::TooManyEntries {
            entry: LayerError::shown(last),
            limit,
        },
        error => error,
    }
}
