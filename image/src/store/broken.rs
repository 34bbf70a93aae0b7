//! Images of which something is missing or cannot be read. They cost themselves and nothing else:
//! everything that looks at all images passes them over, and whoever wants to know is told.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::record::NameRecord;
use super::{Image, ImageRecord, Store, StoreError, record};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::load::oci;
use crate::reference::Reference;
use crate::store::LayerRecord;

/// An image of which something is missing or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The digest of the manifest.
    pub manifest_digest: Digest,
    /// The digest of the configuration, where the record still says it.
    pub id: Option<Digest>,
    /// Every name that means this image, sorted.
    pub names: Vec<Reference>,
    /// Digests by which registries know it.
    pub digests: Vec<Reference>,
    /// What is wrong, in one line.
    pub why: String,
}

impl StoreError {
    /// Whether a file of the store is gone or not what it was: one image's misfortune, which a
    /// pull or a load mends.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Record { .. } | Self::Config(_) => true,
            Self::Io { source, .. } => source.kind() == ErrorKind::NotFound,
            Self::Ambiguous { .. } => false,
        }
    }
}

/// An answer, or nothing where the reason is damage.
pub(super) fn unless_damaged<T>(
    found: Result<Option<T>, StoreError>,
) -> Result<Option<T>, StoreError> {
    match found {
        Err(error) if error.is_damage() => Ok(None),
        found => found,
    }
}

impl Store {
    /// Every image that cannot be used, by name.
    pub fn broken(&self) -> Result<Vec<Broken>, StoreError> {
        let mut names = BTreeMap::<Digest, Vec<Reference>>::new();
        for (name, manifest) in self.names()? {
            names.entry(manifest).or_default().push(name);
        }
        let mut found = Vec::new();
        for manifest in self.manifests()? {
            let named = names.remove(&manifest).unwrap_or_default();
            found.extend(self.look_for_damage(manifest, named)?);
        }
        found.sort_by(|a, b| (&a.names, a.manifest_digest).cmp(&(&b.names, b.manifest_digest)));
        Ok(found)
    }

