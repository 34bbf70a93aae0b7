//! One tar entry after the other into the tree, with the meaning that docker and containerd
//! give them.

use std::io::{Read, Seek, Write};

use super::path::{self, components};
use super::tree::{Attributes, Body, Inode, InodeId, Tree, Walk};
use super::{LayerError, Limits};
use crate::erofs::{self, DataWriter};
use crate::tarfile::{Entry, Kind, Reader, Xattr};

/// A file of this name hides the rest of its name in the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// A file of this name hides all that the layers below have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names of this kind are AUFS's own and mean nothing.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// Overlayfs would take these as its own, and nothing in a layer may steer it: such attributes
/// are remains of an overlay that was packed, or an attack.
const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// The longest target that the kernel follows.
const MAX_SYMLINK: usize = 4095;

/// A layer in the making.
pub(super) struct Builder<'a, O, S> {
    pub tree: Tree,
    pub data: DataWriter<O, S>,
    limits: &'a Limits,
    file_bytes: u64,
    metadata_bytes: u64,
}

impl<'a, O: Write + Seek, S: Read + Write + Seek> Builder<'a, O, S> {
    pub(super) fn new(data: DataWriter<O, S>, limits: &'a Limits) -> Self {
        let tree = Tree::new(limits.max_entries);
        Builder {
            tree,
            data,
            limits,
            file_bytes: 0,
            metadata_bytes: 0,
        }
    }

    /// Applies `entry`, whose contents `reader` is about to give.
    pub(super) fn apply<R: Read>(
        &mut self,
        mut entry: Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), LayerError> {
        if entry.kind == Kind::Label {
            return Ok(());
        }
        let whole = std::mem::take(&mut entry.path);
        let parts = components(&whole, &whole, self.limits)?;
        let attributes = self.attributes(&mut entry, &whole)?;
        let Some((name, parents)) = parts.split_last() else {
            return self.root(entry.kind, attributes, &whole);
        };
        if parts[0].starts_with(WHITEOUT_META) && parts[0] != OPAQUE {
            return Ok(());
        }
        let implied = Attributes::implied(entry.mtime);
        let parent = match self.tree.walk(parents, Some(&implied), &whole)? {
            Walk::Found(parent) => parent,
            Walk::Missing => return Err(path::bad(&whole, "its parent vanished")),
        };
        match name.strip_prefix(WHITEOUT) {
            Some(_) if *name == OPAQUE => self.opaque(parent, &whole),
            Some(_) if name.starts_with(WHITEOUT_META) => Ok(()),
            Some(b"" | b"." | b"..") => Err(path::bad(&whole, "it hides no name")),
            Some(hidden) => self.whiteout(parent, hidden, attributes),
            None if entry.kind == Kind::Directory => self.directory(parent, name, attributes),
            None => {
                let inode = match entry.kind {
                    Kind::HardLink => self.link_target(&entry.link, &whole)?,
                    _ => {
                        let body = self.body(&entry, &attributes, reader, &whole)?;
                        self.tree.add(Inode { attributes, body })?
                    }
                };
                self.tree.link(parent, name, inode);
                Ok(())
            }
        }
    }

    /// What the entry says about owner, mode, time and attributes; counts what stays in memory.
    fn attributes(&mut self, entry: &mut Entry, whole: &[u8]) -> Result<Attributes, LayerError> {
        let mut xattrs = std::mem::take(&mut entry.xattrs);
        let is_long = |(name, _): &&Xattr| erofs::is_long_xattr(name);
        if let Some((name, _)) = xattrs.iter().find(is_long) {
            return Err(LayerError::XattrTooLong {
                entry: LayerError::shown(whole),
                name: LayerError::shown(name),
            });
        }
        xattrs.retain(|(name, _)| {
            erofs::is_storable_xattr(name)
                && !OVERLAY_XATTRS
                    .iter()
                    .any(|overlay| name.starts_with(overlay))
        });
        xattrs.sort();
        erofs::check_xattrs(&xattrs).map_err(|(name, _)| LayerError::XattrTooLong {
            entry: LayerError::shown(whole),
            name: LayerError::shown(name),
        })?;
        let held: usize = xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.metadata_bytes += (whole.len() + entry.link.len() + held) as u64;
        let limit = self.limits.max_metadata_bytes;
        if self.metadata_bytes > limit {
            return Err(too_large(whole, "names and attributes", limit));
        }
        let (uid, gid, mtime) = (entry.uid, entry.gid, entry.mtime);
        // Linux shows every symlink so; archives hold whatever their writer had.
        let mode = if entry.kind == Kind::Symlink {
            0o777
        } else {
            entry.mode
        };
        Ok(Attributes {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        })
    }

    fn root(&mut self, kind: Kind, attributes: Attributes, whole: &[u8]) -> Result<(), LayerError> {
        if kind != Kind::Directory {
            return Err(path::bad(whole, "it is the root and no directory"));
        }
        self.tree.get_mut(InodeId::ROOT).attributes = attributes;
        if let Some(directory) = self.tree.directory_mut(InodeId::ROOT) {
            directory.implied = false;
        }
        Ok(())
    }

