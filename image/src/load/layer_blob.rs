//! One layer from the source into the store: the blob as it came and the disk made of it, in one
//! pass over the bytes: this thread reads, hashes, keeps and decompresses the blob, another makes
//! the disk.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::thread;

use super::archive::Opened;
use super::candidate::Expected;
use super::decompress::{Bounded, Compression, is_bomb};
use super::pipe::pipe;
use super::{LoadError, Progress};
use crate::cancel::Cancel;
use crate::digest::{Digest, Tee};
use crate::layer::{self, LayerError, Limits};
use crate::store::{Store, StoreError, commit};
use crate::tarfile::TarError;

const READ_BUFFER: usize = 128 << 10;
const WRITE_BUFFER: usize = 256 << 10;
/// Bytes between two reports of progress.
const REPORT: u64 = 1 << 20;

/// What the load of one layer needs to know.
pub(crate) struct Job<'a> {
    pub store: &'a Store,
    pub scratch: &'a Path,
    pub limits: &'a Limits,
    /// Bytes of the tars of the image's layers so far; what is read anew counts anew.
    pub unpacked: &'a AtomicU64,
    pub cancel: &'a Cancel,
    pub diff_id: Digest,
    pub expected: Option<Expected>,
}

/// What became of it.
pub(crate) struct Stored {
    pub blob: Digest,
    pub size: u64,
    pub compression: Compression,
}

/// What a pass over the blob has found.
pub(crate) struct Pass {
    compression: Compression,
    /// The digest of the uncompressed tar where it is not the blob's, or why there is no disk.
    converted: Result<Option<Digest>, LayerError>,
    blob: Digest,
    size: u64,
}