    fn look_for_damage(
        &self,
        manifest: Digest,
        names: Vec<Reference>,
    ) -> Result<Option<Broken>, StoreError> {
        let (id, error) = match self.read_record(manifest) {
            Ok(None) => return Ok(None),
            Ok(Some(record)) => match self.assemble_if_kept(record.clone(), names.clone()) {
                Ok(_) => return Ok(None),
                Err(error) => (Some(record.config), error),
            },
            Err(error) => (None, error),
        };
        if !error.is_damage() {
            return Err(error);
        }
        let (mut digests, mut names): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| name.digest().is_some());
        names.sort();
        digests.sort();
        let cause = error.source().map(|cause| format!(": {cause}"));
        Ok(Some(Broken {
            manifest_digest: manifest,
            id,
            names,
            digests,
            why: format!("{error}{}", cause.unwrap_or_default()),
        }))
    }

    /// The broken image of this name, or whose digests begin like this.
    pub(super) fn find_broken(&self, target: &str) -> Result<Option<Broken>, StoreError> {
        let name = target.parse::<Reference>().ok();
        let name = name.map(|name| match name.digest() {
            Some(digest) => name.with_digest(digest),
            None => name,
        });
        let prefix = target.strip_prefix("sha256:").unwrap_or(target);
        let is_prefix = !prefix.is_empty() && prefix.bytes().all(|c| c.is_ascii_hexdigit());
        let is_meant = |one: &Broken| {
            let mut all = one.names.iter().chain(&one.digests);
            let mut ids = one.id.into_iter().chain([one.manifest_digest]);
            all.any(|known| Some(known) == name.as_ref())
                || (is_prefix && ids.any(|id| id.hex().starts_with(prefix)))
        };
        Ok(self.broken()?.into_iter().find(is_meant))
    }

    /// Records of names that say nothing any more. Which names they were is lost with them.
    pub fn lost_names(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut lost = Vec::new();
        for path in record::files(&self.root.join("names"))? {
            match record::read_json::<NameRecord>(&path) {
                Err(StoreError::Record { .. }) => lost.push(path),
                other => drop(other?),
            }
        }
        Ok(lost)
    }

    /// Manifests of which there is a record, whatever is in it.
    fn manifests(&self) -> Result<Vec<Digest>, StoreError> {
        let files = record::files(&self.root.join("images"))?;
        let digest = |path: &PathBuf| Digest::from_hex(path.file_stem()?.to_str()?);
        Ok(files.iter().filter_map(digest).collect())
    }

    /// What the records that cannot be read would say, as far as their images' documents are here:
    /// a sweep keeps what belongs to them, and the next pull need not fetch it again.
    pub(super) fn lost_records(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let mut lost = Vec::new();
        for manifest in self.manifests()? {
            if let Err(StoreError::Record { .. }) = self.read_record(manifest) {
                lost.extend(self.record_of(manifest));
            }
        }
        Ok(lost)
    }

    /// The digest of the configuration, from the documents where the record has lost it: by it
    /// pods know an image.
    pub(super) fn id_of(&self, broken: &Broken) -> Option<Digest> {
        let found = || self.record_of(broken.manifest_digest);
        broken.id.or_else(|| found().map(|record| record.config))
    }

    fn record_of(&self, manifest: Digest) -> Option<ImageRecord> {
        let read = |digest: Digest| {
            let bytes = fs::read(self.blob_path(digest)).ok()?;
            (Digest::of(&bytes) == digest).then_some(bytes)
        };
        let parts = oci::parts(manifest, &read(manifest)?).ok()?;
        let config = parts.config.digest;
        let (_, diff_ids) = ImageConfig::parse(config, &read(config)?).ok()?;
        let layers = parts.layers.iter().zip(diff_ids);
        let layers = layers.map(|(blob, diff_id)| LayerRecord {
            blob: blob.digest,
            diff_id,
        });
        Some(ImageRecord {
            manifest,
            config,
            layers: layers.collect(),
            parents: None,
        })
    }

    /// Takes away a blob whose contents are not those of its digest, so that the next pull or load
    /// brings it anew. Whether it went: somebody else may have mended it.
    pub(crate) fn forget_damaged(&self, digest: Digest) -> Result<bool, StoreError> {
        // Whoever changes the store may take long; what is damaged is found again.
        let Some(_lock) = self.try_lock()? else {
            return Ok(false);
        };
        let path = self.blob_path(digest);
        if is_whole(&path, digest).map_err(StoreError::io("read", &path))? {
            return Ok(false);
        }
        super::files::remove_file(&path)?;
        Ok(true)
    }
}

/// Whether a file has the contents of its digest.
fn is_whole(path: &Path, digest: Digest) -> std::io::Result<bool> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    let mut tee = crate::digest::Tee::<_, std::io::Sink>::new(file, None);
    std::io::copy(&mut tee, &mut std::io::sink())?;
    Ok(tee.finish().0 == digest)
}

/// What an image is called when it is removed, broken or not.
pub(super) struct Doomed {
    pub id: Digest,
    pub manifest: Digest,
    pub names: Vec<Reference>,
    pub digests: Vec<Reference>,
}

impl From<Image> for Doomed {
    fn from(image: Image) -> Self {
        Doomed {
            id: image.id,
            manifest: image.manifest_digest,
            names: image.names,
            digests: image.digests,
        }
    }
}

impl Doomed {
    pub(super) fn of_broken(store: &Store, broken: Broken) -> Self {
        Doomed {
            id: store.id_of(&broken).unwrap_or(broken.manifest_digest),
            manifest: broken.manifest_digest,
            names: broken.names,
            digests: broken.digests,
        }
    }
}
