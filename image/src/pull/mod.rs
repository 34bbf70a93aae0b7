//! Pulling an image from a registry: manifest, configuration and the layers that the store does
//! not have, several at a time, each made into a disk while it comes.

mod documents;
mod fetch;
mod layers;

use std::fs;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::layer::Limits;
use crate::load::LoadError;
use crate::load::candidate::{Expected, check_layers};
use crate::load::oci::{self, Parts};
use crate::load::parents;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{Client, Patience, Registry, Told};
use crate::store::{Image, ImageRecord, LayerRecord, Lease, Store, StoreError, commit};
use documents::{Documents, Manifest};

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Which image of an index to take; an image for another platform is refused.
    pub platform: Platform,
    /// Bounds for every layer.
    pub limits: Limits,
    /// Layers that are fetched at a time.
    pub parallel: usize,
    /// Stops it; what has come is kept for the next one.
    pub cancel: Cancel,
}

impl Default for PullOptions {
    fn default() -> Self {
        PullOptions {
            platform: Platform::host(),
            limits: Limits::default(),
            parallel: 3,
            cancel: Cancel::default(),
        }
    }
}

/// What a pull is doing, told often enough for a progress bar.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullProgress {
    /// Another process changes the store; this one waits.
    Waiting,
    /// The image is known: what follows is its layers.
    Resolved {
        /// The digest of what the name means: a manifest or an index.
        digest: Digest,
        /// How many layers it has.
        layers: usize,
        /// Bytes of all layers' blobs.
        bytes: u64,
    },
    /// Another process fetches this layer; this one waits for it.
    LayerWaits {
        /// Its blob.
        blob: Digest,
    },
    /// A layer comes, is verified and made into a disk.
    Layer {
        /// Its blob.
        blob: Digest,
        /// Bytes so far.
        done: u64,
        /// Bytes of the blob in all.
        total: u64,
    },
    /// The connection broke, and another one goes on from there.
    LayerBroke {
        /// Its blob.
        blob: Digest,
        /// How far it came.
        at: u64,
        /// How it broke.
        why: String,
    },
    /// A host is busy and wants to be left alone for a while.
    Busy {
        /// Which.
        host: String,
        /// When it is asked again.
        wait: Duration,
    },
    /// A layer is in the store.
    LayerDone {
        /// Its blob.
        blob: Digest,
        /// Bytes of the blob in all.
        total: u64,
        /// It was there before.
        reused: bool,
    },
}

/// An image that [`Store::pull`] has put into the store, or found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// The digest that the registry has for the name: a manifest's or an index's.
    pub digest: Digest,
    /// The image, with this and its older names.
    pub image: Image,
    /// Whether all of it was there, under this name.
    pub was_present: bool,
    /// Bytes of layers that came over the network.
    pub fetched: u64,
}

impl Store {
    /// Pulls an image. On an error nothing has a name that it had not before; layers that are
    /// whole stay for the next try where the cause may pass.
    pub fn pull(
        &self,
        name: &Reference,
        registry: &Registry,
        options: &PullOptions,
        progress: &mut dyn FnMut(PullProgress),
    ) -> Result<PulledImage, LoadError> {
        let patience = Patience::new(&options.cancel);
        let client = Client::new(registry, name, &patience)?;
        let found = told(self, &patience, progress, |_| {
            self.look(&client, name, options)
        });
        if options.cancel.is_cancelled() {
            // Whatever went wrong was a consequence.
            return Err(LoadError::Cancelled);
        }
        let Looked {
            digest,
            manifest,
            parts,
            config,
            diff_ids,
        } = found?;
        let pull = Pull {
            store: self,
            client: &client,
            patience: &patience,
            options,
            name,
            digest,
            manifest: manifest.digest,
            layers: parts.layers.iter().copied().zip(diff_ids).collect(),
            foreign: &parts.foreign,
        };
        pull.run(&parts, [&manifest.bytes, &config], progress)
    }

