//! The image store: one directory, content-addressed, safe against crashes and concurrent users.
//!
//! ```text
//! blobs/sha256/HEX   manifests, configurations and layers, byte for byte as they came
//! layers/HEX.erofs   one disk per layer, by diffID
//! images/HEX.json    one record per image, by manifest digest: what it consists of
//! names/HEX.json     one record per name, by the name's SHA-256: which manifest it means
//! tmp/PID-N/         what a running load writes; swept when nobody holds the lock
//! ingest/HEX         what a pull has of a blob so far; locked by whoever fetches it
//! leases/HEX.json    by manifest digest: what a pull has finished or will, before there is a record
//! uses/              images that a process is about to use
//! lock               flock: exclusive for whoever changes the store
//! ```
//! Every file appears by rename after fsync, names after the image record, the image record after
//! its blobs and layers. So whatever a reader finds is whole, and readers take no lock. What a
//! crash leaves behind is reachable from no record and goes with the next sweep.

mod broken;
mod check;
mod detail;
mod files;
mod hold;
mod ingest;
mod lease;
mod prune;
mod record;
mod remove;
mod tag;
mod usage;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{ConfigError, ImageConfig};
use crate::digest::Digest;
use crate::reference::Reference;

pub use broken::Broken;
use broken::unless_damaged;
pub use check::Damage;
pub use detail::Details;
pub(crate) use files::commit;
pub use hold::{Hold, Removal};
pub(crate) use ingest::Ingest;
pub(crate) use lease::Lease;
pub use prune::{Pruned, Unused};
pub(crate) use record::{ImageRecord, LayerRecord};
pub use remove::{RemoveError, Removed};
pub use tag::TagError;
pub use usage::{ImageUsage, Usage, allocated, footprint};

/// A directory of images.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// An image in the store: its configuration and the disks of its layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of the configuration: what `docker images` shows as the image's id.
    pub id: Digest,
    /// The digest of the manifest.
    pub manifest_digest: Digest,
    /// Every name that means this image, sorted; empty after all were given to other images.
    pub names: Vec<Reference>,
    /// Digests by which registries know it: a manifest's, or an index's that leads to it.
    pub digests: Vec<Reference>,
    /// The disks, lowest first.
    pub layers: Vec<Layer>,
    /// Defaults for containers.
    pub config: ImageConfig,
    /// Sum of the disks' lengths, in bytes.
    pub size: u64,
}

/// The read-only disk of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The digest of the layer's uncompressed tar.
    pub diff_id: Digest,
    /// The EROFS image.
    pub path: PathBuf,
    /// Its length in bytes, a multiple of 4096.
    pub size: u64,
    /// No layer of the image's own: it describes directories that other layers only have.
    pub is_parents: bool,
}

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot {action} {path}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A record is not what this version writes.
    #[error("the store's record {path} is malformed", path = .path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A stored configuration cannot be read.
    #[error("an image in the store is unusable")]
    Config(#[source] ConfigError),
    /// Several images' ids begin with these digits.
    #[error("{prefix:?} is the beginning of more than one image id: {matches}",
        matches = .matches.iter().map(Digest::short).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// The digits as given.
        prefix: String,
        /// The ids.
        matches: Vec<Digest>,
    },
}

impl StoreError {
    pub(crate) fn io(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| StoreError::Io {
            action,
            path,
            source,
        }
    }
}

/// The right to change the store; given back when dropped.
pub(crate) struct Lock {
    _file: File,
}

