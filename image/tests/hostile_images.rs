//! Images made to do harm, loaded and pulled: each is refused with the layer's digest and the
//! entry, within its bounds, and nothing of it stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::time::{Duration, Instant};

use beluga_image::{Digest, LoadError, LoadOptions, PullOptions, Registry, Source, Store};
use serde_json::json;
use support::layout::{INDEX, LAYER, Layout, config, contents, descriptor};
use support::registry::Fake;
use support::store::{gzip, layer, load, refused, told};
use support::{Entry, Scratch, Tar, device, dir, file, hard_link, run, symlink};

/// Pulls an image that must not come in; what is left of it, and why it was refused.
fn pulled(layout: &Layout) -> (Vec<(String, u64)>, LoadError) {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let fake = Fake::of(layout);
    let (registry, options) = (Registry::default(), PullOptions::default());
    let error = store.pull(&fake.name("app:1"), &registry, &options, &mut |_| {});
    let mut left = contents(store.root());
    left.retain(|(name, _)| name != "lock");
    (left, error.expect_err("a hostile image came in"))
}

fn sparse(size: &[u8]) -> Entry {
    file("holes", b"x")
        .pax("GNU.sparse.major", b"0")
        .pax("GNU.sparse.minor", b"1")
        .pax("GNU.sparse.size", size)
        .pax("GNU.sparse.map", b"0,1")
}

/// A malformed pax header behind an entry.
fn malformed(records: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(records.len() as u64);
    header.set_cksum();
    let mut tar = Tar::of([file("good", b"x")]);
    tar.raw(header.as_bytes(), records);
    tar.with(file("bad", b"x")).end()
}

type Hostile = (Vec<u8>, &'static str, &'static str);

/// Layers, the entry that each is refused by, and why.
fn hostile() -> Vec<Hostile> {
    let of = |entries: Vec<Entry>| Tar::of(entries).end();
    let up = vec![
        symlink("up", "../../../.."),
        hard_link("l", "up/etc/passwd"),
    ];
    let around = vec![symlink("a", "b"), symlink("b", "a"), file("a/x", b"")];
    let (out, beyond) = ("out of the image's root", "outside the image's root");
    let (absent, opaque) = ("is not in this layer", "hides everything");
    let whole = vec![file("opaque", b""), file(".wh..wh..opq", b"")];
    let mut all = vec![
        (of(vec![file("../../etc/x", b"x")]), "../../etc/x", out),
        (of(vec![file("/../x", b"x")]), "/../x", out),
        (
            of(vec![hard_link("l", "../../etc/passwd")]),
            "\"l\"",
            beyond,
        ),
        (of(vec![hard_link("l", "/etc/passwd")]), "\"l\"", absent),
        (of(up), "\"l\"", absent),
        (of(around), "a/x", "loop of symlinks"),
        (
            of(vec![file("f", b""), file("f/x", b"")]),
            "f/x",
            "parent that is no directory",
        ),
        (
            of(vec![device("dev/x", b'4', 5000, 1)]),
            "dev/x",
            "impossible number 5000:1",
        ),
        (of(whole), ".wh..wh..opq", opaque),
    ];
    let too_large = "come to more than 68719476736 bytes";
    for size in ["9223372036854775807", "68719476737"] {
        all.push((of(vec![sparse(size.as_bytes())]), "holes", too_large));
    }
    for (records, why) in [
        (&b"9999 path=x\n"[..], "a record's length is wrong"),
        (b"12 path=a\0b\n", "a name contains a zero byte"),
        (b"11 size=-1\n", "a number is expected"),
    ] {
        all.push((malformed(records), "\"good\" or right behind", why));
    }
    all
}

#[test]
fn hostile_layers_are_named_by_digest_and_entry_and_leave_nothing() {
    for (bad, entry, why) in hostile() {
        let good = layer("good");
        let layout = Layout::image("app:1", &[&good, &bad]);
        let (left, error) = pulled(&layout);
        assert_eq!(left, [], "{entry}");
        // Loaded into a store that has another image, which stays as it was.
        for error in [refused(&layout), error] {
            let text = told(&error);
            assert!(text.contains(&Digest::of(&bad).to_string()), "{text}");
            assert!(
                text.contains(entry) && text.contains(why),
                "{entry}: {text}"
            );
        }
    }
}