    /// Reads an image's documents, and refuses what cannot be had or run.
    fn look(
        &self,
        client: &Client,
        name: &Reference,
        options: &PullOptions,
    ) -> Result<Looked, LoadError> {
        let documents = Documents::new(self, client, name);
        let top = client.manifest(name)?;
        let (digest, manifest) = documents.choose(top, &options.platform)?;
        let parts = oci::parts(manifest.digest, &manifest.bytes)?;
        let announced: Vec<_> = parts.layers.iter().copied().map(Some).collect();
        check_layers(manifest.digest, &announced, &options.limits)?;
        let config = documents.config(parts.config)?;
        let (parsed, diff_ids) =
            ImageConfig::parse(parts.config.digest, &config).map_err(LoadError::Config)?;
        if !parsed.platform.runs_on(&options.platform) {
            return Err(LoadError::WrongPlatform {
                wanted: options.platform.clone(),
                found: vec![parsed.platform],
            });
        }
        if parts.layers.len() != diff_ids.len() {
            return Err(LoadError::LayerCount {
                id: parts.config.digest,
                layers: parts.layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        Ok(Looked {
            digest,
            manifest,
            parts,
            config,
            diff_ids,
        })
    }
}

/// What a registry has for a name.
struct Looked {
    digest: Digest,
    manifest: Manifest,
    parts: Parts,
    config: Vec<u8>,
    diff_ids: Vec<Digest>,
}

/// Does work on another thread, while this one tells how far it is and of waits.
fn told<T: Send>(
    store: &Store,
    patience: &Patience,
    progress: &mut dyn FnMut(PullProgress),
    work: impl FnOnce(Sender<PullProgress>) -> Result<T, LoadError> + Send,
) -> Result<T, LoadError> {
    let (told, tell) = channel();
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("pull".into());
        let work = thread.spawn_scoped(scope, move || {
            patience.tell(Some(busy(&told)));
            let done = work(told);
            // With the last of whom could tell something, the telling ends.
            patience.tell(None);
            done
        });
        let work = work.map_err(StoreError::io("begin a thread for", store.root()))?;
        tell.into_iter().for_each(progress);
        work.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn busy(told: &Sender<PullProgress>) -> Told {
    let told = told.clone();
    Box::new(move |host, wait| {
        let host = host.to_owned();
        // Nobody may be listening any more.
        let _ = told.send(PullProgress::Busy { host, wait });
    })
}

/// One call of [`Store::pull`] that knows what to get.
struct Pull<'a> {
    store: &'a Store,
    client: &'a Client,
    patience: &'a Patience,
    options: &'a PullOptions,
    name: &'a Reference,
    /// What the registry has for the name.
    digest: Digest,
    manifest: Digest,
    /// Blob and diffID, lowest first.
    layers: Vec<(Expected, Digest)>,
    /// Blobs that may be elsewhere than in the registry.
    foreign: &'a [Digest],
}

impl Pull<'_> {
    fn run(
        &self,
        parts: &Parts,
        documents: [&[u8]; 2],
        progress: &mut dyn FnMut(PullProgress),
    ) -> Result<PulledImage, LoadError> {
        let store = self.store;
        progress(PullProgress::Resolved {
            digest: self.digest,
            layers: parts.layers.len(),
            bytes: parts.layers.iter().map(|layer| layer.size).sum(),
        });
        // One that is damaged is mended.
        let before = store.resolve(self.name).ok().flatten();
        let was_present = before.is_some_and(|image| image.manifest_digest == self.manifest);
        let lock = store.lock(|| progress(PullProgress::Waiting))?;
        store.sweep_ingest()?;
        let lease = store.lease(&lock, self.manifest, &self.lease(parts))?;
        drop(lock);
        let done = told(store, self.patience, progress, |told| {
            layers::all(self, &told)
        });
        let lock = store.lock(|| progress(PullProgress::Waiting))?;
        let finished = match done {
            Ok(fetched) => self
                .record(parts, documents, &lock)
                .map(|image| (image, fetched)),
            Err(error) => Err(error),
        };
        if !matches!(&finished, Err(error) if error.is_passing()) {
            lease.end()?;
        }
        if matches!(&finished, Err(error) if !error.is_passing()) {
            let _ = store.drop_ingest(&self.lease(parts).blobs);
        }
        if finished.is_err() {
            // The error that counts is the first; what stays now goes with the next sweep.
            let _ = store.sweep_unreachable();
        }
        let (image, fetched) = finished?;
        Ok(PulledImage {
            digest: self.digest,
            image,
            was_present: was_present && fetched == 0,
            fetched,
        })
    }

    fn lease(&self, parts: &Parts) -> Lease {
        let mut blobs: Vec<Digest> = parts.layers.iter().map(|layer| layer.digest).collect();
        blobs.push(parts.config.digest);
        Lease {
            blobs,
            layers: self.layers.iter().map(|(_, diff_id)| *diff_id).collect(),
        }
    }

    /// Ties everything together: the documents, the record, the names.
    fn record(
        &self,
        parts: &Parts,
        documents: [&[u8]; 2],
        lock: &crate::store::Lock,
    ) -> Result<Image, LoadError> {
        let store = self.store;
        let scratch = store.scratch(lock)?;
        for (blob, diff_id) in &self.layers {
            // Another pull of it that failed for good has taken it away.
            let is_here = store.layer_path(*diff_id).exists();
            if !is_here || !store.has_blob(blob.digest, blob.size) {
                return Err(LoadError::Missing {
                    name: format!("layer {diff_id}"),
                });
            }
        }
        for bytes in documents {
            let target = store.blob_path(Digest::of(bytes));
            if fs::read(&target).is_ok_and(|found| found == bytes) {
                continue;
            }
            let temporary = scratch.join("document");
            fs::write(&temporary, bytes).map_err(StoreError::io("write", &temporary))?;
            let file = fs::File::open(&temporary);
            let file = file.map_err(StoreError::io("open", &temporary))?;
            commit(&file, &temporary, &target)?;
        }
        let layers = self.layers.iter().map(|(blob, diff_id)| LayerRecord {
            blob: blob.digest,
            diff_id: *diff_id,
        });
        let mut record = ImageRecord {
            manifest: self.manifest,
            config: parts.config.digest,
            layers: layers.collect(),
            parents: None,
        };
        let limits = &self.options.limits;
        record.parents = parents::make(store, &scratch, limits, &record.layers)?;
        store.write_record(&scratch, &record)?;
        store.write_pulled_names(&scratch, self.name, self.digest, self.manifest)?;
        fs::remove_dir_all(&scratch).map_err(StoreError::io("remove", &scratch))?;
        let missing = || LoadError::Missing {
            name: self.manifest.to_string(),
        };
        store.image(self.manifest)?.ok_or_else(missing)
    }
}
