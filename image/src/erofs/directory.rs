//! Directories: blocks of entries, sorted by name, each block complete in itself.

use super::BLOCK_SIZE;
use super::format::file_type;
use crate::layer::{Directory, InodeId, Tree};

const ENTRY: usize = 12;

/// The entries with `.` and `..` at their places in the order.
fn entries(id: InodeId, directory: &Directory) -> impl Iterator<Item = (&[u8], InodeId)> {
    let dots: [(&[u8], InodeId); 2] = [(b".", id), (b"..", directory.parent)];
    let mut dots = dots.into_iter().peekable();
    let mut names = directory
        .entries
        .iter()
        .map(|(name, id)| (&**name, *id))
        .peekable();
    std::iter::from_fn(move || match (dots.peek(), names.peek()) {
        (Some(dot), Some(name)) if dot.0 < name.0 => dots.next(),
        (Some(_), None) => dots.next(),
        _ => names.next(),
    })
}

/// The directory's length: whole blocks, and what the last one needs.
pub(super) fn size(id: InodeId, directory: &Directory) -> u64 {
    let (mut blocks, mut used) = (0, 0);
    for (name, _) in entries(id, directory) {
        if used + ENTRY + name.len() > BLOCK_SIZE {
            blocks += 1;
            used = 0;
        }
        used += ENTRY + name.len();
    }
    blocks * BLOCK_SIZE as u64 + used as u64
}

/// The directory's contents, of the length that [`size`] says. `nids` is by inode index.
pub(super) fn write(id: InodeId, directory: &Directory, tree: &Tree, nids: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut block: Vec<(&[u8], InodeId)> = Vec::new();
    let mut used = 0;
    for (name, id) in entries(id, directory) {
        if used + ENTRY + name.len() > BLOCK_SIZE {
            write_block(&block, tree, nids, &mut out);
            out.resize(out.len().next_multiple_of(BLOCK_SIZE), 0);
            block.clear();
            used = 0;
        }
        used += ENTRY + name.len();
        block.push((name, id));
    }
    write_block(&block, tree, nids, &mut out);
    out
}

/// Fixed-size entries, then the names; the last name ends with the block or at a zero byte.
fn write_block(block: &[(&[u8], InodeId)], tree: &Tree, nids: &[u64], out: &mut Vec<u8>) {
    let mut name_offset = block.len() * ENTRY;
    for (name, id) in block {
        out.extend(nids[id.index()].to_le_bytes());
        out.extend((name_offset as u16).to_le_bytes());
        out.extend([file_type(&tree.get(*id).body).1, 0]);
        name_offset += name.len();
    }
    block.iter().for_each(|(name, _)| out.extend(*name));
}
