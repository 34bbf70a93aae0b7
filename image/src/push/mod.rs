//! Pushing an image to a registry: the layers that it does not have, several at a time, then the
//! configuration, then the manifest. Every digest stays what it is.

mod sent;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::load::candidate::Expected;
use crate::reference::Reference;
use crate::registry::{Mount, Patience, Registry, RegistryError, Uploader};
use crate::save::{Documents, SaveError, digest_of};
use crate::store::{Image, Store, StoreError};
use sent::Sending;

/// How often a blob is begun again whose connection broke.
const MAX_ATTEMPTS: u32 = 5;

/// How to push.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// Layers that are sent at a time.
    pub parallel: usize,
    /// Stops it. What the registry has got of a blob it is asked to drop; whole blobs it
    /// keeps, without a name.
    pub cancel: Cancel,
}

impl Default for PushOptions {
    fn default() -> Self {
        PushOptions {
            parallel: 3,
            cancel: Cancel::default(),
        }
    }
}

/// How a registry has come by a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was sent.
    Sent,
    /// The repository had it.
    Present,
    /// The registry had it in another repository.
    Mounted,
}

/// What a push is doing, told often enough for a progress bar.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushProgress {
    /// What follows is the layers.
    Begun {
        /// The manifest's digest.
        digest: Digest,
        /// How many layers there are.
        layers: usize,
        /// Bytes of all layers' blobs.
        bytes: u64,
    },
    /// A layer is sent.
    Layer {
        /// Its blob.
        blob: Digest,
        /// Bytes so far.
        done: u64,
        /// Bytes of the blob in all.
        total: u64,
    },
    /// The connection broke, and the layer is sent again.
    LayerBroke {
        /// Its blob.
        blob: Digest,
        /// How it broke.
        why: String,
    },
    /// The registry is busy and wants to be left alone for a while.
    Busy {
        /// Which.
        host: String,
        /// When it is asked again.
        wait: Duration,
    },
    /// The registry has a layer.
    LayerDone {
        /// Its blob.
        blob: Digest,
        /// Bytes of it.
        total: u64,
        /// How it came by it.
        how: Arrival,
    },
}

/// What [`Store::push`] has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// The digest of the manifest, here and there.
    pub digest: Digest,
    /// Bytes of layers that were sent.
    pub sent: u64,
}

/// Why an image cannot be pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// A registry gives digests itself.
    #[error("cannot push to {name}: a name with a digest is what a push ends with")]
    Digest {
        /// The name.
        name: Reference,
    },
    /// What is to be sent is not here, or not whole.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Somebody wanted it to stop.
    #[error("interrupted")]
    Cancelled,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Gives an image to the registry that `name` names, under that name.
    pub fn push(
        &self,
        image: &Image,
        name: &Reference,
        registry: &Registry,
        options: &PushOptions,
        progress: &mut dyn FnMut(PushProgress),
    ) -> Result<PushedImage, PushError> {
        let Some(tag) = name.tag().filter(|_| name.digest().is_none()) else {
            return Err(PushError::Digest { name: name.clone() });
        };
        let documents = self.documents(image.manifest_digest)?;
        let sources = self.elsewhere(name)?;
        let known: BTreeSet<&str> = blobs(&documents)
            .filter_map(|blob| sources.get(&blob.digest).map(String::as_str))
            .collect();
        let patience = Patience::new(&options.cancel);
        let uploader = Uploader::new(registry, name, known.into_iter(), &patience)?;
        let push = Push {
            store: self,
            uploader: &uploader,
            patience: &patience,
            sources: &sources,
            options,
        };
        let mut layers: Vec<Expected> = documents.layers.iter().filter_map(expected).collect();
        let mut seen = BTreeSet::new();
        layers.retain(|layer| seen.insert(*layer));
        progress(PushProgress::Begun {
            digest: image.manifest_digest,
            layers: layers.len(),
            bytes: layers.iter().map(|layer| layer.size).sum(),
        });
        let sent = push.layers(layers, progress)?;
        if let Some(config) = expected(&documents.config) {
            push.blob(config, &mut |_| ())?;
        }
        let media_type = documents.media_type.to_string();
        uploader.manifest(tag, &media_type, &documents.manifest)?;
        self.remember(name, image.manifest_digest)?;
        Ok(PushedImage {
            digest: image.manifest_digest,
            sent,
        })
    }

    /// Other repositories of the registry that are known to have blobs, by blob.
    fn elsewhere(&self, name: &Reference) -> Result<BTreeMap<Digest, String>, StoreError> {
        let mut of_manifest = BTreeMap::<Digest, String>::new();
        for image in self.list()? {
            let there = image
                .digests
                .iter()
                .find(|other| other.registry() == name.registry() && !other.same_repository(name));
            let there = there.map(|other| other.repository().to_owned());
            of_manifest.extend(there.map(|there| (image.manifest_digest, there)));
        }
        let mut found = BTreeMap::new();
        for record in self.records()? {
            if let Some(there) = of_manifest.get(&record.manifest) {
                found.extend(record.blobs().map(|blob| (blob, there.clone())));
            }
        }
        Ok(found)
    }

    /// Notes that the registry has the image under its digest.
    fn remember(&self, name: &Reference, manifest: Digest) -> Result<(), StoreError> {
        let lock = self.lock(|| ())?;
        // Removed meanwhile.
        if !self.record_path(manifest).exists() {
            return Ok(());
        }
        let scratch = self.scratch(&lock)?;
        self.write_name(&scratch, &name.with_digest(manifest), manifest)?;
        fs::remove_dir_all(&scratch).map_err(StoreError::io("remove", &scratch))
    }
}

