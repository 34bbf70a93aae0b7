//! Removing what nobody needs.

use std::collections::BTreeMap;
use std::fs;

use super::hold::Removal;
use super::{Broken, Image, StoreError, files};
use crate::digest::Digest;

/// Which images [`Removal::prune`] takes, of those that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// Those that no tag names.
    Untagged,
    /// All.
    All,
}

/// What [`Removal::prune`] has removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// The images, as they were.
    pub images: Vec<Image>,
    /// Those of which something was missing.
    pub broken: Vec<Broken>,
    /// Bytes given back to the file system.
    pub freed: u64,
}

impl Removal<'_> {
    /// The images that [`Removal::prune`] would remove.
    pub fn unused(
        &self,
        which: Unused,
        in_use: &BTreeMap<Digest, Vec<String>>,
    ) -> Result<Vec<Image>, StoreError> {
        let held = self.held()?;
        let mut images = self.store.list()?;
        images.retain(|image| {
            let is_free = !in_use.contains_key(&image.id) && !held.contains(&image.id);
            is_free && (which == Unused::All || image.names.is_empty())
        });
        Ok(images)
    }

    /// The broken ones that [`Removal::prune`] would remove.
    pub fn unused_broken(
        &self,
        which: Unused,
        in_use: &BTreeMap<Digest, Vec<String>>,
    ) -> Result<Vec<Broken>, StoreError> {
        let (held, mut broken) = (self.held()?, self.store.broken()?);
        broken.retain(|one| {
            let id = self.store.id_of(one);
            let is_used = id.is_some_and(|id| in_use.contains_key(&id) || held.contains(&id));
            !is_used && (which == Unused::All || one.names.is_empty())
        });
        Ok(broken)
    }

    /// Removes images that nobody uses, and whatever no image leads to; of all images also what
    /// pulls have left that were interrupted.
    pub fn prune(
        &self,
        which: Unused,
        in_use: &BTreeMap<Digest, Vec<String>>,
    ) -> Result<Pruned, StoreError> {
        let store = self.store;
        let images = self.unused(which, in_use)?;
        let broken = self.unused_broken(which, in_use)?;
        // As in a removal by name: killed between two steps, it leaves a store that is whole.
        let scratch = store.scratch(&self.lock)?;
        let mut freed = 0;
        let whole = images
            .iter()
            .map(|image| (&image.names, &image.digests, image.manifest_digest));
        let others = broken
            .iter()
            .map(|one| (&one.names, &one.digests, one.manifest_digest));
        for (names, digests, manifest) in whole.chain(others) {
            freed += store.remove_names(names)?;
            freed += store.remove_names(digests)?;
            freed += files::remove_file(&store.record_path(manifest))?;
        }
        for lost in store.lost_names()? {
            freed += files::remove_file(&lost)?;
        }
        if which == Unused::All {
            freed += store.end_dead_leases()?;
        }
        files::sync_dir(&store.root.join("images"))?;
        freed += store.sweep_unreachable()?;
        fs::remove_dir_all(&scratch).map_err(StoreError::io("remove", &scratch))?;
        Ok(Pruned {
            images,
            broken,
            freed,
        })
    }
}
