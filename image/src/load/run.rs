//! The steps of a load.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType, SCHEMA_VERSION, Sha256Digest};

use super::archive::{Archive, Opened};
use super::candidate::{Blob, Candidate, check_layers};
use super::decompress::{Bounded, Compression, other};
use super::layer_blob::{Job, Stored};
use super::parents;
use super::{LoadError, LoadOptions, LoadedImage, MAX_DOCUMENT, Progress, Source, docker, oci};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::layer::Limits;
use crate::reference::Reference;
use crate::store::{ImageRecord, LayerRecord, Store, StoreError, commit};

/// Layers in one archive: what the whole may hold beyond one layer's bound.
const ARCHIVE_FACTOR: u64 = 16;

/// One call of [`Store::load`], under the lock.
pub(crate) struct Load<'a> {
    pub store: &'a Store,
    pub scratch: &'a Path,
    pub options: &'a LoadOptions,
}

impl Load<'_> {
    pub(super) fn run(
        &self,
        source: Source<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<LoadedImage>, LoadError> {
        let archive = self.open(source, progress)?;
        let mut candidates = self.candidates(&archive)?;
        if let Some(tag) = &self.options.tag {
            match &mut candidates[..] {
                [only] => only.names = vec![tag.clone()],
                many => return Err(LoadError::TagForMany { count: many.len() }),
            }
        }
        if candidates.is_empty() {
            return Err(LoadError::NoImage {
                path: archive.path().to_owned(),
            });
        }
        let images = candidates.into_iter();
        images
            .map(|candidate| self.image(&archive, candidate, progress))
            .collect()
    }

    /// Makes the source's files accessible by name. Streams and compressed tars are written out
    /// first, because a manifest may come after the layers that it names.
    fn open(
        &self,
        source: Source<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Archive, LoadError> {
        let (path, stream): (PathBuf, Box<dyn Read + '_>) = match source {
            Source::Path(path) if path.is_dir() => return Ok(Archive::Directory(path.to_owned())),
            Source::Path(path) => {
                let io = |source| LoadError::Read {
                    path: path.to_owned(),
                    source,
                };
                let mut file = File::open(path).map_err(io)?;
                // What is read of a pipe does not come again.
                if is_seekable(&mut file) {
                    let mut head = BufReader::new(&file);
                    let compression = Compression::of(&mut head).map_err(io)?;
                    known(path, other(&mut head).map_err(io)?)?;
                    file.rewind().map_err(io)?;
                    if compression == Compression::None {
                        return Archive::tar(path, file);
                    }
                }
                (path.to_owned(), Box::new(file))
            }
            Source::Stream(stream) => ("standard input".into(), Box::new(stream)),
        };
        let spooled = self.spool(&path, stream, progress)?;
        Archive::tar(&path, spooled)
    }

    fn spool(
        &self,
        path: &Path,
        stream: Box<dyn Read + '_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<File, LoadError> {
        let read_error = |source| LoadError::Read {
            path: path.to_owned(),
            source,
        };
        let target = self.scratch.join("source");
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&target);
        let mut file = file.map_err(StoreError::io("create", &target))?;
        let packed = Cell::new(0);
        let mut stream = BufReader::with_capacity(
            128 << 10,
            Counted {
                stream,
                packed: &packed,
            },
        );
        let compression = Compression::of(&mut stream).map_err(read_error)?;
        known(path, other(&mut stream).map_err(read_error)?)?;
        let limits = &self.options.limits;
        let max_tar_bytes = limits.max_tar_bytes.saturating_mul(ARCHIVE_FACTOR);
        let limits = Limits {
            max_tar_bytes,
            ..limits.clone()
        };
        let mut stream = Bounded::new(compression.decoder(stream), &packed, &limits);
        let mut buffer = vec![0; 1 << 20];
        let mut done = 0;
        loop {
            let read = stream.read(&mut buffer).map_err(read_error)?;
            if read == 0 {
                break;
            }
            if self.options.cancel.is_cancelled() {
                return Err(LoadError::Cancelled);
            }
            file.write_all(&buffer[..read])
                .map_err(StoreError::io("write", &target))?;
            done += read as u64;
            progress(Progress::Spooling { done });
        }
        file.rewind().map_err(StoreError::io("read", &target))?;
        Ok(file)
    }

    /// A layout is one by its index, a docker-archive by its manifest. Docker writes both into
    /// one tar; the layout says more.
    fn candidates(&self, archive: &Archive) -> Result<Vec<Candidate>, LoadError> {
        if let Some(index) = archive.read("index.json", MAX_DOCUMENT)? {
            return oci::candidates(archive, &index, &self.options.platform);
        }
        let is_tar = matches!(archive, Archive::Tar { .. });
        match archive.read("manifest.json", MAX_DOCUMENT)? {
            Some(manifest) if is_tar => docker::candidates(&manifest),
            _ => Err(LoadError::UnknownFormat {
                path: archive.path().to_owned(),
            }),
        }
    }

    fn image(
        &self,
        archive: &Archive,
        candidate: Candidate,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LoadedImage, LoadError> {
        let config_blob = read_config(archive, &candidate.config)?;
        let id = Digest::of(&config_blob);
        let (config, diff_ids) = ImageConfig::parse(id, &config_blob).map_err(LoadError::Config)?;
        let wanted = &self.options.platform;
        if !config.platform.runs_on(wanted) {
            let found = vec![config.platform];
            return Err(LoadError::WrongPlatform {
                wanted: wanted.clone(),
                found,
            });
        }
        let (layers, listed) = (candidate.layers.len(), diff_ids.len());
        if layers != listed {
            return Err(LoadError::LayerCount {
                id,
                layers,
                diff_ids: listed,
            });
        }
        let announced: Vec<_> = candidate.layers.iter().map(|blob| blob.expected).collect();
        check_layers(id, &announced, &self.options.limits)?;
        let (mut stored, unpacked) = (Vec::new(), AtomicU64::new(0));
        for (blob, diff_id) in candidate.layers.iter().zip(diff_ids) {
            let layer = self.layer(archive, blob, diff_id, &unpacked, progress)?;
            stored.push((layer, diff_id));
        }
        self.finish(&config_blob, candidate.manifest, &stored, candidate.names)
    }

    /// Ties together what is in the store: documents, record, names. Without a manifest one is
    /// written. The layers come with their diffIDs, lowest first.
    pub(crate) fn finish(
        &self,
        config: &[u8],
        manifest: Option<Vec<u8>>,
        layers: &[(Stored, Digest)],
        names: Vec<Reference>,
    ) -> Result<LoadedImage, LoadError> {
        let id = self.put_blob(config)?;
        let manifest = manifest.unwrap_or_else(|| written_manifest(config, layers));
        let manifest_digest = self.put_blob(&manifest)?;
        let layers = layers.iter().map(|(stored, diff_id)| LayerRecord {
            blob: stored.blob,
            diff_id: *diff_id,
        });
        let mut record = ImageRecord {
            manifest: manifest_digest,
            config: id,
            layers: layers.collect(),
            parents: None,
        };
        record.parents = parents::make(
            self.store,
            self.scratch,
            &self.options.limits,
            &record.layers,
        )?;
        self.store.write_record(self.scratch, &record)?;
        let mut moved = Vec::new();
        for name in &names {
            let before = self.store.bearer(name, manifest_digest);
            let before = before.filter(|before| *before != id);
            moved.extend(before.map(|before| (name.clone(), before)));
            self.store.write_name(self.scratch, name, manifest_digest)?;
        }
        self.loaded(manifest_digest, names, moved)
    }

    fn loaded(
        &self,
        manifest: Digest,
        names: Vec<Reference>,
        moved: Vec<(Reference, Digest)>,
    ) -> Result<LoadedImage, LoadError> {
        let image = self.store.image(manifest)?;
        let missing = || LoadError::Missing {
            name: manifest.to_string(),
        };
        Ok(LoadedImage {
            names,
            moved,
            image: image.ok_or_else(missing)?,
        })
    }

    fn layer(
        &self,
        archive: &Archive,
        blob: &Blob,
        diff_id: Digest,
        unpacked: &AtomicU64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Stored, LoadError> {
        if let Some(stored) = self.present(blob, diff_id) {
            progress(Progress::LayerDone {
                diff_id,
                reused: true,
            });
            return Ok(stored);
        }
        let opened = open(archive, blob)?;
        let job = Job {
            store: self.store,
            scratch: self.scratch,
            limits: &self.options.limits,
            unpacked,
            cancel: &self.options.cancel,
            diff_id,
            expected: blob.expected,
        };
        let stored = job.run(opened, progress)?;
        progress(Progress::LayerDone {
            diff_id,
            reused: false,
        });
        Ok(stored)
    }

    /// The layer as it is in the store, if both its disk and its blob are. A docker-archive's
    /// layer is usually not compressed: then its blob has the digest of its contents.
    fn present(&self, blob: &Blob, diff_id: Digest) -> Option<Stored> {
        let digest = blob.expected.map_or(diff_id, |expected| expected.digest);
        let size = fs::metadata(self.store.blob_path(digest)).ok()?.len();
        // What is damaged is made again.
        let is_whole = blob.expected.is_none_or(|expected| expected.size == size);
        (is_whole && self.store.has_disk(diff_id)).then_some(Stored {
            blob: digest,
            size,
            compression: Compression::None,
        })
    }

    /// Stores a small blob.
    fn put_blob(&self, bytes: &[u8]) -> Result<Digest, LoadError> {
        let digest = Digest::of(bytes);
        let temporary = self.scratch.join("document");
        let mut file = File::create(&temporary).map_err(StoreError::io("create", &temporary))?;
        file.write_all(bytes)
            .map_err(StoreError::io("write", &temporary))?;
        commit(&file, &temporary, &self.store.blob_path(digest))?;
        Ok(digest)
    }
}

/// Opens a blob and checks its length, if something is known about it.
fn open<'a>(archive: &'a Archive, blob: &Blob) -> Result<Opened<'a>, LoadError> {
    let missing = || LoadError::Missing {
        name: blob.file.clone(),
    };
    let mut opened = archive.open(&blob.file)?.ok_or_else(missing)?;
    if let Some(expected) = blob.expected {
        expected.check_size(opened.size)?;
    }
    // A file that grows meanwhile is not followed.
    opened.contents = Box::new(opened.contents.take(opened.size));
    Ok(opened)
}

