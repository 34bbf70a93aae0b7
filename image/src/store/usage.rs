//! What images take on the disk, alone and together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Image, Store, StoreError};
use crate::digest::Digest;

/// `st_blocks` counts these, whatever the file system's own are.
const BLOCK: u64 = 512;

/// What one image takes on the disk, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// Its layers' disks.
    pub disks: u64,
    /// What it came as: manifest, configuration and packed layers.
    pub blobs: u64,
    /// Of both, what other images have too.
    pub shared: u64,
    /// Of both, what would be free without it.
    pub unique: u64,
}

/// What the store takes on the disk, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Each image.
    pub images: Vec<ImageUsage>,
    /// All images together, what they share counted once.
    pub total: u64,
    /// Images that cannot be used, as far as no other has their parts.
    pub damaged: u64,
    /// Pulls that are under way or were interrupted, and whatever no image leads to.
    pub unfinished: u64,
    parts: BTreeMap<PathBuf, (u64, BTreeSet<Digest>)>,
}

impl Usage {
    /// What would be free without all images but those with these identifiers.
    pub fn reclaimable(&self, kept: &BTreeSet<Digest>) -> u64 {
        let lost = self
            .parts
            .values()
            .filter(|(_, users)| users.is_disjoint(kept));
        lost.map(|(size, _)| size).sum()
    }
}

impl Store {
    /// Looks at every file of the store.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        let images = self.list()?;
        let mut of_image = Vec::new();
        for image in images {
            let Some(record) = self.read_record(image.manifest_digest)? else {
                continue;
            };
            let blobs: BTreeSet<PathBuf> =
                record.blobs().map(|blob| self.blob_path(blob)).collect();
            let disks = image.layers.iter().map(|layer| layer.path.clone());
            let disks: BTreeSet<PathBuf> = disks.collect();
            for path in blobs.iter().chain(&disks) {
                let known = usage.parts.entry(path.clone());
                let part = known.or_insert_with(|| (allocated(path), BTreeSet::new()));
                part.1.insert(image.id);
            }
            of_image.push((image, disks, blobs));
        }
        for (image, disks, blobs) in of_image {
            let size = |paths: &BTreeSet<PathBuf>, only: Option<bool>| -> u64 {
                let parts = paths.iter().filter_map(|path| usage.parts.get(path));
                let parts =
                    parts.filter(|(_, users)| only.is_none_or(|one| (users.len() == 1) == one));
                parts.map(|(size, _)| size).sum()
            };
            let found = ImageUsage {
                disks: size(&disks, None),
                blobs: size(&blobs, None),
                shared: size(&disks, Some(false)) + size(&blobs, Some(false)),
                unique: size(&disks, Some(true)) + size(&blobs, Some(true)),
                image,
            };
            usage.images.push(found);
        }
        usage.total = usage.parts.values().map(|(size, _)| size).sum();
        let mut damaged = BTreeSet::new();
        for record in self.records()?.into_iter().chain(self.lost_records()?) {
            damaged.extend(record.blobs().map(|blob| self.blob_path(blob)));
            damaged.extend(record.disks().map(|disk| self.layer_path(disk)));
        }
        damaged.retain(|path| !usage.parts.contains_key(path));
        usage.damaged = damaged.iter().map(|path| allocated(path)).sum();
        let every =
            ["blobs", "layers", "ingest", "tmp"].map(|part| allocated(&self.root.join(part)));
        usage.unfinished = every.iter().sum::<u64>();
        let known = usage.total + usage.damaged;
        usage.unfinished = usage.unfinished.saturating_sub(known);
        Ok(usage)
    }
}

/// What a file takes on the disk, or a directory with all that is below it, in bytes;
/// nothing when it has gone. Links are not followed.
#[must_use]
pub fn allocated(path: &Path) -> u64 {
    walk(path, &mut |found| match found.is_dir() {
        true => 0,
        false => found.blocks() * BLOCK,
    })
}

/// What a directory with all that is below it takes on the disk, in bytes, and how many
/// inodes. Links are not followed.
#[must_use]
pub fn footprint(path: &Path) -> (u64, u64) {
    let mut inodes = 0;
    let bytes = walk(path, &mut |found| {
        inodes += 1;
        found.blocks() * BLOCK
    });
    (bytes, inodes)
}

fn walk(path: &Path, count: &mut impl FnMut(&fs::Metadata) -> u64) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else {
        return 0;
    };
    let own = count(&found);
    if !found.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| walk(&entry.path(), count)).sum::<u64>()
}
