//! Layers and layouts on their way into a store.

use std::io::Write as _;
use std::path::Path;

use super::layout::{Layout, contents};
use super::{Scratch, Tar, dir, file};
use beluga_image::{LoadError, LoadOptions, LoadedImage, Reference, Source, Store};

pub fn layer(text: &str) -> Vec<u8> {
    Tar::of([dir("etc"), file("etc/motd", text.as_bytes())]).end()
}

pub fn load(store: &Store, path: &Path) -> Result<Vec<LoadedImage>, LoadError> {
    store.load(Source::Path(path), &LoadOptions::default(), &mut |_| {})
}

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// Loads a spoilt layout; nothing may be left of it.
pub fn refused(layout: &Layout) -> LoadError {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    load(
        &store,
        &Layout::image("old:1", &[&layer("old")]).directory(&scratch, "old"),
    )
    .unwrap();
    let before = contents(store.root());
    let error = load(&store, &layout.directory(&scratch, "oci")).expect_err("a bad image came in");
    assert_eq!(contents(store.root()), before, "{error}");
    error
}

/// The whole chain of messages.
pub fn told(error: &LoadError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

/// A store, and a place for it that goes with it.
pub fn store() -> (Scratch, Store) {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    (scratch, store)
}

/// A layer that does not compress.
pub fn large(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let bytes: Vec<u8> = (0..900_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    Tar::of([file("large", &bytes)]).end()
}

/// Everything in a store but its lock.
pub fn kept(store: &Store) -> Vec<(String, u64)> {
    let mut found = contents(store.root());
    found.retain(|(name, _)| name != "lock");
    found
}
