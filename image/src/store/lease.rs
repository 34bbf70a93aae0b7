//! What a pull has finished belongs to no image yet: a lease keeps it from being swept, while the
//! pull runs, and for a while after one that was interrupted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Lock, Store, StoreError, files, record};
use crate::digest::Digest;

/// How long an interrupted pull may be taken up again.
pub(crate) const LEASE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The parts of an image that is being pulled.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub blobs: Vec<Digest>,
    pub layers: Vec<Digest>,
}

/// A lease in force; locked as long as its pull lives, by every pull of the image.
pub(crate) struct Leased {
    file: File,
    path: PathBuf,
}

impl Leased {
    /// Ends the lease: a record has taken its place, or nothing will come of it. Another pull of
    /// the image may still want it. The caller holds the store's lock.
    pub(crate) fn end(self) -> Result<(), StoreError> {
        self.file
            .unlock()
            .map_err(StoreError::io("unlock", &self.path))?;
        match is_held(&self.path) {
            true => Ok(()),
            false => files::remove_file(&self.path).map(drop),
        }
    }
}

/// Whether the pull of a lease is alive.
fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

impl Store {
    /// Keeps the parts of `manifest`'s image from now on. Under the lock: a sweep sees all of
    /// it or is over.
    pub(crate) fn lease(
        &self,
        lock: &Lock,
        manifest: Digest,
        lease: &Lease,
    ) -> Result<Leased, StoreError> {
        let path = self.lease_path(manifest);
        // One that another pull holds says the same, and a new file would not be the locked one.
        if !is_held(&path) {
            let scratch = self.scratch(lock)?;
            record::write_json(&scratch, &path, lease)?;
            fs::remove_dir_all(&scratch).map_err(StoreError::io("remove", &scratch))?;
        }
        let file = File::open(&path).map_err(StoreError::io("open", &path))?;
        file.lock_shared().map_err(StoreError::io("lock", &path))?;
        Ok(Leased { file, path })
    }

    /// Ends the leases of pulls that are dead, and gives back what they have begun; the bytes
    /// freed. What they have finished goes with the next sweep. The caller holds the lock.
    pub(super) fn end_dead_leases(&self) -> Result<u64, StoreError> {
        let dir = self.root.join("leases");
        for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
            let path = entry.map_err(StoreError::io("list", &dir))?.path();
            if !is_held(&path) {
                files::remove_file(&path)?;
            }
        }
        let wanted = self.leases()?;
        let wanted = wanted.iter().flat_map(|lease| &lease.blobs);
        self.drop_all_ingest_but(&wanted.copied().collect())
    }

    /// Every lease in force. The caller holds the lock; what has run out is removed.
    pub(super) fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        let dir = self.root.join("leases");
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
            let path = entry.map_err(StoreError::io("list", &dir))?.path();
            if is_older(&path, LEASE) {
                files::remove_file(&path)?;
                continue;
            }
            match record::read_json(&path) {
                Ok(lease) => found.extend(lease),
                // Whoever pulls writes it anew.
                Err(StoreError::Record { .. }) => drop(files::remove_file(&path)?),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn lease_path(&self, manifest: Digest) -> PathBuf {
        self.root
            .join("leases")
            .join(format!("{}.json", manifest.hex()))
    }
}

/// Whether a file was written longer ago than that.
pub(super) fn is_older(path: &std::path::Path, age: Duration) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    let now = SystemTime::now();
    written.is_ok_and(|written| now.duration_since(written).is_ok_and(|past| past > age))
}
