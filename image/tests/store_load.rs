//! Loading into a store: every form of an image that arrives.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::fs;
use std::process::Command;

use beluga_image::{Digest, LoadError, LoadOptions, Source, Store};
use serde_json::json;
use support::layout::{INDEX, LAYER, Layout, config, descriptor, docker_archive};
use support::store::{gzip, layer, load, reference, refused, zstd};
use support::{Scratch, has_tool, run, skip};

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
        "the image is for linux/arm64/v8, and linux/amd64 is wanted"
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
fn a_program_for_a_newer_processor_is_no_offer() {
    let list = |manifests| {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        index.to_string().into_bytes()
    };
    let (one, two) = (layer("one"), layer("two"));
    let mut layout = Layout::default();
    let mut newer = layout.add(&config("amd64", &[&one]), &[(LAYER, one)]);
    newer["platform"] = json!({"os": "linux", "architecture": "amd64", "variant": "v4"});
    let mut plain = layout.add(&config("amd64", &[&two]), &[(LAYER, two)]);
    plain["platform"] = json!({"os": "linux", "architecture": "x86_64"});
    let mut only = layout.clone();
    let index = list(json!([newer, plain]));
    layout.blob(&index);
    layout.name(descriptor(INDEX, &index), "app:2");
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let loaded = load(&store, &layout.directory(&scratch, "variants")).unwrap();
    let digest = loaded[0].image.manifest_digest.to_string();
    assert_eq!(plain["digest"], digest);
    let index = list(json!([newer]));
    only.blob(&index);
    only.name(descriptor(INDEX, &index), "app:3");
    assert_eq!(
        refused(&only).to_string(),
        "the image is for linux/amd64/v4, and linux/amd64 is wanted"
    );
}

#[test]
fn a_document_that_could_be_two_images_is_refused() {
    let one = layer("one");
    let mut layout = Layout::default();
    let manifest = layout.add(&config("amd64", &[&one]), &[(LAYER, one)]);
    let digest = manifest["digest"].as_str().unwrap();
    let file = format!("blobs/sha256/{}", digest.replace("sha256:", ""));
    let (_, bytes) = layout.files.iter().find(|(name, _)| *name == file).unwrap();
    let mut both: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let other = json!([{"mediaType": INDEX, "digest": digest, "size": bytes.len()}]);
    both["manifests"] = other;
    let both = both.to_string().into_bytes();
    for kind in [manifest["mediaType"].as_str().unwrap(), INDEX] {
        let mut layout = layout.clone();
        layout.blob(&both);
        layout.name(descriptor(kind, &both), "app:1");
        assert!(matches!(refused(&layout), LoadError::Ambiguous { .. }));
    }
    // A manifest that is led to as an index.
    let mut called = manifest.clone();
    called["mediaType"] = json!(INDEX);
    layout.name(called, "app:1");
    assert!(matches!(refused(&layout), LoadError::Ambiguous { .. }));
}

#[test]
fn an_archive_without_a_name_gets_none_and_a_name_that_moves_is_told() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let first = Layout::image("nginx:latest", &[&layer("one")]).directory(&scratch, "first");
    let old = load(&store, &first).unwrap().remove(0);
    assert_eq!(old.moved, []);
    let mut unnamed = Layout::image("x:1", &[&layer("two")]);
    for manifest in &mut unnamed.manifests {
        manifest.as_object_mut().unwrap().remove("annotations");
    }
    let loaded = load(&store, &unnamed.directory(&scratch, "nginx")).unwrap();
    assert_eq!(loaded[0].names, []);
    let newer = Layout::image("nginx:latest", &[&layer("three")]).directory(&scratch, "newer");
    let loaded = load(&store, &newer).unwrap();
    assert_eq!(loaded[0].moved, [(reference("nginx"), old.image.id)]);
    assert_eq!(load(&store, &newer).unwrap()[0].moved, []);
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
