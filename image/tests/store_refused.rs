//! What must not come into a store: it is refused, and nothing half-done stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use beluga_image::{Digest, LoadError, LoadOptions, Source, Store};
use support::layout::{LAYER, Layout, config, docker_archive};
use support::store::{gzip, layer, load, refused};
use support::{Scratch, Tar, file};

#[test]
fn wrong_digests_and_sizes() {
    let (one, two) = (layer("one"), layer("two"));
    let good = Layout::image("app:1", &[&one, &two]);
    for (number, what) in ["config", "first layer", "second layer", "manifest"]
        .iter()
        .enumerate()
    {
        let mut spoilt = good.clone();
        let at = spoilt.files[number].1.len() / 2;
        spoilt.files[number].1[at] ^= 1;
        let error = refused(&spoilt);
        assert!(
            matches!(error, LoadError::WrongDigest { .. }),
            "{what}: {error}"
        );
        let mut longer = good.clone();
        longer.files[number].1.push(0);
        let error = refused(&longer);
        assert!(
            matches!(error, LoadError::WrongSize { .. }),
            "{what}: {error}"
        );
        let mut missing = good.clone();
        missing.files.remove(number);
        let error = refused(&missing);
        assert!(
            matches!(error, LoadError::Missing { .. }),
            "{what}: {error}"
        );
    }
}

#[test]
fn a_file_that_stops_in_the_middle_says_so_whatever_it_was() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let whole = docker_archive("app:1", &[&layer("one")]);
    // In the contents of the first file and of the second: what makes it an image comes last.
    for cut in [513, 600, 2000] {
        let path = scratch.file("cut.tar", &whole[..cut]);
        let error = load(&store, &path).expect_err("half an archive came in");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let told = format!("the archive ends in the middle of an entry, at byte {cut}");
        assert_eq!(source, Some(told), "{error}");
    }
}

#[test]
fn configurations_that_lie() {
    let (one, two) = (layer("one"), layer("two"));
    let mut swapped = Layout::default();
    let manifest = swapped.add(&config("amd64", &[&two]), &[(LAYER, one.clone())]);
    swapped.name(manifest, "app:1");
    assert!(matches!(refused(&swapped), LoadError::WrongDiffId { .. }));

    let mut short = Layout::default();
    let manifest = short.add(
        &config("amd64", &[&one]),
        &[(LAYER, one.clone()), (LAYER, two)],
    );
    short.name(manifest, "app:1");
    assert!(matches!(
        refused(&short),
        LoadError::LayerCount {
            layers: 2,
            diff_ids: 1,
            ..
        }
    ));

    let mut encrypted = Layout::default();
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
    let manifest = encrypted.add(&config("amd64", &[&one]), &[(kind, one)]);
    encrypted.name(manifest, "app:1");
    assert!(matches!(refused(&encrypted), LoadError::MediaType { .. }));
}

#[test]
fn a_hostile_layer_is_named() {
    let (good, bad) = (
        layer("good"),
        Tar::of([file("../../etc/passwd", b"x")]).end(),
    );
    let error = refused(&Layout::image("app:1", &[&good, &bad]));
    let LoadError::Layer { layer, source } = &error else {
        panic!("{error}")
    };
    assert_eq!(*layer, Digest::of(&bad));
    assert!(source.to_string().contains("../../etc/passwd"), "{source}");
}

#[test]
fn bombs() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let tar = Tar::of([file("zeros", &vec![0; 4 << 20])]).end();
    let mut layout = Layout::default();
    let manifest = layout.add(&config("amd64", &[&tar]), &[("x.tar+gzip", gzip(&tar))]);
    layout.name(manifest, "app:1");
    let path = layout.directory(&scratch, "oci");
    let mut options = LoadOptions::default();
    options.limits.ratio_free_bytes = 1 << 20;
    options.limits.max_ratio = 50;
    let error = store
        .load(Source::Path(&path), &options, &mut |_| {})
        .unwrap_err();
    assert!(format!("{error:?}").contains("Ratio"), "{error:?}");
    options.limits.max_tar_bytes = 1 << 20;
    let error = store
        .load(Source::Path(&path), &options, &mut |_| {})
        .unwrap_err();
    assert!(format!("{error:?}").contains("Total"), "{error:?}");
    assert!(
        load(&store, &path).is_ok(),
        "a short run of zeros is no bomb"
    );
}

#[test]
fn sources_that_are_none() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let error = load(&store, &scratch.file("x", b"not a tar")).unwrap_err();
    assert!(matches!(error, LoadError::Archive { .. }), "{error}");
    let tar = scratch.file("empty.tar", &layer("no image"));
    assert!(matches!(
        load(&store, &tar).unwrap_err(),
        LoadError::UnknownFormat { .. }
    ));
    assert!(matches!(
        load(&store, &scratch.0).unwrap_err(),
        LoadError::UnknownFormat { .. }
    ));
    let absent = scratch.0.join("absent");
    assert!(matches!(
        load(&store, &absent).unwrap_err(),
        LoadError::Read { .. }
    ));
    let none = Layout::default().directory(&scratch, "none");
    assert!(matches!(
        load(&store, &none).unwrap_err(),
        LoadError::NoImage { .. }
    ));
}
