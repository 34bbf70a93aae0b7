//! Writing images out again, byte for byte as they came: an OCI layout in a tar, or what `docker
//! load` of any age reads.
//!
//! The blobs are in the store as they were loaded or pulled, so manifest, configuration and layers
//! keep their digests. Each is hashed on its way out: a store that is damaged gives no archive
//! that looks whole. All files are open before the first byte is written, so an image that is
//! removed meanwhile is still saved.

mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};

use oci_spec::image::{Descriptor, ImageIndexBuilder, ImageManifest, MediaType, SCHEMA_VERSION};
use serde::Serialize;

use crate::digest::{Digest, Tee};
use crate::reference::Reference;
use crate::store::{Image, Store, StoreError};

pub use error::SaveError;

const COPY_BUFFER: usize = 256 << 10;
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// How an archive is arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveFormat {
    /// An OCI layout in a tar: every digest stays what it is.
    #[default]
    OciArchive,
    /// `manifest.json` and the files that it names: a manifest has no place in it.
    DockerArchive,
}

/// An image to be saved, and the names that the archive gives it.
#[derive(Debug, Clone)]
pub struct SaveImage {
    /// The image.
    pub image: Image,
    /// As they are to be in the archive; with none it is known by its digest only.
    pub names: Vec<Reference>,
}

/// An image with its documents read.
struct Open<'a> {
    wanted: &'a SaveImage,
    documents: Documents,
}

/// An image's manifest, and what it names.
pub(crate) struct Documents {
    pub manifest: Vec<u8>,
    pub media_type: MediaType,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// A file of `manifest.json`, in docker's words.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl Store {
    /// Writes these images, each blob once, as one archive to `out`.
    pub fn save(
        &self,
        images: &[SaveImage],
        format: SaveFormat,
        out: &mut dyn Write,
    ) -> Result<(), SaveError> {
        let mut opened = Vec::new();
        let mut blobs = BTreeMap::new();
        for wanted in images {
            let documents = self.documents(wanted.image.manifest_digest)?;
            let image = Open { wanted, documents };
            self.open_blobs(&image, format, &mut blobs)?;
            opened.push(image);
        }
        let mut tar = tar::Builder::new(out);
        let documents = match format {
            SaveFormat::OciArchive => {
                vec![("oci-layout", layout()), ("index.json", index(&opened))]
            }
            SaveFormat::DockerArchive => vec![("manifest.json", docker_manifest(&opened))],
        };
        for (name, bytes) in documents {
            append(&mut tar, name, bytes.len() as u64, &bytes[..])?;
        }
        for dir in ["blobs/", "blobs/sha256/"] {
            let mut header = header(0);
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            let done = tar.append_data(&mut header, dir, io::empty());
            done.map_err(SaveError::Write)?;
        }
        for (digest, (size, file)) in blobs {
            self.append_blob(&mut tar, digest, size, file)?;
        }
        let out = tar.into_inner().map_err(SaveError::Write)?;
        out.flush().map_err(SaveError::Write)
    }

    /// Reads a manifest, which must be as it came.
    pub(crate) fn documents(&self, digest: Digest) -> Result<Documents, SaveError> {
        let path = self.blob_path(digest);
        let manifest = fs::read(&path).map_err(StoreError::io("read", &path))?;
        if Digest::of(&manifest) != digest {
            return Err(self.damaged(digest));
        }
        let parsed: ImageManifest = serde_json::from_slice(&manifest)
            .map_err(|source| StoreError::Record { path, source })?;
        let media_type = parsed.media_type().clone();
        Ok(Documents {
            manifest,
            media_type: media_type.unwrap_or(MediaType::ImageManifest),
            config: parsed.config().clone(),
            layers: parsed.layers().clone(),
        })
    }

