//! What a pull has finished belongs to no image yet: a lease keeps it from being swept, while the
//! pull runs, and for a while after one that was interrupted.

use std::fs;
use std::path::PathBuf;
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

impl Store {
    /// Keeps the parts of `manifest`'s image from now on. Under the lock: a sweep sees all of
    /// it or is over.
    pub(crate) fn lease(
        &self,
        lock: &Lock,
        manifest: Digest,
        lease: &Lease,
    ) -> Result<(), StoreError> {
        let scratch = self.scratch(lock)?;
        record::write_json(&scratch, &self.lease_path(manifest), lease)?;
        fs::remove_dir_all(&scratch).map_err(StoreError::io("remove", &scratch))
    }

    /// Ends a lease: a record has taken its place, or nothing will come of it.
    pub(crate) fn end_lease(&self, manifest: Digest) -> Result<(), StoreError> {
        files::remove_file(&self.lease_path(manifest)).map(drop)
    }

    /// Every lease in force. The caller holds the lock; what has run out is removed.
    pub(super) fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        let dir = self.root.join("leases");
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
            let path = entry.map_err(StoreError::io("list", &dir))?.path();
            if is_older(&path, LEASE) {
                files::remove_file(&path)?;
            } else if let Some(lease) = record::read_json(&path)? {
                found.push(lease);
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
