use std::collections::BTreeMap;

use super::directory;
use crate::layer::{Body, Directory, Inode, InodeId, Tree};

/// A tree whose root has files of these names, and each name's number in it.
fn tree(names: &[&str]) -> (Tree, Vec<u64>) {
    let mut tree = Tree::new(100_000);
    for name in names {
        let inode = Inode {
            attributes: Default::default(),
            body: Body::Fifo,
        };
        let id = tree.add(inode).unwrap();
        tree.link(InodeId::ROOT, name.as_bytes(), id);
    }
    let nids = (0..tree.len() as u64).map(|index| 100 + index).collect();
    (tree, nids)
}

/// Reads a directory back: names with their numbers, in order.
fn read(bytes: &[u8]) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for block in bytes.chunks(4096) {
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([block[at], block[at + 1]]));
        let count = u16_at(8) / 12;
        for entry in 0..count {
            let begin = u16_at(entry * 12 + 8);
            let end = if entry + 1 < count {
                u16_at(entry * 12 + 20)
            } else {
                block.len()
            };
            let name = block[begin..end].split(|byte| *byte == 0).next().unwrap();
            let nid = u64::from_le_bytes(block[entry * 12..entry * 12 + 8].try_into().unwrap());
            found.push((String::from_utf8(name.to_vec()).unwrap(), nid));
        }
    }
    found
}

#[test]
fn directories_are_sorted_with_their_dots_among_the_names() {
    let (tree, nids) = tree(&["z", "-", "!", "..a", ".", "/"][..4]);
    let root = tree.directory(InodeId::ROOT).unwrap();
    let bytes = directory::write(InodeId::ROOT, root, &tree, &nids);
    assert_eq!(bytes.len() as u64, directory::size(InodeId::ROOT, root));
    let names: Vec<String> = read(&bytes).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["!", "-", ".", "..", "..a", "z"]);
    assert_eq!(read(&bytes)[2].1, 100);
}

#[test]
fn large_directories_come_back_whole() {
    let names: Vec<String> = (0..5000)
        .map(|i| format!("{i:0width$}", width = 5 + i % 200))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (tree, nids) = tree(&names);
    let root = tree.directory(InodeId::ROOT).unwrap();
    let bytes = directory::write(InodeId::ROOT, root, &tree, &nids);
    assert_eq!(bytes.len() as u64, directory::size(InodeId::ROOT, root));
    let found = read(&bytes);
    assert!(found.is_sorted_by(|a, b| a.0.as_bytes() < b.0.as_bytes()));
    assert_eq!(found.len(), names.len() + 2);
}

#[test]
fn an_empty_directory_has_its_dots() {
    let empty = Directory {
        parent: InodeId::ROOT,
        entries: BTreeMap::new(),
        opaque: false,
        implied: false,
    };
    assert_eq!(directory::size(InodeId::ROOT, &empty), 12 * 2 + 3);
}
