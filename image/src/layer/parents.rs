//! Directories that a layer has without describing them.
//!
//! A tar may hold `a/b` and no `a`. Unpacked over the layers below, `a` stays there what it was.
//! As a disk of its own the layer has an `a` of nobody in particular, and overlayfs shows the
//! topmost. So an image with such a layer gets one more disk on top: the directories concerned, as
//! the layers below describe them, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, Write};

use super::{Attributes, Body, InodeId, LayerError, Tree};
use crate::erofs::{self, DataWriter};

/// What the layers so far make of the image's directories.
#[derive(Default)]
pub(crate) struct Parents {
    /// By path; the root's is empty.
    known: BTreeMap<Vec<u8>, Attributes>,
    /// Those that a layer has above the one that describes them.
    concerned: BTreeSet<Vec<u8>>,
}

impl Parents {
    /// Puts a layer on top.
    pub(crate) fn add(&mut self, layer: &Tree) {
        let mut stack = vec![(Vec::new(), InodeId::ROOT)];
        while let Some((path, id)) = stack.pop() {
            let inode = layer.get(id);
            let Body::Directory(directory) = &inode.body else {
                // A file takes the place of whatever was there; a whiteout of the same leaves nothing.
                if self.known.contains_key(&path) {
                    self.forget(&path, true);
                }
                continue;
            };
            if directory.opaque && self.known.contains_key(&path) {
                self.forget(&path, false);
            }
            if directory.implied && self.known.contains_key(&path) {
                self.concerned.insert(path.clone());
            } else {
                self.concerned.remove(&path);
                self.known.insert(path.clone(), inode.attributes.clone());
            }
            for (name, child) in &directory.entries {
                let parent = if path.is_empty() { &[][..] } else { b"/" };
                stack.push(([&path, parent, name].concat(), *child));
            }
        }
    }

    /// Forgets what lies below a path, and the path itself if wanted.
    fn forget(&mut self, path: &[u8], itself: bool) {
        let is_gone = |other: &Vec<u8>| {
            let below = other.strip_prefix(path);
            below.is_some_and(|rest| (rest.is_empty() && itself) || rest.starts_with(b"/"))
        };
        self.known.retain(|other, _| !is_gone(other));
        self.concerned.retain(|other| !is_gone(other));
    }

    /// Writes the disk on top of all; its length, or `None` when none is needed.
    pub(crate) fn write<O, S>(&self, disk: O, spool: S) -> Result<Option<u64>, LayerError>
    where
        O: Write + Seek,
        S: Read + Write + Seek,
    {
        // The root is each container's own.
        let paths: Vec<_> = self
            .concerned
            .iter()
            .filter(|path| !path.is_empty())
            .collect();
        if paths.is_empty() {
            return Ok(None);
        }
        let mut tree = Tree::new(u64::MAX);
        tree.get_mut(InodeId::ROOT).attributes = self.attributes(b"");
        for path in paths {
            let (mut here, mut done) = (InodeId::ROOT, 0);
            for name in path.split(|byte| *byte == b'/') {
                done += name.len();
                here = match tree.child(here, name) {
                    Some(found) => found,
                    // Those on the way cover what is below them, too.
                    None => {
                        tree.add_directory(here, name, self.attributes(&path[..done]), false)?
                    }
                };
                done += 1;
            }
        }
        erofs::finish(DataWriter::new(disk, spool)?, &tree, [0; 16]).map(Some)
    }

    fn attributes(&self, path: &[u8]) -> Attributes {
        let known = self.known.get(path).cloned();
        known.unwrap_or_else(|| Attributes::implied(crate::tarfile::Time::default()))
    }
}
