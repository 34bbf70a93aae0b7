//! The layers of an image, several at a time.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::fetch::Fetch;
use super::{Pull, PullProgress};
use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::load::candidate::Expected;
use crate::load::layer_blob::Job;
use crate::load::{LoadError, Progress};
use crate::registry::RegistryError;
use crate::store::{Ingest, StoreError, commit};

/// What the threads of a pull share.
struct Work<'a> {
    pull: &'a Pull<'a>,
    /// Last first.
    left: Mutex<Vec<(Expected, Digest)>>,
    /// One of them failed, and the others need not go on.
    failed: AtomicBool,
    done: Mutex<Done>,
    /// Bytes of the layers' tars so far.
    unpacked: AtomicU64,
}

/// Whether there is a reason to go on.
#[derive(Clone, Copy)]
pub(super) struct Stop<'a> {
    failed: &'a AtomicBool,
    cancel: &'a Cancel,
}

impl Stop<'_> {
    pub(super) fn is_set(self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }
}

#[derive(Default)]
struct Done {
    fetched: u64,
    error: Option<LoadError>,
}

/// Gets every layer that the store does not have; the bytes fetched.
pub(super) fn all(pull: &Pull<'_>, told: &Sender<PullProgress>) -> Result<u64, LoadError> {
    // An image may have a layer twice: the empty one.
    let mut seen = BTreeSet::new();
    let mut left = pull.layers.clone();
    left.retain(|layer| seen.insert(*layer));
    left.reverse();
    let threads = left.len().min(pull.options.parallel.max(1));
    let work = Work {
        pull,
        left: Mutex::new(left),
        failed: AtomicBool::new(false),
        done: Mutex::default(),
        unpacked: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            let told = told.clone();
            let name = thread::Builder::new().name("pull".into());
            let work = &work;
            if let Err(source) = name.spawn_scoped(scope, move || work.run(&told)) {
                let error = StoreError::io("begin a thread for", pull.store.root())(source);
                work.fail(error.into());
            }
        }
    });
    let done = work
        .done
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if pull.options.cancel.is_cancelled() {
        // Whatever went wrong was a consequence.
        return Err(LoadError::Cancelled);
    }
    done.error.map_or(Ok(done.fetched), Err)
}

impl Work<'_> {
    fn run(&self, told: &Sender<PullProgress>) {
        loop {
            let next = self
                .left
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let Some((blob, diff_id)) = next else { return };
            if self.stop().is_set() {
                return;
            }
            match self.layer(blob, diff_id, told) {
                Ok(fetched) => {
                    let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.fetched += fetched.unwrap_or(0);
                    drop(done);
                    let _ = told.send(PullProgress::LayerDone {
                        blob: blob.digest,
                        total: blob.size,
                        reused: fetched.is_none(),
                    });
                }
                Err(error) => return self.fail(error),
            }
        }
    }

    fn fail(&self, error: LoadError) {
        self.failed.store(true, Ordering::Relaxed);
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        // What the others say afterwards comes from being told to stop.
        done.error.get_or_insert(error);
    }

    fn stop(&self) -> Stop<'_> {
        Stop {
            failed: &self.failed,
            cancel: &self.pull.options.cancel,
        }
    }

    /// Gets one layer; the bytes fetched, or `None` when it was there.
    fn layer(
        &self,
        blob: Expected,
        diff_id: Digest,
        told: &Sender<PullProgress>,
    ) -> Result<Option<u64>, LoadError> {
        let store = self.pull.store;
        // A disk alone is not enough: the same contents may have come in another packing, and
        // `save`, `push` and the disk of parents want this one.
        if store.has_disk(diff_id)
            && store.has_blob(blob.digest, blob.size)
            && !store.is_begun(blob.digest)
        {
            return Ok(None);
        }
        let waiting = || {
            let blob = blob.digest;
            let _ = told.send(PullProgress::LayerWaits { blob });
        };
        let ingest = store.ingest(blob.digest, waiting, || self.stop().is_set())?;
        let Some(ingest) = ingest else {
            return Ok(None);
        };
        // Somebody else may have got it meanwhile.
        if store.has_disk(diff_id) && ingest.settle(store, blob.digest, blob.size)? {
            return Ok(None);
        }
        let got = self.bring(blob, diff_id, &ingest, told);
        match &got {
            // What is there of it is right as far as anyone knows, and is gone on with.
            Err(error) if error.is_passing() => {}
            Err(_) if self.stop().is_set() => {}
            // It was wrong, or there is no room for it.
            Err(_) => drop(ingest.clear()),
            Ok(_) => {}
        }
        got.map(Some)
            .map_err(|error| self.of_layer(error, blob.digest))
    }

    /// Says more of what cannot be had.
    fn of_layer(&self, error: LoadError, layer: Digest) -> LoadError {
        match error {
            LoadError::Registry(source @ RegistryError::Refused { code: 404, .. })
                if self.pull.foreign.contains(&layer) =>
            {
                let source = Box::new(source);
                LoadError::Foreign { layer, source }
            }
            error => error,
        }
    }

    /// Fetches what is missing of a blob, and makes its disk. One that is there stays: pods may
    /// have it open.
    fn bring(
        &self,
        blob: Expected,
        diff_id: Digest,
        ingest: &Ingest,
        told: &Sender<PullProgress>,
    ) -> Result<u64, LoadError> {
        let store = self.pull.store;
        let job = Job {
            store,
            scratch: &ingest.work,
            limits: &self.pull.options.limits,
            unpacked: &self.unpacked,
            cancel: &self.pull.options.cancel,
            diff_id,
            expected: Some(blob),
        };
        let target = store.blob_path(blob.digest);
        let mut report = |step: Progress| {
            if let Progress::Layer { done, total, .. } = step {
                let blob = blob.digest;
                let _ = told.send(PullProgress::Layer { blob, done, total });
            }
        };
        // What is damaged is fetched again.
        if store.has_blob(blob.digest, blob.size)
            && let Ok(stored) = File::open(&target)
        {
            match job.run_uncopied(stored, blob.size, &mut report) {
                Ok(_) => return Ok(0),
                Err(LoadError::WrongDigest { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut fetched = 0;
        loop {
            let told = told.clone();
            let mut fetch = Fetch::new(self.pull.client, blob, ingest, self.stop(), told)?;
            let made = job.run_uncopied(&mut fetch, blob.size, &mut report);
            fetched += fetch.fetched;
            if let Some(failure) = fetch.failure() {
                return Err(given(failure, fetch.host));
            }
            match made {
                Ok(_) => break,
                // What an earlier pull has left may have lost something when the machine fell.
                Err(LoadError::WrongDigest { .. })
                    if fetch.was_resumed() && !self.stop().is_set() =>
                {
                    ingest.clear()?;
                }
                Err(error) => return Err(given(error, fetch.host)),
            }
        }
        commit(&ingest.file, &ingest.path, &target)?;
        Ok(fetched)
    }
}

/// Says who has given a blob that is not what was announced.
fn given(error: LoadError, host: Option<String>) -> LoadError {
    let is_blob = matches!(
        error,
        LoadError::WrongDigest { .. } | LoadError::WrongSize { .. } | LoadError::WrongDiffId { .. }
    );
    match host {
        Some(host) if is_blob => LoadError::Given {
            host,
            source: Box::new(error),
        },
        _ => error,
    }
}
