//! Removing what nobody needs.

use std::collections::BTreeMap;
use std::fs;

use super::hold::Removal;
use super::{Image, StoreError, files};
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

    /// Removes images that nobody uses, and whatever no image leads to.
    pub fn prune(
        &self,
        which: Unused,
        in_use: &BTreeMap<Digest, Vec<String>>,
    ) -> Result<Pruned, StoreError> {
        let store = self.store;
        let images = self.unused(which, in_use)?;
        // As in a removal by name: killed between two steps, it leaves a store that is whole.
        let scratch = store.scratch(&self.lock)?;
        let mut freed = 0;
        for image in &images {
            freed += store.remove_names(&image.names)?;
            freed += store.remove_names(&image.digests)?;
            freed += files::remove_file(&store.record_path(image.manifest_digest))?;
        }
        files::sync_dir(&store.root.join("images"))?;
        freed += store.sweep_unreachable()?;
        fs::remove_dir_all(&scratch).map_err(StoreError::io("remove", &scratch))?;
        Ok(Pruned { images, freed })
    }
}
