//! Loading into a store: what arrives, what is refused, and that nothing half-done stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use beluga_image::{
    Digest, LoadError, LoadOptions, LoadedImage, Progress, Reference, RemoveError, Source, Store,
    StoreError,
};
use serde_json::json;
use support::layout::{INDEX, LAYER, Layout, config, contents, descriptor, docker_archive};
use support::{Scratch, Tar, dir, file, has_tool, run, skip};

fn layer(text: &str) -> Vec<u8> {
    Tar::of([dir("etc"), file("etc/motd", text.as_bytes())]).end()
}

fn load(store: &Store, path: &Path) -> Result<Vec<LoadedImage>, LoadError> {
    store.load(Source::Path(path), &LoadOptions::default(), &mut |_| {})
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

#[test]
fn directory_tar_stream_and_docker_archive_give_one_image() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let (one, two) = (layer("one"), layer("two"));
    let layout = Layout::image("app:1", &[&one, &two]);
    let id = load(&store, &layout.directory(&scratch, "oci")).unwrap()[0]
        .image
        .id;

    let tar = scratch.file("oci.tar", &layout.tar());
    let packed = scratch.file("oci.tar.gz", &gzip(&layout.tar()));
    let docker = scratch.file("docker.tar", &docker_archive("app:docker", &[&one, &two]));
    for source in [&tar, &packed, &docker] {
        assert_eq!(load(&store, source).unwrap()[0].image.id, id, "{source:?}");
    }
    let mut bytes = &layout.tar()[..];
    let stream = Source::Stream(&mut bytes);
    let loaded = store
        .load(stream, &LoadOptions::default(), &mut |_| {})
        .unwrap();
    assert_eq!(loaded[0].names, [reference("app:1")]);

    let image = store.resolve(&reference("app:1")).unwrap().unwrap();
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.layers[0].diff_id, Digest::of(&one));
    assert!(
        image
            .layers
            .iter()
            .all(|l| l.size % 4096 == 0 && l.path.exists() && l.size > 0)
    );
    assert_eq!(
        (image.config.cmd, image.config.env),
        (vec!["sh".into()], vec!["A=b".into()])
    );
    assert_eq!(
        store.list().unwrap().len(),
        2,
        "two manifests, one configuration"
    );
    assert!(
        fs::read_dir(scratch.0.join("store/tmp"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn compressed_layers() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let tars = [layer("plain"), layer("gzip"), layer("zstd")];
    let mut layout = Layout::default();
    let config = config("amd64", &tars.each_ref().map(Vec::as_slice));
    let two_members = [gzip(&tars[1][..700]), gzip(&tars[1][700..])].concat();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..]].concat();
    let two_frames = [zstd(&tars[2][..700]), skippable, zstd(&tars[2][700..])].concat();
    let manifest = layout.add(
        &config,
        &[
            (
                "application/vnd.docker.image.rootfs.diff.tar",
                tars[0].clone(),
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                two_members,
            ),
            ("application/vnd.oci.image.layer.v1.tar+zstd", two_frames),
        ],
    );
    layout.name(manifest, "app:1");
    load(&store, &layout.directory(&scratch, "oci")).unwrap();
}

