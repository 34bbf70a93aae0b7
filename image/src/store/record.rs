//! The records that tie names to manifests and manifests to blobs.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::broken::unless_damaged;
use super::{Store, StoreError, files as atomic};
use crate::digest::Digest;
use crate::reference::Reference;

/// What an image consists of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub manifest: Digest,
    pub config: Digest,
    /// Lowest first.
    pub layers: Vec<LayerRecord>,
    /// A disk on top of them, for directories that some of them have without describing them; by
    /// its own digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents: Option<Digest>,
}

/// One layer: as it came, and what was made of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub blob: Digest,
    pub diff_id: Digest,
}

#[derive(Serialize, Deserialize)]
pub(super) struct NameRecord {
    name: Reference,
    manifest: Digest,
    /// A registry gave it this name, not somebody here.
    #[serde(default)]
    pulled: bool,
}

impl ImageRecord {
    /// What its disks are called, lowest first.
    pub(crate) fn disks(&self) -> impl Iterator<Item = Digest> {
        let own = self.layers.iter().map(|layer| layer.diff_id);
        own.chain(self.parents)
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = Digest> {
        [self.manifest, self.config]
            .into_iter()
            .chain(self.layers.iter().map(|layer| layer.blob))
    }
}

impl Store {
    /// Stores an image's record. Its blobs and layers are in place.
    pub(crate) fn write_record(
        &self,
        scratch: &Path,
        record: &ImageRecord,
    ) -> Result<(), StoreError> {
        write_json(scratch, &self.record_path(record.manifest), record)
    }

    /// Gives `name` to the image of that manifest, whoever had it before.
    pub(crate) fn write_name(
        &self,
        scratch: &Path,
        name: &Reference,
        manifest: Digest,
    ) -> Result<(), StoreError> {
        let record = NameRecord {
            name: name.clone(),
            manifest,
            pulled: false,
        };
        write_json(scratch, &self.name_path(name), &record)
    }

    /// Gives an image the names that a pull found it under: the tag, and the digest that the
    /// registry has for it, which may be an index's.
    pub(crate) fn write_pulled_names(
        &self,
        scratch: &Path,
        name: &Reference,
        digest: Digest,
        manifest: Digest,
    ) -> Result<(), StoreError> {
        let by_tag = name.digest().is_none().then(|| name.clone());
        for name in [name.with_digest(digest)].into_iter().chain(by_tag) {
            let path = self.name_path(&name);
            let pulled = true;
            let record = NameRecord {
                name,
                manifest,
                pulled,
            };
            write_json(scratch, &path, &record)?;
        }
        Ok(())
    }

    /// The identifier of the image that has this name now, if it is another one.
    pub(crate) fn bearer(&self, name: &Reference, other_than: Digest) -> Option<Digest> {
        let manifest = self.read_name(name).ok().flatten()?;
        let record = self.read_record(manifest).ok().flatten()?;
        (manifest != other_than).then_some(record.config)
    }

    /// Whether a name was given by a registry and not by somebody here.
    pub fn was_pulled(&self, name: &Reference) -> Result<bool, StoreError> {
        let record = unless_damaged(read_json::<NameRecord>(&self.name_path(name)))?;
        Ok(record.is_some_and(|record| record.pulled))
    }

    pub(super) fn read_record(&self, manifest: Digest) -> Result<Option<ImageRecord>, StoreError> {
        read_json(&self.record_path(manifest))
    }

    pub(super) fn read_name(&self, name: &Reference) -> Result<Option<Digest>, StoreError> {
        // A name whose record is damaged is as good as none: a pull or a load gives it anew.
        let record = unless_damaged(read_json::<NameRecord>(&self.name_path(name)))?;
        Ok(record.map(|record| record.manifest))
    }

    pub(crate) fn records(&self) -> Result<Vec<ImageRecord>, StoreError> {
        read_all(&self.root.join("images"))
    }

    /// Every name with the manifest it means.
    pub(super) fn names(&self) -> Result<Vec<(Reference, Digest)>, StoreError> {
        let records = read_all::<NameRecord>(&self.root.join("names"))?;
        Ok(records
            .into_iter()
            .map(|record| (record.name, record.manifest))
            .collect())
    }

    pub(crate) fn record_path(&self, manifest: Digest) -> PathBuf {
        self.root
            .join("images")
            .join(format!("{}.json", manifest.hex()))
    }

    /// Names hold slashes and may be longer than a file name.
    pub(super) fn name_path(&self, name: &Reference) -> PathBuf {
        let hex = Digest::of(name.to_string().as_bytes()).hex();
        self.root.join("names").join(format!("{hex}.json"))
    }
}

pub(super) fn write_json(
    scratch: &Path,
    path: &Path,
    record: &impl Serialize,
) -> Result<(), StoreError> {
    let mut text = serde_json::to_vec_pretty(record).map_err(|source| StoreError::Record {
        path: path.to_owned(),
        source,
    })?;
    text.push(b'\n');
    atomic::write(scratch, path, &text)
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let Some(bytes) = atomic::read(path)? else {
        return Ok(None);
    };
    let record = serde_json::from_slice(&bytes);
    record.map(Some).map_err(|source| StoreError::Record {
        path: path.to_owned(),
        source,
    })
}

/// Every record in `dir` that can be read. One that is removed meanwhile is left out.
fn read_all<T: DeserializeOwned>(dir: &Path) -> Result<Vec<T>, StoreError> {
    let mut records = Vec::new();
    for path in files(dir)? {
        records.extend(unless_damaged(read_json(&path))?);
    }
    Ok(records)
}

pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(dir).and_then(|entries| {
        let paths = entries.map(|entry| Ok(entry?.path()));
        paths.collect::<std::io::Result<Vec<PathBuf>>>()
    });
    entries.map_err(StoreError::io("list", dir))
}
