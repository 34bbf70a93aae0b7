//! The disk's metadata, written when all contents are.

use std::io::{Read, Seek, SeekFrom, Write};

use super::format::Superblock;
use super::layout::{Layout, Placed, stored_xattrs};
use super::{BLOCK_SIZE, DataWriter, SLOT, directory, xattr};
use crate::layer::{Body, LayerError, Tree};

/// Completes the disk; its length in bytes, a multiple of the block size.
pub(crate) fn finish<O: Write + Seek, S: Read + Write + Seek>(
    mut data: DataWriter<O, S>,
    tree: &Tree,
    uuid: [u8; 16],
) -> Result<u64, LayerError> {
    let layout = Layout::new(tree, data.next_block)?;
    write_blocks(&mut data, tree, &layout)?;
    let mut block_0 = vec![0; BLOCK_SIZE];
    write_inodes(&mut data, tree, &layout, &mut block_0)?;
    let superblock = Superblock {
        root_nid: layout.nids[0] as u16,
        inodes: layout.placed.len() as u64,
        time: layout.time,
        blocks: layout.blocks,
        uuid,
        has_chunks: layout.has_chunks,
    };
    superblock.write(&mut block_0);
    data.out
        .seek(SeekFrom::Start(0))
        .map_err(LayerError::Write)?;
    data.out.write_all(&block_0).map_err(LayerError::Write)?;
    data.out.flush().map_err(LayerError::Write)?;
    Ok(u64::from(layout.blocks) * BLOCK_SIZE as u64)
}

/// Directories and symlinks that have blocks of their own.
fn write_blocks<O: Write + Seek, S>(
    data: &mut DataWriter<O, S>,
    tree: &Tree,
    layout: &Layout,
) -> Result<(), LayerError> {
    for id in &layout.with_blocks {
        let mut contents = match &tree.get(*id).body {
            Body::Directory(directory) => directory::write(*id, directory, tree, &layout.nids),
            Body::Symlink(target) => target.to_vec(),
            _ => continue,
        };
        let position = layout.nids[id.index()] * SLOT as u64;
        let inline = layout
            .placed
            .binary_search_by_key(&position, |place| place.position);
        let inline = inline.map_or(0, |index| layout.placed[index].inline);
        contents.truncate(contents.len() - inline);
        contents.resize(contents.len().next_multiple_of(BLOCK_SIZE), 0);
        data.out.write_all(&contents).map_err(LayerError::Write)?;
    }
    Ok(())
}

/// The inodes, in the order of their positions: those of block 0 into `block_0`, the others to
/// the disk's end.
fn write_inodes<O: Write + Seek, S: Read + Write + Seek>(
    data: &mut DataWriter<O, S>,
    tree: &Tree,
    layout: &Layout,
    block_0: &mut [u8],
) -> Result<(), LayerError> {
    let end = u64::from(layout.blocks) * BLOCK_SIZE as u64;
    let mut written = None;
    let mut bytes = Vec::new();
    for place in &layout.placed {
        bytes.clear();
        inode(data, tree, layout, place, &mut bytes)?;
        if place.position < BLOCK_SIZE as u64 {
            let begin = place.position as usize;
            block_0[begin..begin + bytes.len()].copy_from_slice(&bytes);
            continue;
        }
        // Inodes outside block 0 begin at a block's start.
        pad(
            &mut data.out,
            place.position - written.unwrap_or(place.position),
        )?;
        data.out.write_all(&bytes).map_err(LayerError::Write)?;
        written = Some(place.position + bytes.len() as u64);
    }
    pad(&mut data.out, end - written.unwrap_or(end))
}

/// Writes zeros, less than a block of them.
fn pad<O: Write>(out: &mut O, count: u64) -> Result<(), LayerError> {
    out.write_all(&[0; BLOCK_SIZE][..count as usize])
        .map_err(LayerError::Write)
}

/// One inode with what follows it.
fn inode<O, S: Read + Write + Seek>(
    data: &mut DataWriter<O, S>,
    tree: &Tree,
    layout: &Layout,
    place: &Placed,
    out: &mut Vec<u8>,
) -> Result<(), LayerError> {
    let inode = tree.get(place.id);
    place.record.write(inode, out);
    xattr::write(&stored_xattrs(inode), out);
    match &inode.body {
        Body::File(file) => {
            for block in file.chunks.iter().flatten() {
                out.extend(block.to_le_bytes());
            }
            if let Some(at) = file.tail {
                out.extend(data.spool.read(at, place.inline)?);
            }
        }
        Body::Directory(directory) if place.inline > 0 => {
            let contents = directory::write(place.id, directory, tree, &layout.nids);
            out.extend(&contents[contents.len() - place.inline..]);
        }
        Body::Symlink(target) if place.inline > 0 => out.extend(&**target),
        _ => {}
    }
    Ok(())
}
