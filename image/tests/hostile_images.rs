//! Images made to do harm, loaded and pulled: each is refused with the layer's digest and the
//! entry, within its bounds, and nothing of it stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::time::{Duration, Instant};

use beluga_image::{
    Digest, Limits, LoadError, LoadOptions, Progress, PullOptions, PullProgress, Registry, Source,
    Store,
};
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

/// Loads and pulls an image that passes these limits, and leaves nothing; for both why it was
/// refused, how many bytes of layers were read, and which blobs the registry was asked for.
fn beyond(layout: &Layout, limits: &Limits) -> (Vec<(String, u64)>, Vec<String>) {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let before = contents(store.root());
    let load = LoadOptions {
        limits: limits.clone(),
        ..LoadOptions::default()
    };
    let mut most = 0;
    let path = layout.directory(&scratch, "oci");
    let loaded = store.load(Source::Path(&path), &load, &mut |step| {
        if let Progress::Layer { done, .. } = step {
            most = most.max(done);
        }
    });
    let mut all = vec![(told(&loaded.expect_err("it was loaded")), most)];
    let pull = PullOptions {
        limits: limits.clone(),
        ..PullOptions::default()
    };
    let (fake, mut most) = (Fake::of(layout), 0);
    let name = fake.name("app:1");
    let pulled = store.pull(&name, &Registry::default(), &pull, &mut |step| {
        if let PullProgress::Layer { done, .. } = step {
            most = most.max(done);
        }
    });
    all.push((told(&pulled.expect_err("it was pulled")), most));
    let mut after = contents(store.root());
    after.retain(|file| !before.contains(file));
    assert_eq!(after, [], "{all:?}");
    (all, fake.paths("/blobs/"))
}

/// An image of layers that are packed by gzip.
fn packed(tars: &[Vec<u8>]) -> Layout {
    let mut layout = Layout::default();
    let layers: Vec<_> = tars.iter().map(|tar| (LAYER, gzip(tar))).collect();
    let diffs: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    let image = layout.add(&config("amd64", &diffs), &layers);
    layout.name(image, "app:1");
    layout
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

#[test]
fn more_layers_than_a_pod_has_room_for_are_refused_before_one_is_fetched() {
    let tar = layer("one");
    let of = |count| Layout::image("app:1", &vec![&tar[..]; count]);
    let (refused, asked) = beyond(&of(256), &Limits::default());
    for (text, read) in refused {
        assert!(text.contains("has 256 layers, more than 255"), "{text}");
        assert_eq!(read, 0);
    }
    assert_eq!(asked, [""; 0]);
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    assert!(load(&store, &of(255).directory(&scratch, "oci")).is_ok());
}

#[test]
fn layers_that_are_small_alone_have_a_limit_together() {
    let limits = Limits {
        max_image_bytes: 1 << 20,
        ..Limits::default()
    };
    let tars = [1, 2].map(|number| Tar::of([file("f", &vec![number; 700_000])]).end());
    // As they are announced.
    let layout = Layout::image("app:1", &[&tars[0], &tars[1]]);
    let (refused, asked) = beyond(&layout, &limits);
    for (text, read) in refused {
        let sum = format!("have {} bytes, more than 1048576", 2 * tars[0].len());
        assert!(text.contains(&sum), "{text}");
        assert_eq!(read, 0);
    }
    assert_eq!(asked, [""; 0]);
    // As they turn out.
    let (refused, _) = beyond(&packed(&tars), &limits);
    for (text, _) in refused {
        assert!(
            text.contains("the tars of the image's layers have more than 1048576"),
            "{text}"
        );
        let digests = tars
            .each_ref()
            .map(|tar| Digest::of(&gzip(tar)).to_string());
        assert!(digests.iter().any(|one| text.contains(one)), "{text}");
    }
}

#[test]
fn what_is_refused_is_not_read_to_its_end() {
    let long = noise(5 << 20);
    let layers = [
        Tar::of([file("small", b"x"), file("long", &long)]),
        Tar::of([file("zeros", &vec![0; 8 << 20]), file("long", &long)]),
    ];
    let by_files = Limits {
        max_file_bytes: 1 << 20,
        ..Limits::default()
    };
    let by_tar = Limits {
        max_tar_bytes: 6 << 20,
        ..Limits::default()
    };
    let why = ["\"long\": the layer's files come to", "\"zeros\" or right"];
    for ((tar, limits), why) in layers.into_iter().zip([by_files, by_tar]).zip(why) {
        let (refused, _) = beyond(&packed(&[tar.end()]), &limits);
        for (text, read) in refused {
            assert!(text.contains(why), "{text}");
            assert!(read < 3 << 20, "{read} bytes were read: {text}");
        }
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
