//! What the guest refers to by number: nodes and open files.

use rustix::fs::{FileType, Stat, StatVfsMountFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::OwnedFd;

/// The number of the shared directory itself (`FUSE_ROOT_ID`).
pub const ROOT: u64 = 1;

/// Descriptors that are kept for the process itself.
const RESERVED: usize = 64;

/// What one file is known by: its file system, its number there, and whether it was
/// reached through a mount that is read-only. A file that two mounts lead to is one
/// file, but not where only one of them may be written to.
type Key = (u64, u64, bool);

/// A file of any kind that the guest knows of.
#[derive(Debug)]
pub struct Node {
    /// Open with `O_PATH`: it stays this file whatever its name becomes.
    pub fd: OwnedFd,
    /// What it is. Never changes.
    pub kind: FileType,
    key: Key,
    lookups: u64,
}

/// A file or directory that the guest has open.
#[derive(Debug)]
pub struct Handle {
    /// Open for what the guest asked for.
    pub fd: OwnedFd,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// All nodes and handles, together as many as there are descriptors.
#[derive(Debug)]
pub struct Table {
    nodes: HashMap<u64, Node>,
    known: HashMap<Key, u64>,
    handles: HashMap<u64, Handle>,
    /// Numbers are never used again.
    last: u64,
    most: usize,
}

impl Table {
    /// A table in which the root is the only node. `is_alias`: the root stands
    /// for something else, so that its file gets a number of its own.
    #[must_use]
    pub fn new(root: OwnedFd, stat: &Stat, is_alias: bool, descriptors: usize) -> Self {
        let mut table = Self {
            nodes: HashMap::new(),
            known: HashMap::new(),
            handles: HashMap::new(),
            last: ROOT,
            most: descriptors.saturating_sub(RESERVED),
        };
        let root = node(root, stat);
        if !is_alias {
            table.known.insert(root.key, ROOT);
        }
        table.nodes.insert(ROOT, root);
        table
    }

    /// Forgets all but the root: a new session begins.
    pub fn clear(&mut self) {
        self.handles.clear();
        self.nodes.retain(|number, _| *number == ROOT);
        self.known.retain(|_, number| *number == ROOT);
    }

    /// How many nodes and handles there are, the root among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len() + self.handles.len()
    }

    /// Never: the root is always there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node of that number.
    pub fn node(&self, number: u64) -> Result<&Node, Errno> {
        self.nodes.get(&number).ok_or(Errno::STALE)
    }

    /// The handle of that number.
    pub fn handle(&self, number: u64) -> Result<&Handle, Errno> {
        self.handles.get(&number).ok_or(Errno::BADF)
    }

    /// The number of a file that the guest has looked up; one more lookup is
    /// counted. `ENFILE` when the table is full.
    pub fn intern(&mut self, fd: OwnedFd, stat: &Stat) -> Result<u64, Errno> {
        let fresh = node(fd, stat);
        if let Some(number) = self.known.get(&fresh.key) {
            let known = self.nodes.get_mut(number).ok_or(Errno::STALE)?;
            known.lookups = known.lookups.saturating_add(1);
            return Ok(*number);
        }
        let number = self.number()?;
        self.known.insert(fresh.key, number);
        self.nodes.insert(number, fresh);
        Ok(number)
    }

    /// Takes `count` lookups back; a node without any is gone.
    pub fn forget(&mut self, number: u64, count: u64) {
        if number == ROOT {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&number) {
            node.lookups = node.lookups.saturating_sub(count);
            if node.lookups == 0 {
                self.known.remove(&node.key);
                self.nodes.remove(&number);
            }
        }
    }

    /// Whether another handle or node fits, before one is opened.
    pub fn room(&self) -> Result<(), Errno> {
        if self.len() < self.most {
            Ok(())
        } else {
            Err(Errno::NFILE)
        }
    }

    /// The number of a new handle.
    pub fn open(&mut self, handle: Handle) -> Result<u64, Errno> {
        let number = self.number()?;
        self.handles.insert(number, handle);
        Ok(number)
    }

    /// Closes a handle.
    pub fn close(&mut self, number: u64) -> Result<(), Errno> {
        self.handles.remove(&number).map(drop).ok_or(Errno::BADF)
    }

    fn number(&mut self) -> Result<u64, Errno> {
        self.room()?;
        self.last += 1;
        Ok(self.last)
    }
}

fn node(fd: OwnedFd, stat: &Stat) -> Node {
    let mount = rustix::fs::fstatvfs(&fd);
    let is_read_only = mount.is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    Node {
        fd,
        kind: FileType::from_raw_mode(stat.st_mode),
        key: (stat.st_dev, stat.st_ino, is_read_only),
        lookups: 1,
    }
}
