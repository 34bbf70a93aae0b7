//! The file tree of one layer, in memory: everything but the contents of files.
//!
//! An entry that a later one replaces is merely cut off; what counts in the end is what can be
//! reached from the root.

use std::collections::BTreeMap;

use super::{LayerError, path};
use crate::tarfile::{Time, Xattr};

/// As many symlinks as the kernel follows in one path.
const MAX_SYMLINKS: usize = 40;
/// Components that the symlinks of one layer may add to paths in all: a few bytes of archive
/// must not cost thousands of lookups over and over.
const MAX_FOLLOWED: u64 = 20_000_000;

/// An inode's place in [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InodeId(u32);

impl InodeId {
    pub(crate) const ROOT: InodeId = InodeId(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What every kind of file has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    /// Permission bits, set-id and sticky bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub xattrs: Vec<Xattr>,
}

impl Attributes {
    /// Of a directory that no entry describes.
    pub(crate) fn implied(mtime: Time) -> Self {
        Attributes {
            mode: 0o755,
            mtime,
            ..Attributes::default()
        }
    }
}

#[derive(Debug)]
pub(crate) struct Inode {
    pub attributes: Attributes,
    pub body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Directory(Directory),
    File(FileData),
    Symlink(Box<[u8]>),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// Hides the name in the layers below.
    Whiteout,
}

#[derive(Debug)]
pub(crate) struct Directory {
    pub parent: InodeId,
    /// Sorted by bytes, as EROFS wants its directories.
    pub entries: BTreeMap<Box<[u8]>, InodeId>,
    /// Hides what the layers below have in this directory.
    pub opaque: bool,
    /// No entry describes it: it is there because something is in it.
    pub implied: bool,
}

/// Where a file's contents are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileData {
    pub size: u64,
    /// The first block of what is stored as whole blocks.
    pub first_block: u32,
    /// Where in the spool the bytes after the last whole block are, if not in a block.
    pub tail: Option<u64>,
    /// For a file with holes: the first block of each chunk, or [`FileData::HOLE`].
    pub chunks: Option<Box<[u32]>>,
}

impl FileData {
    pub(crate) const HOLE: u32 = u32::MAX;
}

#[derive(Debug)]
pub(crate) struct Tree {
    inodes: Vec<Inode>,
    max_inodes: u64,
    followed: u64,
}

/// Where a path leads.
pub(crate) enum Walk {
    Found(InodeId),
    Missing,
}

