//! The disk on top of an image's layers where some of them have directories that they do not
//! describe: see [`crate::layer::parents`].

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _};
use std::path::Path;

use super::LoadError;
use super::decompress::{Bounded, Compression};
use super::layer_blob::{create, spool};
use crate::digest::{Digest, Tee};
use crate::layer::parents::Parents;
use crate::layer::{self, LayerError, Limits, Tree};
use crate::store::{LayerRecord, Store, StoreError, commit};
use crate::tarfile::TarError;

/// Makes it if it is needed, for which the layers' headers are read once more; what it is called.
/// All layers are in the store, as they came and as disks, lowest first.
pub(crate) fn make(
    store: &Store,
    scratch: &Path,
    limits: &Limits,
    layers: &[LayerRecord],
) -> Result<Option<Digest>, LoadError> {
    let mut above = layers.iter().skip(1);
    if !above.any(|layer| store.has_implied(layer.diff_id)) {
        return Ok(None);
    }
    let mut parents = Parents::default();
    for layer in layers {
        let path = store.blob_path(layer.blob);
        let blob = File::open(&path).map_err(StoreError::io("open", &path))?;
        parents.add(&tree(blob, layer.blob, limits)?);
    }
    let path = scratch.join("parents");
    let disk = create(&path)?;
    let spool = spool(&scratch.join("spool")).map_err(StoreError::io("create", &path))?;
    let written = parents.write(BufWriter::new(&disk), spool);
    let written = written.map_err(|source| LoadError::Layer {
        layer: layers[0].blob,
        source,
    })?;
    if written.is_none() {
        return Ok(None);
    }
    let read = File::open(&path).map_err(StoreError::io("read", &path))?;
    let mut tee = Tee::<_, io::Sink>::new(read, None);
    io::copy(&mut tee, &mut io::sink()).map_err(StoreError::io("read", &path))?;
    let digest = tee.finish().0;
    // Pods may have it open.
    if !store.has_disk(digest) {
        commit(&disk, &path, &store.layer_path(digest))?;
    }
    Ok(Some(digest))
}

/// The tree of a layer that has become a disk before.
fn tree(blob: File, digest: Digest, limits: &Limits) -> Result<Tree, LoadError> {
    let wrong = |source| LoadError::Layer {
        layer: digest,
        source,
    };
    let unreadable = |error| wrong(LayerError::Tar(TarError::Io(error)));
    let packed = Cell::new(blob.metadata().map_err(unreadable)?.len());
    let mut blob = BufReader::with_capacity(128 << 10, blob);
    let compression = Compression::of(&mut blob).map_err(unreadable)?;
    let tar = Bounded::new(compression.decoder(blob), &packed, limits);
    let tar = BufReader::with_capacity(128 << 10, tar);
    layer::tree_of(tar.take(u64::MAX), limits).map_err(wrong)
}