/// Loads a spoilt layout; nothing may be left of it.
fn refused(layout: &Layout) -> LoadError {
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
fn an_index_of_platforms() {
    let one = layer("one");
    let mut inner = Layout::default();
    let mut arm = inner.add(&config("arm64", &[&one]), &[(LAYER, one.clone())]);
    arm["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let mut amd = inner.add(&config("amd64", &[&one]), &[(LAYER, one.clone())]);
    amd["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let mut proof = inner.add(
        &config("unknown", &[]),
        &[("application/vnd.in-toto+json", vec![1])],
    );
    proof["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    proof["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let list = |manifests| {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        index.to_string().into_bytes()
    };
    let mut layout = inner.clone();
    let index = list(json!([proof, arm, amd]));
    layout.blob(&index);
    layout.name(descriptor(INDEX, &index), "app:1");
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let loaded = load(&store, &layout.directory(&scratch, "oci")).unwrap();
    assert_eq!(loaded[0].image.config.platform.architecture, "amd64");

    let mut foreign = inner.clone();
    let index = list(json!([arm]));
    foreign.blob(&index);
    foreign.name(descriptor(INDEX, &index), "app:1");
    let error = refused(&foreign);
    assert!(matches!(error, LoadError::WrongPlatform { .. }));
    assert_eq!(
        error.to_string(),
        "the image is for linux/arm64/v8, and this machine runs linux/amd64"
    );

    let mut deep = inner;
    let mut index = list(json!([amd]));
    for _ in 0..6 {
        deep.blob(&index);
        index = list(json!([descriptor(INDEX, &index)]));
    }
    deep.blob(&index);
    deep.name(descriptor(INDEX, &index), "app:1");
    assert!(matches!(refused(&deep), LoadError::IndexTooDeep { .. }));
}

#[test]
fn a_foreign_image_without_an_index() {
    let one = layer("one");
    let mut layout = Layout::default();
    let manifest = layout.add(&config("s390x", &[&one]), &[(LAYER, one)]);
    layout.name(manifest, "app:1");
    assert!(matches!(refused(&layout), LoadError::WrongPlatform { .. }));
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

#[test]
fn names() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let path = Layout::image("latest", &[&layer("one")]).directory(&scratch, "busybox");
    let loaded = load(&store, &path).unwrap();
    assert_eq!(
        loaded[0].names,
        [reference("busybox:latest")],
        "a bare tag takes the file's name"
    );
    let mut options = LoadOptions {
        tag: Some(reference("mine:2")),
        ..LoadOptions::default()
    };
    let loaded = store
        .load(Source::Path(&path), &options, &mut |_| {})
        .unwrap();
    assert_eq!(
        loaded[0].image.names,
        [reference("busybox"), reference("mine:2")]
    );

    // A name moves to the newer image; the older stays without one.
    let newer = Layout::image("busybox:latest", &[&layer("two")]);
    load(&store, &newer.directory(&scratch, "newer")).unwrap();
    let old = store.resolve(&reference("mine:2")).unwrap().unwrap();
    assert_eq!(old.names, [reference("mine:2")]);

    // By digest, only within a repository that has it.
    let digest = old.manifest_digest;
    assert!(
        store
            .resolve(&reference(&format!("mine@{digest}")))
            .unwrap()
            .is_some()
    );
    assert!(
        store
            .resolve(&reference(&format!("other@{digest}")))
            .unwrap()
            .is_none()
    );

    assert_eq!(store.find(&old.id.short()).unwrap().unwrap().id, old.id);
    assert!(store.find("mine").unwrap().is_none());
    options.tag = Some(reference("x"));
    let mut both = Layout::image("a:1", &[&layer("a")]);
    both.files.extend(newer.files.clone());
    both.manifests.extend(newer.manifests.clone());
    let both = both.directory(&scratch, "both");
    let error = store
        .load(Source::Path(&both), &options, &mut |_| {})
        .unwrap_err();
    assert!(matches!(error, LoadError::TagForMany { count: 2 }));
    assert_eq!(load(&store, &both).unwrap().len(), 2);
}

#[test]
fn removing_keeps_what_others_need() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let empty = contents(store.root());
    let (base, top) = (layer("base"), layer("top"));
    load(
        &store,
        &Layout::image("base:1", &[&base]).directory(&scratch, "base"),
    )
    .unwrap();
    let only_base = contents(store.root());
    let app = Layout::image("app:1", &[&base, &top]).directory(&scratch, "app");
    let image = load(&store, &app).unwrap()[0].image.clone();
    let tag = LoadOptions {
        tag: Some(reference("app:2")),
        ..LoadOptions::default()
    };
    store.load(Source::Path(&app), &tag, &mut |_| {}).unwrap();

    let nobody = BTreeMap::new();
    let users = BTreeMap::from([(image.id, vec!["pod web".to_owned()])]);
    let error = store.remove(&image.id.short(), &nobody).unwrap_err();
    assert!(matches!(error, RemoveError::ManyNames { .. }), "{error}");
    let removed = store.remove("app:2", &users).unwrap();
    assert_eq!(
        (removed.untagged, removed.deleted),
        (vec![reference("app:2")], None)
    );
    let error = store.remove("app:1", &users).unwrap_err();
    assert!(
        error.to_string().ends_with("is in use by pod web"),
        "{error}"
    );
    let removed = store.remove(&image.id.short(), &nobody).unwrap();
    assert_eq!(removed.deleted, Some(image.id));
    assert!(removed.freed > 0);
    assert_eq!(contents(store.root()), only_base);
    assert!(matches!(
        store.remove("app:1", &nobody).unwrap_err(),
        RemoveError::Absent { .. }
    ));
    store.remove("base:1", &nobody).unwrap();
    assert_eq!(contents(store.root()), empty);
}

#[test]
fn an_ambiguous_id() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    for number in 0..20 {
        let name = format!("image{number}");
        let layout = Layout::image(&format!("{name}:1"), &[&layer(&name)]);
        load(&store, &layout.directory(&scratch, &name)).unwrap();
    }
    // Twenty ids cannot begin with sixteen different digits.
    let ambiguous = (0..16).map(|digit| store.find(&format!("{digit:x}")));
    assert!(
        ambiguous
            .into_iter()
            .any(|r| matches!(r, Err(StoreError::Ambiguous { .. })))
    );
}

#[test]
fn concurrent_loads_do_the_work_once() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let tar = Tar::of((0..200).map(|i| file(&format!("f{i}"), &vec![7; 20_000]))).end();
    let path = Layout::image("app:1", &[&tar]).directory(&scratch, "app");
    let converted = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut count = |progress| {
                    if matches!(progress, Progress::LayerDone { reused: false, .. }) {
                        converted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                };
                let source = Source::Path(&path);
                store
                    .load(source, &LoadOptions::default(), &mut count)
                    .unwrap();
            });
        }
    });
    assert_eq!(converted.into_inner(), 1);
}

