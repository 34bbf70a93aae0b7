//! One name for several images, and one image in several packings.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use beluga_image::{
    Digest, Image, Platform, PullOptions, PulledImage, Reference, Registry, SaveFormat, SaveImage,
    Store,
};
use serde_json::{Value, json};
use support::layout::{INDEX, LAYER, Layout, config, descriptor};
use support::registry::{Fake, pull};
use support::store::{gzip, layer, load, reference, told, zstd};
use support::{Scratch, Tar, dir, file};

/// A layout of one image whose layers are packed by `how`.
fn packed(tars: &[Vec<u8>], ending: &str, how: impl Fn(&[u8]) -> Vec<u8>) -> Layout {
    let mut layout = Layout::default();
    let kind = format!("{LAYER}{ending}");
    let layers: Vec<_> = tars.iter().map(|tar| (kind.as_str(), how(tar))).collect();
    let diffs: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    let image = layout.add(&config("amd64", &diffs), &layers);
    layout.name(image, "app:1");
    layout
}

/// The manifest of an image that was saved and loaded elsewhere.
fn saved(store: &Store, image: &Image) -> Digest {
    let mut archive = Vec::new();
    let one = SaveImage {
        image: image.clone(),
        names: vec![reference("app:1")],
    };
    store
        .save(&[one], SaveFormat::OciArchive, &mut archive)
        .unwrap();
    let scratch = Scratch::new();
    let other = Store::open(scratch.0.join("store")).unwrap();
    let loaded = load(&other, &scratch.file("saved.tar", &archive)).unwrap();
    assert!(other.check().unwrap().is_empty());
    loaded[0].image.manifest_digest
}

/// Which file each disk of an image is.
fn disks(image: &Image) -> Vec<u64> {
    let disks = image.layers.iter();
    disks
        .map(|disk| fs::metadata(&disk.path).unwrap().ino())
        .collect()
}

#[test]
fn each_image_keeps_its_layers_as_they_were_packed() {
    // The upper one does not describe where its file lies: the image has a disk for that.
    let tars = [
        Tar::of([dir("./"), dir("tmp").mode(0o1777), file("a", &[7; 9000])]).end(),
        Tar::of([file("tmp/x", b"x")]).end(),
    ];
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let mut pulled: Vec<PulledImage> = Vec::new();
    for layout in [
        packed(&tars, "+gzip", gzip),
        packed(&tars, "", <[u8]>::to_vec),
        packed(&tars, "+zstd", zstd),
    ] {
        let one = pull(&store, &Fake::of(&layout).name("app:1")).unwrap();
        assert!(one.fetched > 0 && one.image.layers.len() == 3);
        assert!(one.image.layers[2].is_parents);
        pulled.push(one);
        assert!(store.check().unwrap().is_empty());
    }
    // What is in them is the same, and pods that have the disks open share them with the next.
    for one in &pulled {
        assert_eq!(disks(&one.image), disks(&pulled[0].image));
        assert_eq!(saved(&store, &one.image), one.digest);
    }
    assert!(pulled[0].digest != pulled[1].digest && pulled[1].digest != pulled[2].digest);
}

#[test]
fn a_layer_that_was_cut_off_comes_again() {
    let tars = [layer("one")];
    let layout = packed(&tars, "+gzip", gzip);
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let fake = Fake::of(&layout);
    let first = pull(&store, &fake.name("app:1")).unwrap();
    let hex = Digest::of(&gzip(&tars[0])).hex();
    let blob = store.root().join("blobs/sha256").join(hex);
    fs::write(blob, b"cut").unwrap();
    assert!(!store.check().unwrap().is_empty());
    let again = pull(&store, &fake.name("app:1")).unwrap();
    assert_eq!(again.fetched, first.fetched);
    assert!(store.check().unwrap().is_empty());
}

/// The media types of an index, a manifest, a configuration and a layer.
const KINDS: [[&str; 4]; 2] = [
    [
        INDEX,
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar+gzip",
    ],
    [
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ],
];

/// Adds an image; its entry in an index.
fn entry(layout: &mut Layout, kinds: [&str; 4], architecture: &str) -> Value {
    let tar = layer(architecture);
    let (config, packed) = (config(architecture, &[&tar]), gzip(&tar));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kinds[1],
        "config": descriptor(kinds[2], &config), "layers": [descriptor(kinds[3], &packed)],
    });
    let manifest = manifest.to_string().into_bytes();
    for bytes in [&config, &packed, &manifest] {
        layout.blob(bytes);
    }
    let mut entry = descriptor(kinds[1], &manifest);
    entry["platform"] = json!({"os": "linux", "architecture": architecture});
    entry
}

/// An index of two images and what somebody attests of the first; its digest, and its entries.
fn index(kinds: [&str; 4]) -> (Layout, Digest, Vec<Value>) {
    let mut layout = Layout::default();
    let [arm, amd] = ["arm64", "amd64"].map(|name| entry(&mut layout, kinds, name));
    let about = json!({"schemaVersion": 2, "layers": []}).to_string();
    layout.blob(about.as_bytes());
    let mut attestation = descriptor(kinds[1], about.as_bytes());
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let entries = vec![attestation, arm, amd];
    let index = json!({"schemaVersion": 2, "mediaType": kinds[0], "manifests": entries});
    let index = index.to_string().into_bytes();
    layout.blob(&index);
    layout.name(descriptor(kinds[0], &index), "app:1");
    (layout, Digest::of(&index), entries)
}

fn pull_for(store: &Store, name: &Reference, architecture: &str) -> Result<PulledImage, String> {
    let options = PullOptions {
        platform: Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        },
        ..PullOptions::default()
    };
    let pulled = store.pull(name, &Registry::default(), &options, &mut |_| {});
    pulled.map_err(|error| told(&error))
}

#[test]
fn an_index_gives_the_image_of_the_platform() {
    for kinds in KINDS {
        let (layout, digest, entries) = index(kinds);
        for (number, architecture) in [(2, "amd64"), (1, "arm64")] {
            let scratch = Scratch::new();
            let store = Store::open(scratch.0.join("store")).unwrap();
            let fake = Fake::of(&layout);
            let name = fake.name("app:1");
            let pulled = pull_for(&store, &name, architecture).unwrap();
            assert_eq!(pulled.digest, digest);
            let image = pulled.image;
            let manifest = json!(image.manifest_digest);
            assert_eq!(manifest, entries[number]["digest"], "{architecture}");
            assert_eq!(image.config.platform.architecture, architecture);
            // By the index's digest it is known from now on, and nothing else was asked for.
            for digest in [digest, image.manifest_digest] {
                let by_digest = fake.name(&format!("app@{digest}"));
                let found = store.resolve(&by_digest).unwrap();
                assert_eq!(found.map(|found| found.id), Some(image.id), "{by_digest}");
            }
            for (other, entry) in entries.iter().enumerate() {
                let asked = fake.paths(entry["digest"].as_str().unwrap());
                assert_eq!(asked.is_empty(), other != number, "{asked:?}");
            }
        }
    }
}

#[test]
fn an_index_without_the_platform_says_what_it_has() {
    for kinds in KINDS {
        let (layout, ..) = index(kinds);
        let scratch = Scratch::new();
        let store = Store::open(scratch.0.join("store")).unwrap();
        let fake = Fake::of(&layout);
        let said = pull_for(&store, &fake.name("app:1"), "s390x").unwrap_err();
        let why = "the image is for linux/arm64, linux/amd64, and linux/s390x is wanted";
        assert!(said.contains(why), "{said}");
        assert!(fake.paths("/blobs/").is_empty());
    }
}
