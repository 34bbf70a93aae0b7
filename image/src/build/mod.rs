//! An image of one layer from a directory.
//!
//! The directory is packed as it is: owners, modes, times, hard links, holes, devices and extended
//! attributes. The layer then goes the way of every other one, so that whatever would be refused
//! of a stranger's is refused here.

mod error;
mod ignore;
mod pack;
mod walk;

use std::fs::{self, File};
use std::io::{BufWriter, Seek as _, Write as _};
use std::path::Path;
use std::sync::atomic::AtomicU64;

use flate2::{Compression, GzBuilder, write::GzEncoder};
use serde_json::{Value, json};

use crate::cancel::Cancel;
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::layer::Limits;
use crate::load::layer_blob::Job;
use crate::load::run::Load;
use crate::load::{LoadOptions, LoadedImage};
use crate::reference::Reference;
use crate::store::{Store, StoreError, commit};
pub use error::BuildError;
use ignore::Ignore;
use pack::{Hashed, Pack, PackError};
use walk::Walk;

const WRITE_BUFFER: usize = 256 << 10;

/// How to build.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The names that the image is given.
    pub names: Vec<Reference>,
    /// What it gives to its containers, what it is for, and when it was built.
    pub config: ImageConfig,
    /// Owner and group of every file; as they are without it.
    pub owner: Option<(u32, u32)>,
    /// Seconds since 1970: what was changed later is dated so, which makes the same files the same
    /// image.
    pub latest: Option<i64>,
    /// Bounds for the layer.
    pub limits: Limits,
    /// Stops it.
    pub cancel: Cancel,
}

/// What a build is doing, told often enough for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildProgress<'a> {
    /// Another process changes the store; this one waits.
    Waiting,
    /// A socket: there is nothing in it to be kept.
    Skipped {
        /// Which.
        path: &'a Path,
    },
    /// Files are packed.
    Packed {
        /// How many so far.
        files: u64,
        /// Bytes of their contents.
        bytes: u64,
    },
    /// The layer is made into a disk.
    Disk {
        /// Bytes of the packed layer so far.
        done: u64,
        /// Bytes of it in all.
        total: u64,
    },
}

impl Store {
    /// Makes an image of the files in `dir`. On an error nothing of it stays.
    pub fn build(
        &self,
        dir: &Path,
        options: &BuildOptions,
        progress: &mut dyn FnMut(BuildProgress<'_>),
    ) -> Result<LoadedImage, BuildError> {
        let lock = self.lock(|| progress(BuildProgress::Waiting))?;
        let scratch = self.scratch(&lock)?;
        let build = Build {
            store: self,
            scratch: &scratch,
            options,
        };
        let built = build.run(dir, progress);
        if built.is_err() {
            // What cannot be removed now goes with the next sweep; the error that counts is the
            // first.
            let _ = self.sweep_unreachable();
        }
        fs::remove_dir_all(&scratch).map_err(StoreError::io("remove", &scratch))?;
        built
    }
}

/// A layer as it was packed, in a file.
struct Packed {
    file: File,
    size: u64,
    blob: Digest,
    diff_id: Digest,
}

struct Build<'a> {
    store: &'a Store,
    scratch: &'a Path,
    options: &'a BuildOptions,
}

