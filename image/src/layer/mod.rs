//! One layer's tar to one read-only disk, in one pass, in bounded memory.

mod apply;
mod error;
mod limits;
mod path;
mod tree;

use std::io::{Read, Seek, Write};

use crate::erofs::{self, DataWriter};
use crate::tarfile::Reader;

pub use error::LayerError;
pub use limits::Limits;
pub(crate) use tree::{Body, Directory, FileData, Inode, InodeId, Tree};

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
    let mut reader = Reader::new(tar, limits.max_header_bytes);
    let mut builder = apply::Builder::new(DataWriter::new(disk, spool)?, limits);
    while let Some(entry) = reader.next()? {
        builder.apply(entry, &mut reader)?;
    }
    reader.drain()?;
    // No two disks are mounted by UUID, and a random one would not be reproducible.
    erofs::finish(builder.data, &builder.tree, [0; 16])
}