    fn open_blobs(
        &self,
        image: &Open<'_>,
        format: SaveFormat,
        blobs: &mut BTreeMap<Digest, (u64, File)>,
    ) -> Result<(), SaveError> {
        let manifest = (format == SaveFormat::OciArchive).then_some((
            image.wanted.image.manifest_digest,
            image.documents.manifest.len() as u64,
        ));
        let documents = &image.documents;
        let parts = [&documents.config].into_iter().chain(&documents.layers);
        let parts = parts.filter_map(|part| Some((digest_of(part)?, part.size())));
        for (digest, size) in manifest.into_iter().chain(parts) {
            if blobs.contains_key(&digest) {
                continue;
            }
            let path = self.blob_path(digest);
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(SaveError::NotKept { layer: digest });
                }
                file => file.map_err(StoreError::io("open", &path))?,
            };
            let found = file.metadata().map_err(StoreError::io("look at", &path))?;
            if found.len() != size {
                return Err(self.damaged(digest));
            }
            blobs.insert(digest, (size, file));
        }
        Ok(())
    }

    fn append_blob<W: Write>(
        &self,
        tar: &mut tar::Builder<W>,
        digest: Digest,
        size: u64,
        file: File,
    ) -> Result<(), SaveError> {
        let source = io::BufReader::with_capacity(COPY_BUFFER, file).take(size);
        let mut tee = Tee::<_, io::Sink>::new(source, None);
        append(tar, &file_name(digest), size, &mut tee)?;
        let (found, read, _) = tee.finish();
        if found != digest || read != size {
            return Err(self.damaged(digest));
        }
        Ok(())
    }

    /// Says that a blob is damaged, and takes it away: a pull or a load looks only at what is not
    /// there, or not whole.
    pub(crate) fn damaged(&self, digest: Digest) -> SaveError {
        // What cannot be taken away is found again.
        let _ = self.forget_damaged(digest);
        SaveError::Damaged {
            path: self.blob_path(digest),
        }
    }
}

/// The digest that a descriptor names; the image was stored by it, so it has one.
pub(crate) fn digest_of(descriptor: &Descriptor) -> Option<Digest> {
    descriptor.digest().to_string().parse().ok()
}

fn file_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn layout() -> Vec<u8> {
    br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()
}

/// One entry for each name of each image. The name stands there twice: containerd and docker read
/// the one, skopeo, podman and umoci the other.
fn index(images: &[Open<'_>]) -> Vec<u8> {
    let mut entries = Vec::new();
    for image in images {
        let digest = image.wanted.image.manifest_digest;
        let digest: oci_spec::image::Sha256Digest =
            digest.hex().parse().expect("64 hexadecimal digits");
        let size = image.documents.manifest.len() as u64;
        let plain = Descriptor::new(image.documents.media_type.clone(), size, digest);
        if image.wanted.names.is_empty() {
            entries.push(plain.clone());
        }
        for name in &image.wanted.names {
            let mut entry = plain.clone();
            let annotations = [CONTAINERD_NAME, REF_NAME].map(|key| (key.into(), name.to_string()));
            entry.set_annotations(Some(annotations.into()));
            entries.push(entry);
        }
    }
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(entries)
        .build()
        .expect("every required field is given");
    // By way of a value: its maps are sorted, so the same images give the same bytes.
    let sorted = serde_json::to_value(&index).expect("no map with keys other than text");
    sorted.to_string().into_bytes()
}

fn docker_manifest(images: &[Open<'_>]) -> Vec<u8> {
    // docker wants each image once.
    let mut seen = BTreeSet::new();
    let mut list: Vec<DockerImage> = Vec::new();
    for image in images {
        let config = digest_of(&image.documents.config)
            .map(file_name)
            .unwrap_or_default();
        let names = image.wanted.names.iter().map(Reference::familiar);
        if !seen.insert(config.clone()) {
            let known = list.iter_mut().find(|known| known.config == config);
            known
                .into_iter()
                .for_each(|known| known.repo_tags.extend(names.clone()));
            continue;
        }
        let layers = image.documents.layers.iter().filter_map(digest_of);
        list.push(DockerImage {
            config,
            repo_tags: names.collect(),
            layers: layers.map(file_name).collect(),
        });
    }
    serde_json::to_vec(&list).expect("no map with keys other than text")
}

/// The same archive every time: no clock, no user of this machine.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    size: u64,
    contents: impl Read,
) -> Result<(), SaveError> {
    let mut header = header(size);
    let done = tar.append_data(&mut header, name, contents);
    done.map_err(SaveError::Write)
}
