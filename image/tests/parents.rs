//! Directories that a layer has without describing them are what the layers below say of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use beluga_image::{Image, Store};
use support::layout::Layout;
use support::registry::{Fake, pull};
use support::store::load;
use support::{Entry, Scratch, Tar, dir, file, run};

fn tar(entries: impl IntoIterator<Item = Entry>) -> Vec<u8> {
    Tar::of(entries).end()
}

/// Layers of which the upper ones do not describe where their files lie.
fn layers() -> [Vec<u8>; 3] {
    let lowest = tar([
        dir("./"),
        dir("tmp").mode(0o1777),
        dir("home").mode(0o751),
        dir("home/app")
            .mode(0o700)
            .owner(1000, 1001)
            .pax("mtime", b"5.25"),
        dir("plain"),
        dir("gone").mode(0o711),
        dir("told").mode(0o700),
    ]);
    let middle = tar([
        file("tmp/x", b"x"),
        file("home/app/.wh.old", b""),
        file(".wh.gone", b""),
        dir("told").mode(0o705),
        file("new/x", b"x"),
    ]);
    let top = tar([
        file("home/app/y", b"y"),
        file("gone/z", b"z"),
        file("told/z", b"z"),
    ]);
    [lowest, middle, top]
}

/// What the image's topmost disk holds, as `mode owner:group path`.
fn topmost(scratch: &Scratch, image: &Image) -> Vec<String> {
    let disk = image.layers.last().unwrap();
    assert!(disk.is_parents);
    let out = scratch.0.join("out");
    let mut fsck = Command::new("fsck.erofs");
    fsck.arg("--preserve")
        .arg(format!("--extract={}", out.display()));
    run(fsck.arg(&disk.path)).unwrap();
    let mut found = Vec::new();
    let mut stack = vec![out.clone()];
    while let Some(path) = stack.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(&out).unwrap().display();
        let is_dir = meta.is_dir();
        found.push(format!(
            "{:o} {}:{} {name}",
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid()
        ));
        if is_dir {
            stack.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    found.sort();
    found
}

#[test]
fn parents_are_what_the_layers_below_say() {
    let [lowest, middle, top] = layers();
    let layout = Layout::image("app:1", &[&lowest, &middle, &top]);
    let wanted = [
        // `gone` was hidden and is new; `told` is so by the middle layer.
        "1777 0:0 tmp",
        "700 1000:1001 home/app",
        "705 0:0 told",
        "751 0:0 home",
        "755 0:0 ",
    ];
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let loaded = load(&store, &layout.directory(&scratch, "oci")).unwrap();
    let image = &loaded[0].image;
    assert_eq!(image.layers.len(), 4);
    assert_eq!(topmost(&scratch, image), wanted);
    assert!(store.check().unwrap().is_empty());
    // The same when it is pulled, and again from what is here; with the image it goes.
    let fake = Fake::of(&layout);
    let other = Store::open(scratch.0.join("other")).unwrap();
    let pulled = pull(&other, &fake.name("app:1")).unwrap();
    let names = |image: &Image| {
        image
            .layers
            .iter()
            .map(|one| one.diff_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&pulled.image), names(image));
    let again = pull(&store, &fake.name("app:1")).unwrap();
    assert_eq!((again.fetched, names(&again.image)), (0, names(image)));
    let path = image.layers[3].path.clone();
    assert!(path.exists());
    for name in &store.list().unwrap()[0].names {
        store
            .remove(&name.to_string(), &Default::default())
            .unwrap();
    }
    assert!(!path.exists());
}

#[test]
fn an_image_that_describes_all_has_no_more_disks_than_layers() {
    let lowest = tar([dir("tmp").mode(0o1777), file("implied/x", b"x")]);
    let top = tar([
        dir("tmp").mode(0o1777),
        file("tmp/x", b"x"),
        file("new/y", b"y"),
    ]);
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let layout = Layout::image("app:1", &[&lowest, &top]);
    let loaded = load(&store, &layout.directory(&scratch, "oci")).unwrap();
    assert_eq!(loaded[0].image.layers.len(), 2);
}
