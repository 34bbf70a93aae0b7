//! OCI layouts: `index.json` and `blobs/sha256/`.

use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;

use super::archive::Archive;
use super::candidate::{Blob, Candidate, Expected, names};
use super::document::{Kind, kind};
use super::{LoadError, MAX_DOCUMENT};
use crate::digest::Digest;
use crate::platform::Platform;
use crate::reference::Reference;

/// An index may list indexes; none in use nests deeper than two.
const MAX_DEPTH: usize = 4;
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Marks a manifest that says something about another image (provenance, SBOM).
const ATTESTATION: &str = "vnd.docker.reference.type";
/// Behind every offer for a platform that is named.
const UNNAMED: u32 = u32::MAX;

/// Where manifests and indexes come from: a layout, or a registry.
pub(crate) trait Documents {
    /// A manifest or index, its length and digest checked.
    fn document(&self, blob: Expected) -> Result<Vec<u8>, LoadError>;
}

impl Documents for Archive {
    fn document(&self, blob: Expected) -> Result<Vec<u8>, LoadError> {
        let name = file_name(blob.digest);
        let bytes = self
            .read(&name, MAX_DOCUMENT)?
            .ok_or(LoadError::Missing { name })?;
        blob.check(&bytes)?;
        Ok(bytes)
    }
}

/// The images in the layout for `wanted`, each once, with all its names.
pub(super) fn candidates(
    archive: &Archive,
    index: &[u8],
    wanted: &Platform,
) -> Result<Vec<Candidate>, LoadError> {
    let index: ImageIndex = parse("index.json", index)?;
    let mut found = Vec::new();
    let mut chosen: Vec<(Expected, Vec<Reference>)> = Vec::new();
    for descriptor in index.manifests() {
        let Some((manifest, _)) = choose(archive, descriptor, wanted, &mut found, 0)? else {
            continue;
        };
        let names = descriptor_names(descriptor, archive.path());
        match chosen
            .iter_mut()
            .find(|(known, _)| known.digest == manifest.digest)
        {
            Some((_, known)) => known.extend(names),
            None => chosen.push((manifest, names)),
        }
    }
    if chosen.is_empty() && !found.is_empty() {
        return Err(LoadError::WrongPlatform {
            wanted: wanted.clone(),
            found,
        });
    }
    chosen
        .into_iter()
        .map(|(manifest, names)| candidate(archive, manifest, names))
        .collect()
}

/// The manifest that `descriptor` means on this platform, and how far off it is: itself, or one out
/// of an index. Other platforms on offer are added to `found`.
fn choose(
    source: &impl Documents,
    descriptor: &Descriptor,
    wanted: &Platform,
    found: &mut Vec<Platform>,
    depth: usize,
) -> Result<Option<(Expected, u32)>, LoadError> {
    let blob = expected(descriptor, "index.json")?;
    if is_index(descriptor) {
        if depth >= MAX_DEPTH {
            return Err(LoadError::IndexTooDeep {
                digest: blob.digest,
            });
        }
        let document = source.document(blob)?;
        kind(&document, blob.digest, descriptor.media_type().as_ref())?;
        let index: ImageIndex = parse(&blob.digest.to_string(), &document)?;
        return choose_of(source, &index, wanted, found, depth + 1);
    }
    let annotations = descriptor.annotations().as_ref();
    if annotations.is_some_and(|annotations| annotations.contains_key(ATTESTATION)) {
        return Ok(None);
    }
    let Some(platform) = descriptor.platform() else {
        return Ok(Some((blob, UNNAMED)));
    };
    let platform = Platform {
        os: platform.os().to_string(),
        architecture: platform.architecture().to_string(),
        variant: platform.variant().clone(),
    };
    if let Some(distance) = platform.distance(wanted) {
        return Ok(Some((blob, distance)));
    }
    found.push(platform);
    Ok(None)
}

/// The manifest in an index that is the nearest to this platform, the first of several.
fn choose_of(
    source: &impl Documents,
    index: &ImageIndex,
    wanted: &Platform,
    found: &mut Vec<Platform>,
    depth: usize,
) -> Result<Option<(Expected, u32)>, LoadError> {
    let mut best: Option<(Expected, u32)> = None;
    for inner in index.manifests() {
        let offer = choose(source, inner, wanted, found, depth)?;
        if let Some(offer) = offer
            && best.is_none_or(|best| offer.1 < best.1)
        {
            best = Some(offer);
        }
        if best.is_some_and(|(_, distance)| distance == 0) {
            break;
        }
    }
    Ok(best)
}