#[test]
fn bombs_are_stopped_where_they_go_off() {
    // 8 MiB of zeros in some kB; the limits are as many times smaller as the bomb is.
    let tar = Tar::of([file("small", b"x"), file("zeros", &vec![0; 8 << 20])]).end();
    let packed = gzip(&tar);
    let mut layout = Layout::default();
    let image = layout.add(&config("amd64", &[&tar]), &[(LAYER, packed.clone())]);
    layout.name(image, "app:1");
    let scratch = Scratch::new();
    let path = layout.directory(&scratch, "oci");
    let store = Store::open(scratch.0.join("store")).unwrap();
    let before = contents(store.root());
    let mut by_ratio = LoadOptions::default();
    (by_ratio.limits.ratio_free_bytes, by_ratio.limits.max_ratio) = (1 << 20, 50);
    let mut by_total = LoadOptions::default();
    by_total.limits.max_tar_bytes = 1 << 20;
    let mut by_files = LoadOptions::default();
    by_files.limits.max_file_bytes = 1 << 20;
    for (options, why) in [
        (by_ratio, "expands more than 50-fold"),
        (by_total, "more than 1048576 bytes"),
        (by_files, "come to more than 1048576 bytes"),
    ] {
        let begun = Instant::now();
        let error = store.load(Source::Path(&path), &options, &mut |_| {});
        let text = told(&error.expect_err("a bomb came in"));
        assert!(text.contains(why) && text.contains("\"zeros\""), "{text}");
        assert!(text.contains(&Digest::of(&packed).to_string()), "{text}");
        assert_eq!(contents(store.root()), before, "{text}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{text}");
    }
}

#[test]
fn names_that_differ_in_case_or_come_twice_mean_what_linux_means() {
    let tar = Tar::of([
        dir("etc"),
        file("etc/passwd", b"first"),
        file("ETC/passwd", b"other directory"),
        file("etc/PASSWD", b"other file"),
        file("etc/./passwd", b"the last one counts"),
        file("etc//x/../twice", b"1"),
        symlink("etc/twice", "passwd"),
        // No file system here takes the two for one: `ſ` and `K` are no S and no k.
        file("etc/pa\u{17f}swd", b"long s"),
        file("\u{212a}", b"kelvin"),
        file("k", b"k"),
    ]);
    let tar = tar.end();
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let path = Layout::image("app:1", &[&tar]).directory(&scratch, "oci");
    let loaded = load(&store, &path).unwrap();
    let disk = &loaded[0].image.layers[0].path;
    let out = scratch.0.join("out");
    let mut fsck = std::process::Command::new("fsck.erofs");
    fsck.arg(format!("--extract={}", out.display())).arg(disk);
    run(&mut fsck).unwrap();
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    for (name, meant) in [
        ("etc/passwd", "the last one counts"),
        ("ETC/passwd", "other directory"),
        ("etc/PASSWD", "other file"),
        ("etc/pa\u{17f}swd", "long s"),
        ("etc/twice", "the last one counts"),
        ("\u{212a}", "kelvin"),
        ("k", "k"),
    ] {
        assert_eq!(text(name), meant, "{name}");
    }
}

#[test]
fn an_index_that_leads_to_itself_or_nowhere_ends() {
    // One that names itself can have no right digest.
    let own = json!({"mediaType": INDEX, "digest": Digest::of(b"itself"), "size": 200});
    let mut layout = Layout::default();
    let mut bytes = json!({"schemaVersion": 2, "manifests": [own]})
        .to_string()
        .into_bytes();
    bytes.resize(200, b' ');
    let name = format!("blobs/sha256/{}", Digest::of(b"itself").hex());
    layout.files.push((name, bytes));
    layout.name(own, "app:1");
    let text = told(&refused(&layout));
    assert!(text.contains("has the wrong contents"), "{text}");
    // A chain of indexes.
    let mut layout = Layout::default();
    let inner = layout.indexes(10);
    layout.blob(&inner);
    layout.name(descriptor(INDEX, &inner), "app:1");
    let text = told(&refused(&layout));
    assert!(text.contains("lies too deep in other indexes"), "{text}");
}
