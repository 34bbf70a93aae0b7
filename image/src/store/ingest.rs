//! Blobs on their way into the store: `ingest/HEX` is what has come so far, locked by whoever
//! fetches it and kept for the next one when that ends early; `ingest/HEX.work` is scratch.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::lease::{LEASE, is_older};
use super::{Store, StoreError, files};
use crate::digest::{Digest, Hasher};

/// Between two looks at a blob that somebody else fetches.
const LOOK: Duration = Duration::from_millis(50);
const WORK: &str = "work";

/// The right to fetch a blob, with what has come of it.
pub(crate) struct Ingest {
    /// The first bytes of the blob; locked.
    pub file: File,
    pub path: PathBuf,
    /// A directory for what is made of it.
    pub work: PathBuf,
}

impl Store {
    /// Waits for the right to fetch a blob; `None` when `give_up` says so first.
    pub(crate) fn ingest(
        &self,
        digest: Digest,
        waiting: impl FnOnce(),
        give_up: impl Fn() -> bool,
    ) -> Result<Option<Ingest>, StoreError> {
        let path = self.root.join("ingest").join(digest.hex());
        let mut waiting = Some(waiting);
        loop {
            let mut options = File::options();
            let options = options.read(true).write(true).create(true).truncate(false);
            let file = options.open(&path).map_err(StoreError::io("open", &path))?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => {
                    let work = path.with_extension(WORK);
                    // Left by one that was killed.
                    remove_dir(&work)?;
                    fs::create_dir(&work).map_err(StoreError::io("make directory", &work))?;
                    return Ok(Some(Ingest { file, path, work }));
                }
                // Whoever had it has finished it meanwhile.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                    if give_up() {
                        return Ok(None);
                    }
                    thread::sleep(LOOK);
                }
                Err(TryLockError::Error(source)) => {
                    return Err(StoreError::io("lock", &path)(source));
                }
            }
        }
    }

    /// Whether somebody fetches a blob, or was killed before the store had it.
    pub(crate) fn is_begun(&self, digest: Digest) -> bool {
        self.root.join("ingest").join(digest.hex()).exists()
    }

    /// Removes what has come of blobs that will not be gone on with, unless somebody else fetches
    /// them.
    pub(crate) fn drop_ingest(&self, blobs: &[Digest]) -> Result<(), StoreError> {
        for digest in blobs {
            let path = self.root.join("ingest").join(digest.hex());
            let Ok(file) = File::open(&path) else {
                continue;
            };
            if file.try_lock().is_ok() && is_at(&file, &path) {
                files::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what has come of blobs that nobody fetches, but for these; the bytes freed.
    pub(super) fn drop_all_ingest_but(&self, wanted: &BTreeSet<Digest>) -> Result<u64, StoreError> {
        let dir = self.root.join("ingest");
        let mut freed = 0;
        for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
            let path = entry.map_err(StoreError::io("list", &dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(digest) = name.and_then(Digest::from_hex) else {
                continue;
            };
            let is_free = File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
            if is_free && !wanted.contains(&digest) {
                freed += files::remove_file(&path)?;
            }
        }
        Ok(freed)
    }

    /// Removes what killed pulls have left: scratch at once, blobs when nobody came back for
    /// them; the bytes freed.
    pub(crate) fn sweep_ingest(&self) -> Result<u64, StoreError> {
        let dir = self.root.join("ingest");
        let mut freed = 0;
        for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
            let path = entry.map_err(StoreError::io("list", &dir))?.path();
            let is_work = path.extension().is_some_and(|extension| extension == WORK);
            let blob = path.with_extension("");
            let file = File::options().read(true).open(&blob);
            let is_free = file.as_ref().map_or(true, |file| file.try_lock().is_ok());
            if !is_free {
                continue;
            }
            if is_work {
                remove_dir(&path)?;
            } else if is_older(&path, LEASE) {
                freed += files::remove_file(&path)?;
            }
        }
        Ok(freed)
    }
}

impl Ingest {
    /// For a blob whose disk is there: whether the blob is, too. One that was killed between the
    /// two has made the disk and not put the blob into its place, which is done now. A part of it
    /// stays: the same disk was made of another packing.
    pub(crate) fn settle(
        &self,
        store: &Store,
        digest: Digest,
        size: u64,
    ) -> Result<bool, StoreError> {
        if store.has_blob(digest, size) {
            self.clear()?;
            return Ok(true);
        }
        let found = self.file.metadata();
        let found = found.map_err(StoreError::io("look at", &self.path))?;
        let is_whole = found.len() == size && self.digest()? == digest;
        if is_whole {
            files::commit(&self.file, &self.path, &store.blob_path(digest))?;
        }
        Ok(is_whole)
    }

    /// Forgets what has come.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        // Once it has its place in the store it is nobody's to shorten.
        if !is_at(&self.file, &self.path) {
            return Ok(());
        }
        let emptied = self.file.set_len(0);
        emptied.map_err(StoreError::io("shorten", &self.path))
    }

    fn digest(&self) -> Result<Digest, StoreError> {
        let (mut hasher, mut buffer, mut at) = (Hasher::new(), vec![0; 64 << 10], 0);
        loop {
            let read = self.file.read_at(&mut buffer, at);
            match read.map_err(StoreError::io("read", &self.path))? {
                0 => return Ok(hasher.finish()),
                read => {
                    hasher.update(&buffer[..read]);
                    at += read as u64;
                }
            }
        }
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        // An empty file holds a place and nothing else. What cannot be removed goes with a sweep.
        let _ = fs::remove_dir_all(&self.work);
        let is_empty = self.file.metadata().is_ok_and(|found| found.len() == 0);
        if is_empty && is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether an open file is still the one of that name.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |found: fs::Metadata| (found.dev(), found.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => id(open) == id(named),
        _ => false,
    }
}

fn remove_dir(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
