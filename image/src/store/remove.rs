//! Taking names and images away.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;

use super::broken::{Doomed, unless_damaged};
use super::hold::Removal;
use super::{Store, StoreError, files};
use crate::digest::Digest;
use crate::reference::Reference;

/// What [`Store::remove`] has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The names that are gone.
    pub untagged: Vec<Reference>,
    /// The image's id, when its last name went and the image with it.
    pub deleted: Option<Digest>,
    /// Bytes given back to the file system.
    pub freed: u64,
}

/// Why an image cannot be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is none.
    #[error("no such image: {target}")]
    Absent {
        /// Name or id as given.
        target: String,
    },
    /// It is the last name of an image that something still uses.
    #[error("image {target} ({id}) is in use by {users}",
        id = .id.short(), users = .users.join(", "))]
    InUse {
        /// Name or id as given.
        target: String,
        /// The image's id.
        id: Digest,
        /// Who uses it.
        users: Vec<String>,
    },
    /// An id was given, and the image has several names.
    #[error("image {id} has several names ({names}): remove it by each name", id = .id.short(),
        names = .names.iter().map(Reference::familiar).collect::<Vec<_>>().join(", "))]
    ManyNames {
        /// The image's id.
        id: Digest,
        /// Its names.
        names: Vec<Reference>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Removes a name, as [`Removal::remove`] does, when no others are removed.
    pub fn remove(
        &self,
        target: &str,
        in_use: &BTreeMap<Digest, Vec<String>>,
    ) -> Result<Removed, RemoveError> {
        self.removal()?.remove(target, in_use, false)
    }
}

impl Removal<'_> {
    /// Removes a name, given in any form that [`Store::find`] takes, and with an image's last
    /// name the image: blobs and disks that no other image has. `in_use` tells by image id who
    /// uses it; such an image keeps its last name. With `all_names` an id stands for every name
    /// of its image.
    pub fn remove(
        &self,
        target: &str,
        in_use: &BTreeMap<Digest, Vec<String>>,
        all_names: bool,
    ) -> Result<Removed, RemoveError> {
        let store = self.store;
        let absent = || RemoveError::Absent {
            target: target.to_owned(),
        };
        let image = match unless_damaged(store.find(target))? {
            Some(image) => Some(Doomed::from(image)),
            None => {
                let broken = store.find_broken(target)?;
                broken.map(|broken| Doomed::of_broken(store, broken))
            }
        };
        let image = image.ok_or_else(absent)?;
        let name = named(target, &image);
        let is_digest = name.as_ref().is_some_and(|name| name.digest().is_some());
        if name.is_none() && image.names.len() > 1 && !all_names {
            return Err(RemoveError::ManyNames {
                id: image.id,
                names: image.names,
            });
        }
        let others = if is_digest {
            image.names.len() + image.digests.len() - 1
        } else {
            image.names.len().saturating_sub(1)
        };
        if name.is_some() && others > 0 {
            let untagged: Vec<Reference> = name.into_iter().collect();
            let freed = store.remove_names(&untagged)?;
            return Ok(Removed {
                untagged,
                deleted: None,
                freed,
            });
        }
        let mut users = in_use.get(&image.id).cloned().unwrap_or_default();
        if users.is_empty() && self.held()?.contains(&image.id) {
            users.push("a command that is starting a pod".to_owned());
        }
        if !users.is_empty() {
            let target = target.to_owned();
            return Err(RemoveError::InUse {
                target,
                id: image.id,
                users,
            });
        }
        // Names, record, contents: a crash between the steps leaves only what a sweep finds, and
        // the scratch directory makes the next opening of the store sweep.
        let scratch = store.scratch(&self.lock)?;
        let mut freed = store.remove_names(&image.names)?;
        freed += store.remove_names(&image.digests)?;
        freed += files::remove_file(&store.record_path(image.manifest))?;
        files::sync_dir(&store.root.join("images"))?;
        freed += store.sweep_unreachable()?;
        fs::remove_dir_all(&scratch).map_err(StoreError::io("remove", &scratch))?;
        Ok(Removed {
            untagged: image.names,
            deleted: Some(image.id),
            freed,
        })
    }
}

impl Store {
    pub(super) fn remove_names(&self, names: &[Reference]) -> Result<u64, StoreError> {
        let mut freed = 0;
        for name in names {
            freed += files::remove_file(&self.name_path(name))?;
        }
        files::sync_dir(&self.root.join("names"))?;
        Ok(freed)
    }

    /// Removes blobs and layers that no image record or lease leads to; the bytes freed. The caller holds
    /// the lock.
    pub(crate) fn sweep_unreachable(&self) -> Result<u64, StoreError> {
        let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for record in self.records()?.into_iter().chain(self.lost_records()?) {
            blobs.extend(record.blobs().map(|digest| OsString::from(digest.hex())));
            let disks = record.disks();
            layers.extend(disks.map(|disk| OsString::from(format!("{}.erofs", disk.hex()))));
        }
        for lease in self.leases()? {
            blobs.extend(
                lease
                    .blobs
                    .iter()
                    .map(|digest| OsString::from(digest.hex())),
            );
            let disks = lease.layers.iter();
            layers.extend(disks.map(|diff_id| OsString::from(format!("{}.erofs", diff_id.hex()))));
        }
        let mut freed = self.sweep_ingest()?;
        for (part, keep) in [("blobs/sha256", blobs), ("layers", layers)] {
            let dir = self.root.join(part);
            for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
                let entry = entry.map_err(StoreError::io("list", &dir))?;
                if !keep.contains(&entry.file_name()) {
                    freed += files::remove_file(&entry.path())?;
                }
            }
        }
        Ok(freed)
    }
}

/// The image's name that `target` spells, if it spells one and no id.
fn named(target: &str, image: &Doomed) -> Option<Reference> {
    let reference = target.parse::<Reference>().ok()?;
    let reference = match reference.digest() {
        Some(digest) => reference.with_digest(digest),
        None => reference,
    };
    let mut all = image.names.iter().chain(&image.digests);
    all.find(|name| **name == reference).cloned()
}
