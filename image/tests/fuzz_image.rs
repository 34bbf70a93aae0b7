//! Images mutated at random, the same way on every run: each comes in whole or not at all.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use beluga_image::{LoadOptions, Source, Store};
use support::layout::{LAYER, Layout, config, contents, descriptor, docker_archive};
use support::random::{Random, begin, tell};
use support::store::{gzip, layer, zstd};
use support::{Scratch, Tar, file};

/// Changes some bytes, or takes some away, or doubles some.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(40)).min(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            3 => bytes[at] = b"{}[]\":,0-9eE.\\\0 "[random.below(16)],
            _ => bytes[at] = random.next() as u8,
        }
    }
}

/// An archive with one part changed, and the digests of what is above it put right, so that the
/// change gets past the first look; now and then the archive itself is changed.
fn archive(random: &mut Random) -> Vec<u8> {
    let tars = [layer("one"), Tar::of([file("f", &vec![7; 3000])]).end()];
    let mut packed = [gzip(&tars[0]), zstd(&tars[1])];
    let mut config = config("amd64", &[&tars[0], &tars[1]]);
    let part = random.below(6);
    match part {
        0 => mutate(&mut packed[0], random),
        1 => mutate(&mut packed[1], random),
        2 => mutate(&mut config, random),
        _ => {}
    }
    let mut layout = Layout::default();
    let [one, two] = packed;
    let mut image = layout.add(&config, &[(LAYER, one), (LAYER, two)]);
    if part == 3 {
        let mut manifest = layout.files.pop().unwrap().1;
        mutate(&mut manifest, random);
        layout.blob(&manifest);
        image = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    }
    layout.name(image, "app:1");
    let mut tar = match part {
        4 => docker_archive("app:1", &[&tars[0], &tars[1]]),
        _ => layout.tar(),
    };
    if part > 3 {
        mutate(&mut tar, random);
    }
    tar
}

#[test]
fn fuzz_no_image_comes_in_by_half() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let empty = contents(store.root());
    let (end, mut random) = begin();
    let (mut rounds, mut accepted) = (0, 0);
    while Instant::now() < end {
        rounds += 1;
        let bytes = archive(&mut random);
        let mut source = &bytes[..];
        let options = LoadOptions::default();
        match store.load(Source::Stream(&mut source), &options, &mut |_| {}) {
            Err(error) => {
                assert_eq!(contents(store.root()), empty, "round {rounds}: {error}");
            }
            Ok(loaded) => {
                accepted += 1;
                assert!(store.check().unwrap().is_empty(), "round {rounds}");
                for image in loaded {
                    let removal = store.removal().unwrap();
                    let id = image.image.id.to_string();
                    let removed = removal.remove(&id, &BTreeMap::new(), true).unwrap();
                    assert!(removed.deleted.is_some(), "round {rounds}");
                }
                assert_eq!(contents(store.root()), empty, "round {rounds}");
            }
        }
    }
    tell(rounds);
    assert!(accepted > 0 && accepted < rounds, "{accepted} of {rounds}");
}
