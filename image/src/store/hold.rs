//! Images that are about to be used. Between the look at an image and the record of the pod that
//! runs it nothing else says that it is wanted, and whoever removes images must not come between.
//!
//! ```text
//! uses/         flock: shared by who looks an image up for use, exclusive by who removes images
//! uses/PID-N    the identifiers that one process has looked up; locked as long as it lives
//! ```
//! A hold needs no end: the lock goes with the process, however that ends.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Image, Lock, Store, StoreError, files};
use crate::digest::Digest;
use crate::reference::Reference;

/// Images that are not removed while this lives.
#[derive(Debug)]
pub struct Hold {
    store: Store,
    file: File,
    path: PathBuf,
}

/// The right to remove images: no process can begin to use one meanwhile.
pub struct Removal<'s> {
    pub(super) store: &'s Store,
    pub(super) lock: Lock,
    _gate: File,
}

impl Store {
    /// Begins to hold images, none so far.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.uses().join(format!("{}-{number}", process::id()));
        // Nobody may take it for a dead one's between its making and its locking. What dead ones
        // have left goes now, or it would pile up.
        let gate = self.gate()?;
        gate.lock().map_err(StoreError::io("lock", &self.uses()))?;
        self.held()?;
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(true);
        let file = options
            .open(&path)
            .map_err(StoreError::io("create", &path))?;
        file.lock().map_err(StoreError::io("lock", &path))?;
        let store = self.clone();
        let hold = Hold { store, file, path };
        drop(gate);
        Ok(hold)
    }

    /// Waits for the right to remove images.
    pub fn removal(&self) -> Result<Removal<'_>, StoreError> {
        // The lock first: it may be had for long, and the gate is for moments.
        let lock = self.lock(|| ())?;
        let gate = self.gate()?;
        gate.lock().map_err(StoreError::io("lock", &self.uses()))?;
        Ok(Removal {
            store: self,
            lock,
            _gate: gate,
        })
    }

    fn uses(&self) -> PathBuf {
        self.root.join("uses")
    }

    fn gate(&self) -> Result<File, StoreError> {
        // The directory itself: a file beside the holds would be one more to tell apart.
        let path = self.uses();
        File::open(&path).map_err(StoreError::io("open", &path))
    }
}

impl Hold {
    /// The image that `reference` means, which stays from now on.
    pub fn resolve(&mut self, reference: &Reference) -> Result<Option<Image>, StoreError> {
        let gate = self.store.gate()?;
        gate.lock_shared()
            .map_err(StoreError::io("lock", &self.store.uses()))?;
        let image = self.store.resolve(reference)?;
        if let Some(image) = &image {
            self.note(image)?;
        }
        Ok(image)
    }

    /// The store whose images it holds.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Holds an image that is known; `false` when it has been removed meanwhile.
    pub fn take(&mut self, image: &Image) -> Result<bool, StoreError> {
        let gate = self.store.gate()?;
        gate.lock_shared()
            .map_err(StoreError::io("lock", &self.store.uses()))?;
        let is_here = self.store.image(image.manifest_digest)?.is_some();
        if is_here {
            self.note(image)?;
        }
        Ok(is_here)
    }

    fn note(&mut self, image: &Image) -> Result<(), StoreError> {
        let line = format!("{}\n", image.id);
        let written = self.file.write_all(line.as_bytes());
        written.map_err(StoreError::io("write", &self.path))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // One that stays is not locked, and holds nothing.
        let _ = fs::remove_file(&self.path);
    }
}

impl Removal<'_> {
    /// The identifiers of images that living processes hold.
    pub fn held(&self) -> Result<BTreeSet<Digest>, StoreError> {
        self.store.held()
    }
}

impl Store {
    /// The identifiers of images that living processes hold. The caller holds the gate.
    fn held(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let dir = self.uses();
        let mut held = BTreeSet::new();
        for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
            let entry = entry.map_err(StoreError::io("list", &dir))?;
            let path = entry.path();
            let Ok(mut file) = File::open(&path) else {
                continue;
            };
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    file.read_to_string(&mut text)
                        .map_err(StoreError::io("read", &path))?;
                    held.extend(text.lines().filter_map(|line| line.parse::<Digest>().ok()));
                }
                // Its process is gone.
                Ok(()) => drop(files::remove_file(&path)?),
                Err(TryLockError::Error(source)) => {
                    return Err(StoreError::io("lock", &path)(source));
                }
            }
        }
        Ok(held)
    }
}