/// Reads a configuration. In a docker-archive its file name is its digest.
fn read_config(archive: &Archive, blob: &Blob) -> Result<Vec<u8>, LoadError> {
    let missing = || LoadError::Missing {
        name: blob.file.clone(),
    };
    let bytes = archive
        .read(&blob.file, MAX_DOCUMENT)?
        .ok_or_else(missing)?;
    if let Some(expected) = blob.expected {
        expected.check(&bytes)?;
        return Ok(bytes);
    }
    let stem = Path::new(&blob.file).file_stem().and_then(OsStr::to_str);
    let actual = Digest::of(&bytes);
    match stem.and_then(Digest::from_hex) {
        Some(expected) if expected != actual => Err(LoadError::WrongDigest { expected, actual }),
        _ => Ok(bytes),
    }
}

/// The manifest of an image that came without one. The same archive gives the same bytes.
fn written_manifest(config: &[u8], layers: &[(Stored, Digest)]) -> Vec<u8> {
    let descriptor = |media_type, digest: Digest, size| {
        let digest = digest
            .hex()
            .parse::<Sha256Digest>()
            .expect("64 hexadecimal digits");
        Descriptor::new(media_type, size, digest)
    };
    let layer = |(layer, _): &(Stored, Digest)| {
        let media_type = match layer.compression {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
        };
        descriptor(media_type, layer.blob, layer.size)
    };
    let layers: Vec<_> = layers.iter().map(layer).collect();
    let id = Digest::of(config);
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, id, config.len() as u64))
        .layers(layers)
        .build()
        .expect("every required field is given");
    serde_json::to_vec(&manifest).expect("no map with keys other than text")
}

/// Errors when a file is packed in a way that is not read.
fn known(path: &Path, other: Option<&'static str>) -> Result<(), LoadError> {
    let path = path.to_owned();
    other.map_or(Ok(()), |how| Err(LoadError::Packed { path, how }))
}

fn is_seekable(file: &mut File) -> bool {
    file.stream_position().is_ok()
}

/// Counts compressed bytes for the ratio.
struct Counted<'a, R> {
    stream: R,
    packed: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.packed.set(self.packed.get() + read as u64);
        Ok(read)
    }
}