#[test]
fn a_crash_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let root = scratch.0.join("store");
    let store = Store::open(&root).unwrap();
    load(
        &store,
        &Layout::image("a:1", &[&layer("a")]).directory(&scratch, "a"),
    )
    .unwrap();
    let before = contents(&root);
    // As a load leaves it that is killed after its first layer.
    scratch.file("store/tmp/1-0/blob", b"half");
    scratch.file(
        &format!("store/blobs/sha256/{}", Digest::of(b"x").hex()),
        b"x",
    );
    scratch.file(
        &format!("store/layers/{}.erofs", Digest::of(b"x").hex()),
        b"x",
    );
    Store::open(&root).unwrap();
    assert_eq!(contents(&root), before);

    // While somebody holds the lock, temporary files are theirs.
    let lock = fs::File::open(root.join("lock")).unwrap();
    lock.lock().unwrap();
    scratch.file("store/tmp/2-0/blob", b"theirs");
    Store::open(&root).unwrap();
    assert!(root.join("tmp/2-0/blob").exists());
}

#[test]
fn a_full_disk() {
    let scratch = Scratch::new();
    let root = scratch.0.join("store");
    fs::create_dir(&root).unwrap();
    let mut mount = Command::new("mount");
    if let Err(reason) = run(mount
        .args(["-t", "tmpfs", "-o", "size=1M", "tmpfs"])
        .arg(&root))
    {
        return skip("a_full_disk", &reason);
    }
    let _mounted = support::Mount(root.clone());
    let store = Store::open(&root).unwrap();
    let before = contents(&root);
    let noise: Vec<u8> = (0..4_000_000u32)
        .flat_map(|i| i.wrapping_mul(i).to_le_bytes())
        .collect();
    let tar = Tar::of([file("noise", &noise)]).end();
    for (name, kind, bytes) in [
        ("plain", LAYER, tar.clone()),
        ("gz", "x.tar+gzip", gzip(&tar)),
    ] {
        let mut layout = Layout::default();
        let manifest = layout.add(&config("amd64", &[&tar]), &[(kind, bytes)]);
        layout.name(manifest, "app:1");
        let error = load(&store, &layout.directory(&scratch, name)).unwrap_err();
        assert!(format!("{error:?}").contains("StorageFull"), "{error:?}");
        assert!(!error.to_string().contains("cannot read"), "{error}");
        assert_eq!(contents(&root), before);
    }
}

#[test]
fn what_skopeo_writes() {
    let test = "what_skopeo_writes";
    if !has_tool("skopeo") {
        return skip(test, "no skopeo");
    }
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let source = Layout::image("app:1", &[&layer("one"), &layer("two")]);
    let source = format!("oci:{}:app:1", source.directory(&scratch, "oci").display());
    for (kind, file, tag) in [
        ("docker-archive", "docker.tar", ":example.com/app:2"),
        ("oci-archive", "oci.tar", ":example.com/app:3"),
        ("oci", "copy", ":example.com/app:4"),
    ] {
        let path = scratch.0.join(file);
        let mut command = Command::new("skopeo");
        command.args(["copy", "--insecure-policy", "-q", &source]);
        run(command.arg(format!("{kind}:{}{tag}", path.display()))).unwrap();
        let loaded = load(&store, &path).unwrap();
        assert_eq!(loaded[0].names, [reference(&tag[1..])], "{kind}");
    }
}
