//! Writing EROFS: uncompressed, reproducible, in one pass over the contents.
//!
//! ```text
//! block 0      superblock at 1024, then the first inodes (the root among them)
//! blocks 1..   contents of files, in the order of the archive
//! then         whole blocks of large directories, targets of large symlinks
//! then         inodes, each with its attributes, chunk map, and the end of its contents
//! ```
//! `meta_blkaddr` is 0, so an inode's number is its position in units of 32 bytes. The root comes
//! first, because the superblock has 16 bits for its number. Format: Linux,
//! `fs/erofs/erofs_fs.h` and Documentation/filesystems/erofs.rst.

mod data;
mod directory;
mod format;
mod image;
mod layout;
mod spool;
mod xattr;

pub(crate) use data::DataWriter;
pub(crate) use image::finish;
pub(crate) use xattr::{
    check as check_xattrs, is_long as is_long_xattr, is_storable as is_storable_xattr,
};

/// What the kernel maps at once on x86-64; other page sizes read it as well.
pub(crate) const BLOCK_SIZE: usize = 4096;
/// Blocks in the unit of holes (64 KiB): small enough to find them, large enough that a map
/// costs nothing and reads stay sequential.
const CHUNK_BLOCKS: u32 = 16;
const SUPERBLOCK_OFFSET: usize = 1024;
const SUPERBLOCK_END: usize = SUPERBLOCK_OFFSET + 128;
const COMPACT_INODE: usize = 32;
const EXTENDED_INODE: usize = 64;
/// Inodes begin at multiples of this.
const SLOT: usize = 32;

#[cfg(test)]
mod tests;
