//! Where every inode goes.

use std::collections::HashMap;

use super::format::{DataLayout, InodeRecord, chunk_format, device_number};
use super::{
    BLOCK_SIZE, COMPACT_INODE, EXTENDED_INODE, SLOT, SUPERBLOCK_END, data::too_long, directory,
    xattr,
};
use crate::layer::{Body, Directory, Inode, InodeId, LayerError, Tree};
use crate::tarfile::{Time, Xattr};

/// Blocks that inodes may still be put into; more make the disk hardly smaller.
const OPEN_BLOCKS: usize = 32;

/// The places of everything that is not the contents of files.
pub(super) struct Layout {
    /// Inodes by their position on the disk.
    pub placed: Vec<Placed>,
    /// Each inode's number, by index; 0 for what cannot be reached.
    pub nids: Vec<u64>,
    /// The time of compact inodes.
    pub time: Time,
    /// Blocks of the whole disk.
    pub blocks: u32,
    /// Directories and symlinks with blocks of their own, in the order of those blocks.
    pub with_blocks: Vec<InodeId>,
    pub has_chunks: bool,
}

/// One inode's place.
pub(super) struct Placed {
    pub id: InodeId,
    /// Byte position on the disk.
    pub position: u64,
    pub record: InodeRecord,
    /// Bytes of contents that follow the inode and its attributes.
    pub inline: usize,
    /// Bytes of inode, attributes, chunk map and inline contents.
    footprint: usize,
}

impl Layout {
    /// Lays out what can be reached in `tree`; blocks before `next_block` are taken.
    pub(super) fn new(tree: &Tree, mut next_block: u32) -> Result<Self, LayerError> {
        let (order, links) = reachable(tree);
        let time = common_time(tree, &order);
        let mut with_blocks = Vec::new();
        let mut placed = Vec::with_capacity(order.len());
        for (number, id) in order.into_iter().enumerate() {
            let inode = tree.get(id);
            let mut place = shape(id, inode, links[id.index()], time)?;
            place.record.ino = number as u32 + 1;
            if !matches!(inode.body, Body::File(_)) {
                let in_blocks = place.record.size - place.inline as u64;
                let blocks = in_blocks.div_ceil(BLOCK_SIZE as u64);
                if blocks > 0 {
                    place.record.union = next_block;
                    with_blocks.push(id);
                    next_block = advance(next_block, blocks)?;
                }
            }
            placed.push(place);
        }
        let blocks = pack(&mut placed, next_block)?;
        placed.sort_by_key(|place| place.position);
        let mut nids = vec![0; tree.len()];
        for place in &placed {
            nids[place.id.index()] = place.position / SLOT as u64;
        }
        let has_chunks = placed
            .iter()
            .any(|place| place.record.layout == DataLayout::Chunks);
        Ok(Layout {
            placed,
            nids,
            time,
            blocks,
            with_blocks,
            has_chunks,
        })
    }
}

fn advance(block: u32, count: u64) -> Result<u32, LayerError> {
    let next = u64::from(block) + count;
    u32::try_from(next)
        .ok()
        .filter(|next| *next != u32::MAX)
        .ok_or_else(too_long)
}

/// Every inode that the root leads to, parents before children, in the order of a recursive
/// listing; and the number of links of each, by index.
fn reachable(tree: &Tree) -> (Vec<InodeId>, Vec<u32>) {
    let mut links = vec![0u32; tree.len()];
    let mut order = Vec::new();
    let mut stack = vec![InodeId::ROOT];
    links[InodeId::ROOT.index()] = 1;
    while let Some(id) = stack.pop() {
        order.push(id);
        let Some(directory) = tree.directory(id) else {
            continue;
        };
        // Its own dot.
        links[id.index()] += 1;
        for child in directory.entries.values().rev() {
            let first = links[child.index()] == 0;
            links[child.index()] += 1;
            if tree.directory(*child).is_some() {
                // The child's two dots.
                links[id.index()] += 1;
            }
            if first {
                stack.push(*child);
            }
        }
    }
    (order, links)
}

/// The time that most files have: those need no inode of the larger kind. The earliest of equals,
/// so that the choice does not depend on chance.
fn common_time(tree: &Tree, order: &[InodeId]) -> Time {
    let mut counts = HashMap::<Time, usize>::new();
    for id in order {
        *counts.entry(tree.get(*id).attributes.mtime).or_default() += 1;
    }
    let most = counts
        .into_iter()
        .max_by_key(|(time, count)| (*count, std::cmp::Reverse(*time)));
    most.map(|(time, _)| time).unwrap_or_default()
}