impl Tree {
    pub(crate) fn new(max_inodes: u64) -> Self {
        let root = Directory {
            parent: InodeId::ROOT,
            entries: BTreeMap::new(),
            opaque: false,
            implied: true,
        };
        let attributes = Attributes::implied(Time::default());
        let max_inodes = max_inodes.min(u64::from(u32::MAX));
        Tree {
            inodes: vec![Inode {
                attributes,
                body: Body::Directory(root),
            }],
            max_inodes,
            followed: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.inodes.len()
    }

    pub(crate) fn get(&self, id: InodeId) -> &Inode {
        &self.inodes[id.index()]
    }

    pub(crate) fn get_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.index()]
    }

    pub(crate) fn directory(&self, id: InodeId) -> Option<&Directory> {
        match &self.get(id).body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(crate) fn directory_mut(&mut self, id: InodeId) -> Option<&mut Directory> {
        match &mut self.get_mut(id).body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Whether there is a directory below the root that no entry describes.
    pub(crate) fn has_implied(&self) -> bool {
        let mut others = self.inodes.iter().skip(1);
        others.any(|inode| matches!(&inode.body, Body::Directory(directory) if directory.implied))
    }

    pub(crate) fn child(&self, parent: InodeId, name: &[u8]) -> Option<InodeId> {
        self.directory(parent)?.entries.get(name).copied()
    }

    /// Gives `parent` the entry `name`, in place of any it had.
    pub(crate) fn link(&mut self, parent: InodeId, name: &[u8], inode: InodeId) {
        if let Some(directory) = self.directory_mut(parent) {
            directory.entries.insert(name.into(), inode);
        }
    }

    pub(crate) fn add(&mut self, inode: Inode) -> Result<InodeId, LayerError> {
        if self.inodes.len() as u64 >= self.max_inodes {
            return Err(LayerError::TooManyEntries {
                // Whoever reads the archive knows it.
                entry: String::new(),
                limit: self.max_inodes,
            });
        }
        self.inodes.push(inode);
        Ok(InodeId((self.inodes.len() - 1) as u32))
    }

    pub(crate) fn add_directory(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: Attributes,
        opaque: bool,
    ) -> Result<InodeId, LayerError> {
        let directory = Directory {
            parent,
            entries: BTreeMap::new(),
            opaque,
            implied: false,
        };
        let id = self.add(Inode {
            attributes,
            body: Body::Directory(directory),
        })?;
        self.link(parent, name, id);
        Ok(id)
    }

    /// The directory at `path`. Symlinks on the way are followed within the root, as in a
    /// chroot; what is missing is made with `implied` attributes, if they are given.
    pub(crate) fn walk(
        &mut self,
        path: &[&[u8]],
        implied: Option<&Attributes>,
        entry: &[u8],
    ) -> Result<Walk, LayerError> {
        let not_directory = || LayerError::NotADirectory {
            entry: LayerError::shown(entry),
        };
        let mut rest: Vec<Box<[u8]>> = path.iter().rev().map(|part| (*part).into()).collect();
        let mut here = InodeId::ROOT;
        let mut symlinks = 0;
        while let Some(part) = rest.pop() {
            match &*part {
                b"" | b"." => continue,
                b".." => {
                    here = self
                        .directory(here)
                        .map_or(InodeId::ROOT, |directory| directory.parent);
                    continue;
                }
                _ => {}
            }
            let next = self.child(here, &part);
            here = match next.map(|id| (id, &self.get(id).body)) {
                Some((id, Body::Directory(_))) => id,
                Some((id, Body::Symlink(_))) => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        let entry = LayerError::shown(entry);
                        return Err(LayerError::SymlinkLoop { entry });
                    }
                    self.follow(id, here, &mut rest, entry)?
                }
                found @ (None | Some((_, Body::Whiteout))) => {
                    let Some(implied) = implied else {
                        return Ok(Walk::Missing);
                    };
                    // A symlink's target may hold what an entry's name may not.
                    if part.len() > path::MAX_NAME {
                        return Err(path::bad(
                            entry,
                            "a symlink on its way names the impossible",
                        ));
                    }
                    let opaque = found.is_some();
                    let made = self.add_directory(here, &part, implied.clone(), opaque)?;
                    if let Some(directory) = self.directory_mut(made) {
                        directory.implied = true;
                    }
                    made
                }
                Some(_) => return Err(not_directory()),
            };
        }
        Ok(Walk::Found(here))
    }

    /// Puts the components of a symlink's target before the rest of the path; where they begin.
    fn follow(
        &mut self,
        symlink: InodeId,
        here: InodeId,
        rest: &mut Vec<Box<[u8]>>,
        entry: &[u8],
    ) -> Result<InodeId, LayerError> {
        let Body::Symlink(target) = &self.get(symlink).body else {
            return Ok(here);
        };
        let absolute = target.starts_with(b"/");
        let before = rest.len();
        rest.extend(target.split(|byte| *byte == b'/').rev().map(Box::from));
        self.followed += (rest.len() - before) as u64;
        if self.followed > MAX_FOLLOWED {
            let (entry, limit) = (LayerError::shown(entry), MAX_FOLLOWED);
            return Err(LayerError::TooManyLookups { entry, limit });
        }
        Ok(if absolute { InodeId::ROOT } else { here })
    }
}