impl Job<'_> {
    /// Stores the layer, whatever of it is already there.
    pub(super) fn run(
        &self,
        source: Opened<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Stored, LoadError> {
        let blob_temporary = self.scratch.join("blob");
        let blob = create(&blob_temporary)?;
        let disk = self.new_disk()?;
        let copy = BufWriter::with_capacity(WRITE_BUFFER, &blob);
        let copy = Some((copy, blob_temporary.as_path()));
        let pass = self.pass(source.contents, source.size, copy, &disk, progress)?;
        let stored = self.check(pass)?;
        commit(&blob, &blob_temporary, &self.store.blob_path(stored.blob))?;
        self.place(&disk)?;
        Ok(stored)
    }

    /// Makes a disk of a blob that whoever reads it keeps. The disk is in place afterwards.
    pub(crate) fn run_uncopied(
        &self,
        contents: impl Read,
        size: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Stored, LoadError> {
        let disk = self.new_disk()?;
        let copy = None::<(io::Sink, &Path)>;
        let pass = self.pass(contents, size, copy, &disk, progress)?;
        let stored = self.check(pass)?;
        self.place(&disk)?;
        Ok(stored)
    }

    fn new_disk(&self) -> Result<File, StoreError> {
        create(&self.scratch.join("disk"))
    }

    /// Puts a finished disk into the store.
    fn place(&self, disk: &File) -> Result<(), StoreError> {
        let target = self.store.layer_path(self.diff_id);
        // Pods may have the old one open: another with the same bytes would be cached twice.
        if self.store.has_disk(self.diff_id) {
            return Ok(());
        }
        commit(disk, &self.scratch.join("disk"), &target)
    }

    /// Errors unless blob and tar are what was announced.
    fn check(&self, pass: Pass) -> Result<Stored, LoadError> {
        // Bytes that are not what was announced explain everything else that is wrong.
        if let Some(expected) = self.expected {
            expected.check_found(pass.blob, pass.size)?;
        }
        let layer = pass.blob;
        let actual = pass
            .converted
            .map_err(|source| LoadError::Layer { layer, source })?;
        let actual = actual.unwrap_or(layer);
        if actual != self.diff_id {
            return Err(LoadError::WrongDiffId {
                blob: layer,
                expected: self.diff_id,
                actual,
            });
        }
        Ok(Stored {
            blob: layer,
            size: pass.size,
            compression: pass.compression,
        })
    }

    fn pass<W: Write>(
        &self,
        contents: impl Read,
        total: u64,
        copy: Option<(W, &Path)>,
        disk: &File,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pass, LoadError> {
        let read = Cell::new(0);
        let metered = Metered {
            source: contents,
            read: &read,
            reported: 0,
            cancel: self.cancel,
            total,
            diff_id: self.diff_id,
            progress,
        };
        let (copy, blob_path) = copy.unzip();
        let mut tee = Tee::new(metered, copy);
        let (compression, converted) = self.convert(&mut tee, &read, disk);
        // Nothing that is still to come would change this, and a registry would send all of it.
        let is_settled = converted.as_ref().is_err_and(is_settled);
        // What the decoder has not asked for, or what a failed conversion has left: it may not be
        // what was announced, which then explains the failure.
        let rest = match is_settled {
            true => Ok(0),
            false => io::copy(&mut tee, &mut io::sink()),
        };
        let (blob, size, copied) = tee.finish();
        copied.map_err(StoreError::io(
            "write",
            blob_path.unwrap_or(Path::new("blob")),
        ))?;
        if is_settled && let Err(error) = converted {
            return Err(self.settled(error));
        }
        rest.map_err(|source| LoadError::Layer {
            layer: self.announced(),
            source: LayerError::Tar(TarError::Io(source)),
        })?;
        Ok(Pass {
            compression,
            converted,
            blob,
            size,
        })
    }

    /// What the layer is called as long as nothing of it is known.
    fn announced(&self) -> Digest {
        self.expected
            .map_or(self.diff_id, |expected| expected.digest)
    }

    /// An error before which the blob was not read to its end.
    fn settled(&self, error: LayerError) -> LoadError {
        match error {
            LayerError::Write(source) => {
                let path = self.scratch.join("disk");
                StoreError::io("write", &path)(source).into()
            }
            source => LoadError::Layer {
                layer: self.announced(),
                source,
            },
        }
    }

    fn convert(
        &self,
        blob: impl Read,
        read: &Cell<u64>,
        disk: &File,
    ) -> (Compression, Result<Option<Digest>, LayerError>) {
        let mut blob = BufReader::with_capacity(READ_BUFFER, blob);
        let unreadable = |error| LayerError::Tar(TarError::Io(error));
        let compression = match Compression::of(&mut blob) {
            Ok(compression) => compression,
            Err(error) => return (Compression::None, Err(unreadable(error))),
        };
        let tar = Bounded::new(compression.decoder(blob), read, self.limits);
        let tar = tar.of_image(self.unpacked);
        let (intake, outlet) = pipe();
        let converted = thread::scope(|scope| {
            let to_disk = || self.to_disk(outlet, compression, disk);
            let worker = thread::Builder::new().name("layer".into());
            let worker = worker
                .spawn_scoped(scope, to_disk)
                .map_err(LayerError::Write)?;
            intake.send_all(tar);
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        (compression, converted)
    }

    /// Makes the disk; the tar's digest where it is not the blob's.
    fn to_disk(
        &self,
        mut tar: impl Read,
        compression: Compression,
        disk: &File,
    ) -> Result<Option<Digest>, LayerError> {
        let spool = spool(&self.scratch.join("spool")).map_err(LayerError::Write)?;
        let mut disk = BufWriter::with_capacity(WRITE_BUFFER, disk);
        let convert = |tar: &mut dyn Read| {
            let tar = BufReader::with_capacity(READ_BUFFER, tar);
            layer::convert(tar, &mut disk, spool, self.limits)?;
            disk.flush().map_err(LayerError::Write)
        };
        if compression == Compression::None {
            convert(&mut tar)?;
            return Ok(None);
        }
        let mut tar = Tee::<_, io::Sink>::new(tar, None);
        convert(&mut tar)?;
        Ok(Some(tar.finish().0))
    }
}

/// Whether a layer is refused whatever the rest of its blob is: the disk cannot be written, or a
/// limit is passed.
fn is_settled(error: &LayerError) -> bool {
    match error {
        LayerError::Write(_)
        | LayerError::TooManyEntries { .. }
        | LayerError::TooManyLookups { .. }
        | LayerError::TooLarge { .. } => true,
        LayerError::Tar(source) | LayerError::TarAt { source, .. } => match source {
            TarError::HeaderTooLong { .. } => true,
            TarError::Io(source) => is_bomb(source),
            _ => false,
        },
        _ => false,
    }
}

pub(super) fn create(path: &Path) -> Result<File, StoreError> {
    File::create(path).map_err(StoreError::io("create", path))
}

/// A file without a name: gone when closed.
pub(super) fn spool(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Counts what is read, and tells the caller now and then.
struct Metered<'a, R> {
    source: R,
    read: &'a Cell<u64>,
    reported: u64,
    cancel: &'a Cancel,
    total: u64,
    diff_id: Digest,
    progress: &'a mut dyn FnMut(Progress),
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other(LoadError::Cancelled));
        }
        let read = self.source.read(buffer)?;
        let done = self.read.get() + read as u64;
        self.read.set(done);
        if read == 0 || done - self.reported >= REPORT {
            self.reported = done;
            (self.progress)(Progress::Layer {
                diff_id: self.diff_id,
                done,
                total: self.total,
            });
        }
        Ok(read)
    }
}
