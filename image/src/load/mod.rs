//! Loading images from files: an OCI layout (directory or tar) or a docker-archive.

mod archive;
pub(crate) mod candidate;
mod decompress;
mod docker;
pub(crate) mod document;
mod error;
pub(crate) mod layer_blob;
pub(crate) mod oci;
pub(crate) mod parents;
mod pipe;
pub(crate) mod run;

use std::fs;
use std::io::Read;
use std::path::Path;

use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::layer::Limits;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Image, Store, StoreError};

pub use error::LoadError;
use run::Load;

/// The longest index, manifest or configuration: what registries accept.
const MAX_DOCUMENT: u64 = 4 << 20;

/// Where images come from.
pub enum Source<'a> {
    /// An OCI layout directory, or a tar (plain, gzip or zstd) of one, or a docker-archive.
    Path(&'a Path),
    /// Such a tar as a stream: standard input.
    Stream(&'a mut dyn Read),
}

/// How to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The name for the image instead of those in the source, which must hold one image only.
    pub tag: Option<Reference>,
    /// Which image of an index to take; an image for another platform is refused.
    pub platform: Platform,
    /// Bounds for every layer.
    pub limits: Limits,
    /// Stops it.
    pub cancel: Cancel,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            tag: None,
            platform: Platform::host(),
            limits: Limits::default(),
            cancel: Cancel::default(),
        }
    }
}

/// What a load is doing, told often enough for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Another process changes the store; this one waits.
    Waiting,
    /// A stream is being written to disk, before anything can be looked at in it.
    Spooling {
        /// Bytes so far.
        done: u64,
    },
    /// A layer is read, verified and made into a disk.
    Layer {
        /// Its diffID.
        diff_id: Digest,
        /// Bytes of the layer's blob read so far.
        done: u64,
        /// Bytes of the blob in all.
        total: u64,
    },
    /// A layer is in the store.
    LayerDone {
        /// Its diffID.
        diff_id: Digest,
        /// It was there before.
        reused: bool,
    },
}

/// An image that [`Store::load`] has put into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// The names it was given by this load; empty when the source names it not.
    pub names: Vec<Reference>,
    /// Names of these that another image had, and that image's identifier.
    pub moved: Vec<(Reference, Digest)>,
    /// The image, with these and its older names.
    pub image: Image,
}

impl Store {
    /// Loads every image that `source` holds. On an error nothing of the failed image stays.
    pub fn load(
        &self,
        source: Source<'_>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<LoadedImage>, LoadError> {
        let lock = self.lock(|| progress(Progress::Waiting))?;
        let scratch = self.scratch(&lock)?;
        let load = Load {
            store: self,
            scratch: &scratch,
            options,
        };
        let mut loaded = load.run(source, progress);
        if loaded.is_err() && options.cancel.is_cancelled() {
            // Whatever went wrong was a consequence.
            loaded = Err(LoadError::Cancelled);
        }
        if loaded.is_err() {
            // Layers that were finished before the error lead nowhere. What cannot be removed now
            // goes with the next sweep; the error that counts is the first.
            let _ = self.sweep_unreachable();
        }
        fs::remove_dir_all(&scratch).map_err(StoreError::io("remove", &scratch))?;
        loaded
    }
}
