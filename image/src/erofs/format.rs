//! The records on disk, little-endian.

use super::{BLOCK_SIZE, CHUNK_BLOCKS, SUPERBLOCK_OFFSET};
use crate::layer::{Body, Inode};
use crate::tarfile::Time;

const MAGIC: u32 = 0xE0F5_E1E2;
/// The superblock has a checksum.
const COMPAT_SB_CHKSUM: u32 = 1;
/// Times are modification times.
const COMPAT_MTIME: u32 = 2;
/// Some files are mapped in chunks.
const INCOMPAT_CHUNKED_FILE: u32 = 4;

/// How an inode's contents are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// Whole blocks.
    Plain = 0,
    /// Whole blocks, and the rest after the inode.
    Inline = 2,
    /// A map of chunks after the inode.
    Chunks = 4,
}

/// What the superblock says.
pub(super) struct Superblock {
    pub root_nid: u16,
    pub inodes: u64,
    /// The time of compact inodes.
    pub time: Time,
    pub blocks: u32,
    pub uuid: [u8; 16],
    pub has_chunks: bool,
}

impl Superblock {
    /// Writes into block 0, whose other bytes are in place: the checksum covers them.
    pub(super) fn write(&self, block: &mut [u8]) {
        let mut sb = Vec::with_capacity(128);
        sb.extend(MAGIC.to_le_bytes());
        sb.extend([0; 4]);
        sb.extend((COMPAT_SB_CHKSUM | COMPAT_MTIME).to_le_bytes());
        sb.push(BLOCK_SIZE.trailing_zeros() as u8);
        sb.push(0);
        sb.extend(self.root_nid.to_le_bytes());
        sb.extend(self.inodes.to_le_bytes());
        sb.extend(self.time.seconds.to_le_bytes());
        sb.extend(self.time.nanos.to_le_bytes());
        sb.extend(self.blocks.to_le_bytes());
        // meta_blkaddr, xattr_blkaddr
        sb.extend([0; 8]);
        sb.extend(self.uuid);
        // volume_name
        sb.extend([0; 16]);
        let incompat = if self.has_chunks {
            INCOMPAT_CHUNKED_FILE
        } else {
            0
        };
        sb.extend(incompat.to_le_bytes());
        sb.resize(128, 0);
        block[SUPERBLOCK_OFFSET..SUPERBLOCK_OFFSET + 128].copy_from_slice(&sb);
        let sum = crc32c(&block[SUPERBLOCK_OFFSET..BLOCK_SIZE]);
        block[SUPERBLOCK_OFFSET + 4..SUPERBLOCK_OFFSET + 8].copy_from_slice(&sum.to_le_bytes());
    }
}

/// An inode's numbers that come from the layout.
pub(super) struct InodeRecord {
    pub extended: bool,
    pub layout: DataLayout,
    pub xattr_icount: u16,
    pub nlink: u32,
    pub size: u64,
    /// First block, device number or chunk format.
    pub union: u32,
    /// For 32-bit programs and tools; the kernel itself goes by the inode's position.
    pub ino: u32,
}

impl InodeRecord {
    pub(super) fn write(&self, inode: &Inode, out: &mut Vec<u8>) {
        let attributes = &inode.attributes;
        let format = u16::from(self.extended) | (self.layout as u16) << 1;
        out.extend(format.to_le_bytes());
        out.extend(self.xattr_icount.to_le_bytes());
        out.extend((file_type(&inode.body).0 | attributes.mode).to_le_bytes());
        if self.extended {
            out.extend([0; 2]);
            out.extend(self.size.to_le_bytes());
            out.extend(self.union.to_le_bytes());
            out.extend(self.ino.to_le_bytes());
            out.extend(attributes.uid.to_le_bytes());
            out.extend(attributes.gid.to_le_bytes());
            out.extend(attributes.mtime.seconds.to_le_bytes());
            out.extend(attributes.mtime.nanos.to_le_bytes());
            out.extend(self.nlink.to_le_bytes());
            out.extend([0; 16]);
        } else {
            out.extend((self.nlink as u16).to_le_bytes());
            out.extend((self.size as u32).to_le_bytes());
            out.extend([0; 4]);
            out.extend(self.union.to_le_bytes());
            out.extend(self.ino.to_le_bytes());
            out.extend((attributes.uid as u16).to_le_bytes());
            out.extend((attributes.gid as u16).to_le_bytes());
            out.extend([0; 4]);
        }
    }
}

/// The chunk size for `i_u`: the exponent over the block size.
pub(super) fn chunk_format() -> u32 {
    CHUNK_BLOCKS.trailing_zeros()
}

/// The file type for `i_mode`, and the one for directory entries.
pub(super) fn file_type(body: &Body) -> (u16, u8) {
    match body {
        Body::File(_) => (0o100_000, 1),
        Body::Directory(_) => (0o040_000, 2),
        Body::CharDevice { .. } | Body::Whiteout => (0o020_000, 3),
        Body::BlockDevice { .. } => (0o060_000, 4),
        Body::Fifo => (0o010_000, 5),
        Body::Symlink(_) => (0o120_000, 7),
    }
}

/// Linux's `new_encode_dev`.
pub(super) fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// CRC-32C as the kernel computes it here: seeded with ones, not inverted at the end. Three
/// kilobytes per disk, so one bit at a time is fast enough.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_the_standard_vector() {
        assert_eq!(!crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn device_numbers_as_in_linux() {
        assert_eq!(device_number(1, 3), 0x103);
        assert_eq!(device_number(259, 0x12345), 0x1231_0345);
    }
}