/// The manifest for this platform in an index that was given by itself.
pub(crate) fn choose_in(
    source: &impl Documents,
    digest: Digest,
    document: &[u8],
    wanted: &Platform,
) -> Result<Expected, LoadError> {
    let index: ImageIndex = parse(&digest.to_string(), document)?;
    let mut found = Vec::new();
    let chosen = choose_of(source, &index, wanted, &mut found, 1)?;
    let chosen = chosen.map(|(manifest, _)| manifest);
    chosen.ok_or_else(|| LoadError::WrongPlatform {
        wanted: wanted.clone(),
        found,
    })
}

fn is_index(descriptor: &Descriptor) -> bool {
    Kind::of_type(descriptor.media_type().as_ref()) == Some(Kind::Index)
}

fn candidate(
    archive: &Archive,
    manifest: Expected,
    names: Vec<Reference>,
) -> Result<Candidate, LoadError> {
    let document = archive.document(manifest)?;
    if kind(&document, manifest.digest, "")? == Kind::Index {
        let (digest, why) = (manifest.digest, "what leads to it says the other");
        return Err(LoadError::Ambiguous { digest, why });
    }
    let Parts { config, layers, .. } = parts(manifest.digest, &document)?;
    let blob = |expected: Expected| Blob {
        file: file_name(expected.digest),
        expected: Some(expected),
    };
    Ok(Candidate {
        names,
        config: blob(config),
        manifest: Some(document),
        layers: layers.into_iter().map(blob).collect(),
    })
}

/// What a manifest names.
pub(crate) struct Parts {
    pub config: Expected,
    /// Lowest first.
    pub layers: Vec<Expected>,
    /// Those that may be elsewhere than in the registry.
    pub foreign: Vec<Digest>,
}

/// Reads a manifest. Layers of a kind that cannot be read are refused.
pub(crate) fn parts(digest: Digest, document: &[u8]) -> Result<Parts, LoadError> {
    let name = digest.to_string();
    let parsed: ImageManifest = parse(&name, document)?;
    let layer = |descriptor: &Descriptor| {
        let blob = expected(descriptor, &name)?;
        let media_type = descriptor.media_type().to_string();
        let known = [".tar", ".tar+gzip", ".tar.gzip", ".tar+zstd", ".tar.zstd"];
        if !known.iter().any(|ending| media_type.ends_with(ending)) {
            return Err(LoadError::MediaType {
                layer: blob.digest,
                media_type,
            });
        }
        Ok(blob)
    };
    let layers = parsed
        .layers()
        .iter()
        .map(layer)
        .collect::<Result<_, _>>()?;
    let config = expected(parsed.config(), &name)?;
    let foreign = parsed.layers().iter();
    let foreign =
        foreign.filter(|layer| layer.urls().as_ref().is_some_and(|urls| !urls.is_empty()));
    let foreign = foreign.filter_map(|layer| layer.digest().to_string().parse().ok());
    Ok(Parts {
        config,
        layers,
        foreign: foreign.collect(),
    })
}

/// Docker and containerd write the whole name; others a name or a bare tag, and then the source's
/// own name stands before it: `busybox-oci` with `latest`. What says nothing has no name: a file's
/// must not decide what `image: nginx` means.
fn descriptor_names(descriptor: &Descriptor, source: &Path) -> Vec<Reference> {
    let annotation = |key| {
        descriptor
            .annotations()
            .as_ref()
            .and_then(|all| all.get(key))
    };
    let text = match (annotation(CONTAINERD_NAME), annotation(REF_NAME)) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) if name.contains(['/', ':']) => name.clone(),
        (None, None) => return Vec::new(),
        (None, Some(tag)) => {
            let file = source
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .to_lowercase();
            let mut stem = file.as_str();
            for ending in [".gz", ".zst", ".tgz", ".tar", ".oci"] {
                stem = stem.strip_suffix(ending).unwrap_or(stem);
            }
            format!("{stem}:{tag}")
        }
    };
    names([text.as_str()])
}

fn expected(descriptor: &Descriptor, name: &str) -> Result<Expected, LoadError> {
    let digest = descriptor.digest().to_string().parse();
    let digest = digest.map_err(|source| LoadError::Digest {
        name: name.to_owned(),
        source,
    })?;
    Ok(Expected {
        digest,
        size: descriptor.size(),
    })
}

fn file_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn parse<T: DeserializeOwned>(name: &str, document: &[u8]) -> Result<T, LoadError> {
    let parsed = serde_json::from_slice(document);
    parsed.map_err(|source| LoadError::Document {
        name: name.to_owned(),
        source,
    })
}
