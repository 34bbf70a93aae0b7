//! What stays in a store, what goes, and what is never done twice or by half.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use beluga_image::{Digest, LoadOptions, Progress, RemoveError, Source, Store, StoreError, Unused};
use support::layout::{LAYER, Layout, config, contents};
use support::store::{gzip, layer, load, reference};
use support::{Scratch, Tar, file, run, skip};

#[test]
fn an_image_that_somebody_is_about_to_use_stays() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let empty = contents(store.root());
    let base = layer("base");
    let source = Layout::image("base:1", &[&base]).directory(&scratch, "base");
    let image = load(&store, &source).unwrap()[0].image.clone();
    let nobody = BTreeMap::new();
    let mut hold = store.hold().unwrap();
    assert!(hold.resolve(&reference("base:1")).unwrap().is_some());
    let error = store.remove("base:1", &nobody).unwrap_err();
    assert!(matches!(error, RemoveError::InUse { .. }), "{error}");
    let pruned = |store: &Store| {
        store
            .removal()
            .unwrap()
            .prune(Unused::All, &nobody)
            .unwrap()
    };
    assert_eq!(pruned(&store).images, []);
    drop(hold);
    assert_eq!(pruned(&store).images, std::slice::from_ref(&image));
    let mut late = store.hold().unwrap();
    assert!(!late.take(&image).unwrap());
    drop(late);
    assert_eq!(contents(store.root()), empty);
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
    // Whoever only looks finds it and leaves it there.
    let looked = Store::open_as_it_is(&root).unwrap();
    assert_eq!(looked.left_by_crashes().unwrap(), [root.join("tmp/1-0")]);
    assert!(root.join("tmp/1-0/blob").exists());
    Store::open(&root).unwrap();
    assert_eq!(contents(&root), before);

    // While somebody holds the lock, temporary files are theirs.
    let lock = fs::File::open(root.join("lock")).unwrap();
    lock.lock().unwrap();
    scratch.file("store/tmp/2-0/blob", b"theirs");
    let store = Store::open(&root).unwrap();
    assert!(root.join("tmp/2-0/blob").exists());
    assert!(store.left_by_crashes().unwrap().is_empty());
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
        let (mut most, path) = (0, layout.directory(&scratch, name));
        let options = LoadOptions::default();
        let error = store.load(Source::Path(&path), &options, &mut |step| {
            if let Progress::Layer { done, .. } = step {
                most = most.max(done);
            }
        });
        let error = error.unwrap_err();
        // The rest of it is not read.
        assert!(most < 6 << 20, "{most} bytes were read: {error}");
        assert!(format!("{error:?}").contains("StorageFull"), "{error:?}");
        assert!(!error.to_string().contains("cannot read"), "{error}");
        assert_eq!(contents(&root), before);
    }
}

#[test]
fn what_is_damaged_costs_its_image_and_is_mended_by_another_load() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let source = |name: &str| {
        let layout = Layout::image(&format!("{name}:1"), &[&layer(name)]);
        layout.directory(&scratch, name)
    };
    let image = load(&store, &source("app")).unwrap()[0].image.clone();
    load(&store, &source("other")).unwrap();
    let record = format!("images/{}.json", image.manifest_digest.hex());
    let config = format!("blobs/sha256/{}", image.id.hex());
    let disk = image.layers[0].path.clone();
    for file in [disk, store.root().join(record), store.root().join(config)] {
        fs::write(&file, "").unwrap();
        if file.extension().is_some_and(|end| end == "erofs") {
            fs::remove_file(&file).unwrap();
        }
        let listed = store.list().unwrap();
        assert_eq!(listed.len(), 1, "{}", file.display());
        assert_eq!(listed[0].names, [reference("other:1")]);
        let broken = store.broken().unwrap();
        assert_eq!(broken.len(), 1, "{}", file.display());
        assert_eq!(broken[0].names, [reference("app:1")]);
        assert_eq!(store.usage().unwrap().images.len(), 1);
        assert_eq!(store.check().unwrap().len(), 1, "{}", file.display());
        // What belongs to it is not swept with something else.
        let before = contents(store.root()).len();
        store
            .removal()
            .unwrap()
            .prune(Unused::Untagged, &BTreeMap::new())
            .unwrap();
        assert_eq!(contents(store.root()).len(), before);
        assert_eq!(load(&store, &source("app")).unwrap()[0].image.id, image.id);
        assert_eq!(store.broken().unwrap(), []);
        assert_eq!(store.check().unwrap(), []);
    }
}

#[test]
fn what_is_damaged_can_be_removed() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let empty = contents(store.root());
    let source = Layout::image("app:1", &[&layer("one")]).directory(&scratch, "app");
    let nobody = BTreeMap::new();
    for target in ["app:1", "id", "manifest", "prune"] {
        let image = load(&store, &source).unwrap()[0].image.clone();
        let record = format!("images/{}.json", image.manifest_digest.hex());
        match target {
            "id" => fs::remove_file(&image.layers[0].path).unwrap(),
            _ => fs::write(store.root().join(record), "{").unwrap(),
        }
        let removed = match target {
            "id" => store.remove(&image.id.short(), &nobody).map(drop),
            "manifest" => store
                .remove(&image.manifest_digest.short(), &nobody)
                .map(drop),
            "prune" => {
                let pruned = store
                    .removal()
                    .unwrap()
                    .prune(Unused::All, &nobody)
                    .unwrap();
                assert_eq!(pruned.broken.len(), 1);
                Ok(())
            }
            name => store.remove(name, &nobody).map(drop),
        };
        removed.unwrap();
        assert_eq!(contents(store.root()), empty, "{target}");
    }
    // A name that nobody can read any more goes as well.
    load(&store, &source).unwrap();
    let names = fs::read_dir(store.root().join("names")).unwrap();
    for name in names {
        fs::write(name.unwrap().path(), "?").unwrap();
    }
    assert_eq!(store.lost_names().unwrap().len(), 1);
    store
        .removal()
        .unwrap()
        .prune(Unused::All, &nobody)
        .unwrap();
    assert_eq!(contents(store.root()), empty);
}