impl Build<'_> {
    fn run(
        &self,
        dir: &Path,
        progress: &mut dyn FnMut(BuildProgress<'_>),
    ) -> Result<LoadedImage, BuildError> {
        let path = self.scratch.join("packed");
        let mut packed = self.pack(dir, &path, progress)?;
        let options = LoadOptions {
            limits: self.options.limits.clone(),
            cancel: self.options.cancel.clone(),
            ..LoadOptions::default()
        };
        let job = Job {
            store: self.store,
            scratch: self.scratch,
            limits: &options.limits,
            unpacked: &AtomicU64::new(0),
            cancel: &options.cancel,
            diff_id: packed.diff_id,
            expected: None,
        };
        let read = packed.file.rewind();
        read.map_err(StoreError::io("read", &path))?;
        let stored = job.run_uncopied(&packed.file, packed.size, &mut |step| {
            if let crate::load::Progress::Layer { done, total, .. } = step {
                progress(BuildProgress::Disk { done, total });
            }
        })?;
        let target = self.store.blob_path(packed.blob);
        if !target.exists() {
            commit(&packed.file, &path, &target)?;
        }
        let load = Load {
            store: self.store,
            scratch: self.scratch,
            options: &options,
        };
        let config = document(&self.options.config, packed.diff_id);
        let names = self.options.names.clone();
        Ok(load.finish(&config, None, &[(stored, packed.diff_id)], names)?)
    }

    /// Packs the directory into a file.
    fn pack(
        &self,
        dir: &Path,
        path: &Path,
        progress: &mut dyn FnMut(BuildProgress<'_>),
    ) -> Result<Packed, BuildError> {
        let mut flags = File::options();
        let file = flags.read(true).write(true).create_new(true).open(path);
        let file = file.map_err(StoreError::io("create", path))?;
        let failed = |error| match error {
            PackError::Source(error) => error,
            PackError::Write(source) => StoreError::io("write", path)(source).into(),
        };
        let out = BufWriter::with_capacity(WRITE_BUFFER, &file);
        // No name, no time, no operating system: the same files give the same bytes.
        let gzip = GzBuilder::new().operating_system(255);
        let gzip: GzEncoder<_> = gzip.write(Hashed::new(out), Compression::default());
        let mut pack = Pack::new(Hashed::new(gzip), self.options, progress);
        let mut walk = Walk::new(dir, Ignore::of(dir)?, self.options.limits.max_entries)?;
        while let Some(found) = walk.next()? {
            pack.add(&found).map_err(failed)?;
        }
        let Hashed { out, hasher, .. } = pack.finish().map_err(failed)?;
        let diff_id = hasher.finish();
        let ended = out.finish().and_then(|mut packed| {
            packed.flush()?;
            Ok((packed.hasher.finish(), packed.count))
        });
        let (blob, size) = ended.map_err(StoreError::io("write", path))?;
        Ok(Packed {
            file,
            size,
            blob,
            diff_id,
        })
    }
}

/// The image's configuration; sorted, so that the same image has the same identifier.
fn document(config: &ImageConfig, diff_id: Digest) -> Vec<u8> {
    let mut run = serde_json::Map::new();
    let mut put = |key: &str, is_given: bool, value: Value| {
        if is_given {
            run.insert(key.to_owned(), value);
        }
    };
    let set = |names: &[String]| -> Value {
        let pairs = names.iter().map(|name| (name.clone(), json!({})));
        Value::Object(pairs.collect())
    };
    let given = |list: &[String]| !list.is_empty();
    put(
        "Entrypoint",
        given(&config.entrypoint),
        json!(config.entrypoint),
    );
    put("Cmd", given(&config.cmd), json!(config.cmd));
    put("Env", given(&config.env), json!(config.env));
    put(
        "WorkingDir",
        config.workdir.is_some(),
        json!(config.workdir),
    );
    put("User", config.user.is_some(), json!(config.user));
    put(
        "StopSignal",
        config.stop_signal.is_some(),
        json!(config.stop_signal),
    );
    put("Volumes", given(&config.volumes), set(&config.volumes));
    put(
        "ExposedPorts",
        given(&config.exposed_ports),
        set(&config.exposed_ports),
    );
    put("Labels", !config.labels.is_empty(), json!(config.labels));
    let platform = &config.platform;
    let mut document = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string()]},
        "history": [{"created_by": "beluga build"}],
    });
    if let Some(variant) = &platform.variant {
        document["variant"] = json!(variant);
    }
    if let Some(created) = &config.created {
        document["created"] = json!(created);
        document["history"][0]["created"] = json!(created);
    }
    document.to_string().into_bytes()
}
