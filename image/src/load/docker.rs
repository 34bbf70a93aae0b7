//! Docker-archives: what `docker save`, `podman save` and skopeo's `docker-archive:` write.

use serde::Deserialize;

use super::LoadError;
use super::candidate::{Blob, Candidate, names};

/// One image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

pub(super) fn candidates(manifest: &[u8]) -> Result<Vec<Candidate>, LoadError> {
    let images: Vec<SavedImage> =
        serde_json::from_slice(manifest).map_err(|source| LoadError::Document {
            name: "manifest.json".into(),
            source,
        })?;
    let candidate = |image: SavedImage| {
        let blob = |file| Blob {
            file,
            expected: None,
        };
        Candidate {
            names: names(image.repo_tags.iter().flatten().map(String::as_str)),
            config: blob(image.config),
            manifest: None,
            layers: image.layers.into_iter().flatten().map(blob).collect(),
        }
    };
    Ok(images.into_iter().map(candidate).collect())
}