/// Attributes as they are stored: the opaque mark is one of them.
pub(super) fn stored_xattrs(inode: &Inode) -> Vec<Xattr> {
    let mut xattrs = inode.attributes.xattrs.clone();
    if matches!(&inode.body, Body::Directory(Directory { opaque: true, .. })) {
        xattrs.push((b"trusted.overlay.opaque".to_vec(), b"y".to_vec()));
    }
    xattrs
}

/// What an inode needs, wherever it will be.
fn shape(id: InodeId, inode: &Inode, nlink: u32, time: Time) -> Result<Placed, LayerError> {
    let size = match &inode.body {
        Body::File(file) => file.size,
        Body::Directory(directory) => directory::size(id, directory),
        Body::Symlink(target) => target.len() as u64,
        _ => 0,
    };
    let a = &inode.attributes;
    let extended = a.mtime != time
        || size > u64::from(u32::MAX)
        || [a.uid, a.gid, nlink]
            .iter()
            .any(|number| *number > u32::from(u16::MAX));
    let xattr_size = xattr::size(&stored_xattrs(inode));
    let head = xattr_size
        + if extended {
            EXTENDED_INODE
        } else {
            COMPACT_INODE
        };
    let room = if id == InodeId::ROOT {
        BLOCK_SIZE - SUPERBLOCK_END
    } else {
        BLOCK_SIZE
    };
    if id == InodeId::ROOT && head > room {
        let (entry, name) = ("/".to_owned(), "(all together)".to_owned());
        return Err(LayerError::XattrTooLong { entry, name });
    }
    let tail = (size % BLOCK_SIZE as u64) as usize;
    let (layout, inline, union, map) = match &inode.body {
        Body::File(file) => match &file.chunks {
            Some(chunks) => (DataLayout::Chunks, 0, chunk_format(), chunks.len() * 4),
            None if file.tail.is_some() => (DataLayout::Inline, tail, file.first_block, 0),
            None => (DataLayout::Plain, 0, file.first_block, 0),
        },
        Body::Directory(_) if tail > 0 && head + tail <= room => (DataLayout::Inline, tail, 0, 0),
        // The kernel takes a symlink's target only from beside the inode or from a whole block.
        Body::Symlink(_) if size > 0 && head as u64 + size <= room as u64 => {
            (DataLayout::Inline, tail, 0, 0)
        }
        Body::CharDevice { major, minor } | Body::BlockDevice { major, minor } => {
            (DataLayout::Plain, 0, device_number(*major, *minor), 0)
        }
        _ => (DataLayout::Plain, 0, 0, 0),
    };
    let record = InodeRecord {
        extended,
        layout,
        xattr_icount: xattr::icount(xattr_size),
        nlink,
        size,
        union,
        ino: 0,
    };
    Ok(Placed {
        id,
        position: 0,
        record,
        inline,
        footprint: head + map + inline,
    })
}

/// A block with room for more inodes.
struct Open {
    block: u32,
    used: usize,
}

/// Gives every inode its position: the rest of block 0, then blocks from `next_block` on. Inline
/// contents must not cross a block's end, so an inode that fits into one block stays in one: the
/// fullest that has room. Returns the number of blocks of the disk.
fn pack(placed: &mut [Placed], mut next_block: u32) -> Result<u32, LayerError> {
    let mut open = vec![Open {
        block: 0,
        used: SUPERBLOCK_END,
    }];
    for place in placed {
        let best = open
            .iter_mut()
            .filter(|open| open.used + place.footprint <= BLOCK_SIZE)
            .max_by_key(|open| open.used);
        let block = match best {
            Some(open) => open,
            None => {
                let first = next_block;
                let blocks = place.footprint.div_ceil(BLOCK_SIZE);
                next_block = advance(next_block, blocks as u64)?;
                place.position = u64::from(first) * BLOCK_SIZE as u64;
                let used = place.footprint - (blocks - 1) * BLOCK_SIZE;
                keep(
                    &mut open,
                    Open {
                        block: next_block - 1,
                        used,
                    },
                );
                continue;
            }
        };
        place.position = u64::from(block.block) * BLOCK_SIZE as u64 + block.used as u64;
        block.used = (block.used + place.footprint).next_multiple_of(SLOT);
    }
    Ok(next_block)
}

/// Adds a block to the open ones, in place of the fullest when there are enough.
fn keep(open: &mut Vec<Open>, mut new: Open) {
    new.used = new.used.next_multiple_of(SLOT);
    if open.len() < OPEN_BLOCKS {
        open.push(new);
    } else if let Some(fullest) = open.iter_mut().max_by_key(|open| open.used)
        && fullest.used > new.used
    {
        *fullest = new;
    }
}