/// Digest and size of what a descriptor names.
fn expected(part: &oci_spec::image::Descriptor) -> Option<Expected> {
    let digest = digest_of(part)?;
    let size = part.size();
    Some(Expected { digest, size })
}

fn blobs(documents: &Documents) -> impl Iterator<Item = Expected> {
    let all = [&documents.config].into_iter().chain(&documents.layers);
    all.filter_map(expected)
}

/// One call of [`Store::push`].
struct Push<'a> {
    store: &'a Store,
    uploader: &'a Uploader,
    patience: &'a Patience,
    sources: &'a BTreeMap<Digest, String>,
    options: &'a PushOptions,
}

/// What the threads of a push share.
struct Work {
    /// Last first.
    left: Vec<Expected>,
    sent: u64,
    error: Option<PushError>,
}

impl Push<'_> {
    /// Sends every layer that is not there; the bytes sent.
    fn layers(
        &self,
        mut left: Vec<Expected>,
        progress: &mut dyn FnMut(PushProgress),
    ) -> Result<u64, PushError> {
        left.reverse();
        let threads = left.len().min(self.options.parallel.max(1));
        let work = Mutex::new(Work {
            left,
            sent: 0,
            error: None,
        });
        let (told, tell) = channel();
        let (busy, working) = (told.clone(), AtomicUsize::new(threads));
        self.patience.tell(Some(Box::new(move |host, wait| {
            let host = host.to_owned();
            let _ = busy.send(PushProgress::Busy { host, wait });
        })));
        thread::scope(|scope| {
            for _ in 0..threads {
                let (told, work, working) = (told.clone(), &work, &working);
                scope.spawn(move || {
                    self.run(work, &told);
                    // With the last of whom could tell something, the telling ends.
                    if working.fetch_sub(1, Ordering::Relaxed) == 1 {
                        self.patience.tell(None);
                    }
                });
            }
            drop(told);
            if threads == 0 {
                self.patience.tell(None);
            }
            tell.into_iter().for_each(progress);
        });
        let work = work.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.options.cancel.is_cancelled() {
            return Err(PushError::Cancelled);
        }
        work.error.map_or(Ok(work.sent), Err)
    }

    fn run(&self, work: &Mutex<Work>, told: &Sender<PushProgress>) {
        let shared = || work.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let next = {
                let mut work = shared();
                let failed = work.error.is_some() || self.options.cancel.is_cancelled();
                if failed { None } else { work.left.pop() }
            };
            let Some(layer) = next else { return };
            // Nobody may be listening any more.
            match self.blob(layer, &mut |step| drop(told.send(step))) {
                Ok(how) => {
                    let is_sent = how == Arrival::Sent;
                    shared().sent += if is_sent { layer.size } else { 0 };
                    let (blob, total) = (layer.digest, layer.size);
                    let _ = told.send(PushProgress::LayerDone { blob, total, how });
                }
                Err(error) => drop(shared().error.get_or_insert(error)),
            }
        }
    }

    /// Sees to it that the repository has a blob.
    fn blob(
        &self,
        blob: Expected,
        tell: &mut dyn FnMut(PushProgress),
    ) -> Result<Arrival, PushError> {
        if self.uploader.has(blob.digest)? {
            return Ok(Arrival::Present);
        }
        let source = self.sources.get(&blob.digest).map(String::as_str);
        let mut address = match self.uploader.begin(blob.digest, source)? {
            Mount::Done => return Ok(Arrival::Mounted),
            Mount::Send(address) => address,
        };
        let abandon = |address: &str| self.uploader.abandon(address, blob.digest);
        let file = self.open(blob).inspect_err(|_| abandon(&address))?;
        let mut attempts = 1;
        loop {
            match self.send(&address, &file, blob, tell) {
                Ok(()) => return Ok(Arrival::Sent),
                // Whoever cannot be reached cannot be told either.
                Err(PushError::Registry(error)) if error.is_passing() && !error.is_for_later() => {
                    if attempts == MAX_ATTEMPTS {
                        return Err(error.into());
                    }
                    let (blob, why) = (blob.digest, error.to_string());
                    tell(PushProgress::LayerBroke { blob, why });
                }
                Err(error) => {
                    abandon(&address);
                    return Err(error);
                }
            }
            thread::sleep(sent::FIRST_WAIT * 2u32.pow(attempts));
            attempts += 1;
            address = match self.uploader.begin(blob.digest, None)? {
                Mount::Done => return Ok(Arrival::Mounted),
                Mount::Send(address) => address,
            };
        }
    }

    /// Sends a blob once.
    fn send(
        &self,
        address: &str,
        file: &File,
        blob: Expected,
        tell: &mut dyn FnMut(PushProgress),
    ) -> Result<(), PushError> {
        let sending = Sending::new(file, blob, &self.options.cancel, tell);
        let sent = self
            .uploader
            .send(address, blob.digest, blob.size, &|at, buffer| {
                sending.read(at, buffer)
            });
        if sending.is_damaged() {
            return Err(self.store.damaged(blob.digest).into());
        }
        match sent {
            Err(_) if self.options.cancel.is_cancelled() => Err(PushError::Cancelled),
            sent => Ok(sent?),
        }
    }

    /// Opens a blob, which must have its length.
    fn open(&self, blob: Expected) -> Result<File, PushError> {
        let path = self.store.blob_path(blob.digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SaveError::NotKept { layer: blob.digest }.into());
            }
            file => file.map_err(StoreError::io("open", &path))?,
        };
        let found = file.metadata().map_err(StoreError::io("look at", &path))?;
        if found.len() != blob.size {
            return Err(self.store.damaged(blob.digest).into());
        }
        Ok(file)
    }
}