impl Store {
    /// Opens the store in `dir` and makes it when there is none. Sweeps what crashed loads have
    /// left, unless another process is at work.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Store, StoreError> {
        let store = Self::open_as_it_is(dir)?;
        if let Some(_lock) = store.try_lock()? {
            store.sweep_after_crash()?;
        }
        Ok(store)
    }

    /// The same without sweeping.
    pub fn open_as_it_is(dir: impl Into<PathBuf>) -> Result<Store, StoreError> {
        let store = Store { root: dir.into() };
        files::own(&store.root)?;
        for part in [
            "blobs/sha256",
            "layers",
            "images",
            "names",
            "tmp",
            "ingest",
            "leases",
            "uses",
        ] {
            let path = store.root.join(part);
            fs::create_dir_all(&path).map_err(StoreError::io("make directory", &path))?;
        }
        Ok(store)
    }

    /// Temporary files that nobody works with: what crashed loads have left.
    pub fn left_by_crashes(&self) -> Result<Vec<PathBuf>, StoreError> {
        match self.try_lock()? {
            Some(_lock) => self.temporary(),
            None => Ok(Vec::new()),
        }
    }

    fn temporary(&self) -> Result<Vec<PathBuf>, StoreError> {
        let tmp = self.root.join("tmp");
        let list = StoreError::io("list", &tmp);
        let entries = fs::read_dir(&tmp).and_then(|entries| {
            let paths = entries.map(|entry| Ok(entry?.path()));
            paths.collect::<std::io::Result<Vec<PathBuf>>>()
        });
        entries.map_err(list)
    }

    /// The image that `reference` means. A digest decides alone where one is given, but only
    /// among images that have a name in that repository.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Image>, StoreError> {
        let manifest = match reference.digest() {
            None => self.read_name(reference)?,
            Some(digest) if self.read_name(&reference.with_digest(digest))?.is_some() => {
                self.read_name(&reference.with_digest(digest))?
            }
            Some(digest) => {
                let mut names = self.names()?.into_iter();
                names
                    .any(|(name, manifest)| manifest == digest && name.same_repository(reference))
                    .then_some(digest)
            }
        };
        manifest.map_or(Ok(None), |manifest| self.image(manifest))
    }

    /// The image of this name, or of this id or the beginning of one (with or without `sha256:`).
    /// Names win, as in docker.
    pub fn find(&self, name_or_id: &str) -> Result<Option<Image>, StoreError> {
        if let Ok(reference) = name_or_id.parse::<Reference>()
            && let Some(image) = self.resolve(&reference)?
        {
            return Ok(Some(image));
        }
        let prefix = name_or_id.strip_prefix("sha256:").unwrap_or(name_or_id);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(|c| c.is_ascii_hexdigit())
        {
            return Ok(None);
        }
        let mut found: Vec<ImageRecord> = self.records()?;
        found.retain(|record| record.config.hex().starts_with(prefix));
        let mut matches: Vec<Digest> = found.iter().map(|record| record.config).collect();
        matches.sort();
        matches.dedup();
        match (matches.len(), found.first()) {
            (0 | 1, first) => first.map_or(Ok(None), |record| self.image(record.manifest)),
            _ => Err(StoreError::Ambiguous {
                prefix: prefix.to_owned(),
                matches,
            }),
        }
    }

    /// Every image, sorted by its first name, the nameless last; without those that
    /// [`Store::broken`] tells of.
    pub fn list(&self) -> Result<Vec<Image>, StoreError> {
        let mut names = BTreeMap::<Digest, Vec<Reference>>::new();
        for (name, manifest) in self.names()? {
            names.entry(manifest).or_default().push(name);
        }
        let mut images = Vec::new();
        for record in self.records()? {
            let names = names.remove(&record.manifest).unwrap_or_default();
            images.extend(unless_damaged(self.assemble_if_kept(record, names))?);
        }
        images.sort_by_cached_key(|image| (image.names.is_empty(), image.names.clone(), image.id));
        Ok(images)
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn image(&self, manifest: Digest) -> Result<Option<Image>, StoreError> {
        let Some(record) = self.read_record(manifest)? else {
            return Ok(None);
        };
        let names = self
            .names()?
            .into_iter()
            .filter(|(_, meant)| *meant == manifest);
        let names = names.map(|(name, _)| name).collect();
        self.assemble_if_kept(record, names)
    }

    /// Readers take no lock: an image may be removed while they look at it. Its record goes
    /// first, so an image whose parts vanish is broken only if the record is still there.
    fn assemble_if_kept(
        &self,
        record: ImageRecord,
        names: Vec<Reference>,
    ) -> Result<Option<Image>, StoreError> {
        let path = self.record_path(record.manifest);
        match self.assemble(record, names) {
            Err(StoreError::Io { .. }) if !path.exists() => Ok(None),
            image => image.map(Some),
        }
    }

    fn assemble(&self, record: ImageRecord, names: Vec<Reference>) -> Result<Image, StoreError> {
        let path = self.blob_path(record.config);
        let blob = fs::read(&path).map_err(StoreError::io("read", &path))?;
        let (config, _) = ImageConfig::parse(record.config, &blob).map_err(StoreError::Config)?;
        let mut layers = Vec::new();
        let parents = record.parents.into_iter().map(|digest| (digest, true));
        let own = record.layers.iter().map(|layer| (layer.diff_id, false));
        for (diff_id, is_parents) in own.chain(parents) {
            let path = self.layer_path(diff_id);
            let size = fs::metadata(&path)
                .map_err(StoreError::io("look at", &path))?
                .len();
            layers.push(Layer {
                diff_id,
                path,
                size,
                is_parents,
            });
        }
        let (mut digests, mut names): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| name.digest().is_some());
        names.sort();
        digests.sort();
        let size = layers.iter().map(|layer| layer.size).sum();
        let (id, manifest_digest) = (record.config, record.manifest);
        Ok(Image {
            id,
            manifest_digest,
            names,
            digests,
            layers,
            config,
            size,
        })
    }

    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn layer_path(&self, diff_id: Digest) -> PathBuf {
        self.root
            .join("layers")
            .join(format!("{}.erofs", diff_id.hex()))
    }

    /// Waits for the right to change the store; `waiting` is called once when there is a wait.
    pub(crate) fn lock(&self, waiting: impl FnOnce()) -> Result<Lock, StoreError> {
        if let Some(lock) = self.try_lock()? {
            return Ok(lock);
        }
        waiting();
        let (file, path) = self.lock_file()?;
        file.lock().map_err(StoreError::io("lock", &path))?;
        Ok(Lock { _file: file })
    }

    fn try_lock(&self) -> Result<Option<Lock>, StoreError> {
        let (file, path) = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(StoreError::io("lock", &path)(source)),
        }
    }

    fn lock_file(&self) -> Result<(File, PathBuf), StoreError> {
        let path = self.root.join("lock");
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        Ok((file.map_err(StoreError::io("open", &path))?, path))
    }

    /// A fresh directory for the temporary files of one change; the caller holds the lock.
    pub(crate) fn scratch(&self, _lock: &Lock) -> Result<PathBuf, StoreError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self
            .root
            .join("tmp")
            .join(format!("{}-{number}", process::id()));
        fs::create_dir_all(&path).map_err(StoreError::io("make directory", &path))?;
        Ok(path)
    }

    /// Temporary files exist only while the lock is held, so with the lock in hand whatever lies
    /// there was left by a crash, and blobs without a record may lie about as well.
    fn sweep_after_crash(&self) -> Result<(), StoreError> {
        let mut crashed = false;
        for path in self.temporary()? {
            let is_dir = path.is_dir();
            let done = if is_dir {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            done.map_err(StoreError::io("remove", &path))?;
            crashed = true;
        }
        if crashed {
            self.sweep_unreachable().map(drop)
        } else {
            Ok(())
        }
    }
}
