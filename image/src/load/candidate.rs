//! What all kinds of sources come down to: images as documents and file names.

use super::LoadError;
use crate::digest::Digest;
use crate::layer::Limits;
use crate::reference::Reference;

/// An image that a source offers.
pub(super) struct Candidate {
    pub names: Vec<Reference>,
    pub config: Blob,
    /// The manifest as it came; a docker-archive has none, and one is written for it.
    pub manifest: Option<Vec<u8>>,
    /// Lowest first.
    pub layers: Vec<Blob>,
}

/// A file of the source that a manifest names.
pub(super) struct Blob {
    /// Its name in the source.
    pub file: String,
    /// What the manifest says of it; a docker-archive says nothing.
    pub expected: Option<Expected>,
}

/// A blob's digest and length as announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expected {
    pub digest: Digest,
    pub size: u64,
}

impl Expected {
    /// Whether a whole blob is the one announced.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), LoadError> {
        self.check_found(Digest::of(bytes), bytes.len() as u64)
    }

    pub(crate) fn check_found(&self, digest: Digest, size: u64) -> Result<(), LoadError> {
        self.check_size(size)?;
        if digest != self.digest {
            return Err(LoadError::WrongDigest {
                expected: self.digest,
                actual: digest,
            });
        }
        Ok(())
    }

    pub(crate) fn check_size(&self, actual: u64) -> Result<(), LoadError> {
        if actual != self.size {
            let (digest, expected) = (self.digest, self.size);
            return Err(LoadError::WrongSize {
                digest,
                expected,
                actual,
            });
        }
        Ok(())
    }
}

/// Refuses an image by what its manifest says of its layers, before any of them is looked at. Of
/// some nothing is said but that they are there.
pub(crate) fn check_layers(
    image: Digest,
    layers: &[Option<Expected>],
    limits: &Limits,
) -> Result<(), LoadError> {
    if layers.len() > limits.max_layers {
        return Err(LoadError::TooManyLayers {
            image,
            layers: layers.len(),
            limit: limits.max_layers,
        });
    }
    let announced = || layers.iter().flatten();
    let limit = limits.max_tar_bytes;
    if let Some(long) = announced().find(|layer| layer.size > limit) {
        let (digest, size) = (long.digest, long.size);
        return Err(LoadError::BlobTooLong {
            digest,
            size,
            limit,
        });
    }
    let size = announced().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
    let limit = limits.max_image_bytes;
    if size > limit {
        return Err(LoadError::ImageTooLong { image, size, limit });
    }
    Ok(())
}

/// The names that `texts` spell; what is no reference is left out.
pub(super) fn names<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Reference> {
    let mut names: Vec<Reference> = texts
        .into_iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    names.retain(|name| name.digest().is_none());
    names.sort();
    names.dedup();
    names
}