    /// A directory keeps what it contains when it is described again; anything else makes way.
    fn directory(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: Attributes,
    ) -> Result<(), LayerError> {
        let existing = self.tree.child(parent, name);
        match existing.map(|id| (id, &self.tree.get(id).body)) {
            Some((id, Body::Directory(_))) => {
                self.tree.get_mut(id).attributes = attributes;
                if let Some(directory) = self.tree.directory_mut(id) {
                    directory.implied = false;
                }
            }
            found => {
                // Hidden below and new here: nothing from below may shine through.
                let opaque = matches!(found, Some((_, Body::Whiteout)));
                self.tree.add_directory(parent, name, attributes, opaque)?;
            }
        }
        Ok(())
    }

    /// A whiteout concerns the layers below only: what this layer has of that name stays, and
    /// hides what is below anyway, except that directories would be merged.
    fn whiteout(
        &mut self,
        parent: InodeId,
        hidden: &[u8],
        attributes: Attributes,
    ) -> Result<(), LayerError> {
        match self.tree.child(parent, hidden) {
            Some(id) => {
                if let Some(directory) = self.tree.directory_mut(id) {
                    directory.opaque = true;
                }
            }
            None => {
                let attributes = Attributes {
                    mtime: attributes.mtime,
                    ..Attributes::default()
                };
                let id = self.tree.add(Inode {
                    attributes,
                    body: Body::Whiteout,
                })?;
                self.tree.link(parent, hidden, id);
            }
        }
        Ok(())
    }

    fn opaque(&mut self, parent: InodeId, whole: &[u8]) -> Result<(), LayerError> {
        if parent == InodeId::ROOT {
            return Err(LayerError::OpaqueRoot {
                entry: LayerError::shown(whole),
            });
        }
        if let Some(directory) = self.tree.directory_mut(parent) {
            directory.opaque = true;
        }
        Ok(())
    }

    /// The inode that a hard link names. Its path starts at the root, whatever it looks like.
    fn link_target(&mut self, link: &[u8], whole: &[u8]) -> Result<InodeId, LayerError> {
        let error = |problem| LayerError::HardLink {
            entry: LayerError::shown(whole),
            target: LayerError::shown(link),
            problem,
        };
        let missing = "is not in this layer";
        let parts = match components(link, whole, self.limits) {
            Err(LayerError::Escape { .. }) => return Err(error("is outside the image's root")),
            parts => parts?,
        };
        let Some((name, parents)) = parts.split_last() else {
            return Err(error("is a directory"));
        };
        let Walk::Found(parent) = self.tree.walk(parents, None, whole)? else {
            return Err(error(missing));
        };
        let id = self
            .tree
            .child(parent, name)
            .ok_or_else(|| error(missing))?;
        match &self.tree.get(id).body {
            Body::Directory(_) => Err(error("is a directory")),
            Body::Whiteout => Err(error(missing)),
            _ => Ok(id),
        }
    }

    fn body<R: Read>(
        &mut self,
        entry: &Entry,
        attributes: &Attributes,
        reader: &mut Reader<R>,
        whole: &[u8],
    ) -> Result<Body, LayerError> {
        let (major, minor) = entry.device;
        // The kernel's device numbers have 12 and 20 bits.
        let device_fits = major < 1 << 12 && minor < 1 << 20;
        match entry.kind {
            Kind::CharDevice | Kind::BlockDevice if !device_fits => {
                let entry = LayerError::shown(whole);
                Err(LayerError::DeviceNumber {
                    entry,
                    major,
                    minor,
                })
            }
            Kind::CharDevice => Ok(Body::CharDevice { major, minor }),
            Kind::BlockDevice => Ok(Body::BlockDevice { major, minor }),
            Kind::Fifo => Ok(Body::Fifo),
            Kind::Symlink if entry.link.is_empty() || entry.link.len() > MAX_SYMLINK => {
                Err(path::bad(
                    whole,
                    "a symlink's target is empty or longer than 4095 bytes",
                ))
            }
            Kind::Symlink => Ok(Body::Symlink(entry.link.as_slice().into())),
            Kind::Regular => {
                self.file_bytes = self.file_bytes.saturating_add(entry.size);
                let limit = self.limits.max_file_bytes;
                if self.file_bytes > limit {
                    return Err(too_large(whole, "the layer's files", limit));
                }
                let runs = &entry.runs;
                self.data
                    .file(reader, entry.size, runs, &attributes.xattrs)
                    .map(Body::File)
            }
            Kind::Other(flag) => {
                let (entry, flag) = (LayerError::shown(whole), char::from(flag));
                Err(LayerError::UnknownType { entry, flag })
            }
            Kind::Directory | Kind::HardLink | Kind::Label => {
                Err(path::bad(whole, "its type has no contents"))
            }
        }
    }
}

fn too_large(whole: &[u8], what: &'static str, limit: u64) -> LayerError {
    LayerError::TooLarge {
        entry: LayerError::shown(whole),
        what,
        limit,
    }
}
