//! What there is to know about one image, beyond what a container needs.

use std::fs;

use oci_spec::image::ImageManifest;
use serde_json::Value;

use super::{Image, Store, StoreError};

/// An image's documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// The configuration as it came: architecture, history, and what containers inherit.
    pub config: Value,
    /// The manifest's type.
    pub media_type: String,
    /// The manifest's length in bytes.
    pub manifest_size: u64,
    /// The blobs' lengths in bytes, as a registry moves them, with manifest and configuration.
    pub packed_size: u64,
}

impl Store {
    /// Reads an image's documents.
    pub fn details(&self, image: &Image) -> Result<Details, StoreError> {
        let read = |digest| {
            let path = self.blob_path(digest);
            let bytes = fs::read(&path).map_err(StoreError::io("read", &path))?;
            Ok((path, bytes))
        };
        let (path, config) = read(image.id)?;
        let config = serde_json::from_slice(&config)
            .map_err(|source| StoreError::Record { path, source })?;
        let (path, manifest) = read(image.manifest_digest)?;
        let parsed: ImageManifest = serde_json::from_slice(&manifest)
            .map_err(|source| StoreError::Record { path, source })?;
        let manifest_size = manifest.len() as u64;
        let layers: u64 = parsed.layers().iter().map(|layer| layer.size()).sum();
        let media_type = parsed.media_type().as_ref();
        Ok(Details {
            config,
            media_type: media_type.map_or_else(
                || "application/vnd.oci.image.manifest.v1+json".to_owned(),
                ToString::to_string,
            ),
            manifest_size,
            packed_size: manifest_size + parsed.config().size() + layers,
        })
    }
}
