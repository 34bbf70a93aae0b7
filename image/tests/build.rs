//! An image of a directory: what goes in comes out, and what cannot is named.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use beluga_image::{
    BuildError, BuildOptions, BuildProgress, Cancel, ImageConfig, Limits, LoadError, LoadedImage,
    Platform, Store,
};
use rustix::fs::{Timespec, Timestamps};
use support::layout::contents;
use support::listing::list;
use support::{Scratch, run, skip};

fn options(name: &str) -> BuildOptions {
    BuildOptions {
        names: vec![name.parse().unwrap()],
        config: ImageConfig {
            entrypoint: vec!["/bin/app".into()],
            cmd: vec!["-v".into()],
            env: vec!["A=b".into()],
            workdir: Some("/srv".into()),
            user: Some("1000:1000".into()),
            stop_signal: Some("SIGQUIT".into()),
            volumes: vec!["/data".into()],
            exposed_ports: vec!["80/tcp".into()],
            labels: [("k".to_owned(), "v".to_owned())].into(),
            platform: Platform::host(),
            created: Some("1970-01-01T00:00:09Z".into()),
        },
        owner: None,
        latest: None,
        limits: Limits::default(),
        cancel: Cancel::default(),
    }
}

fn build(store: &Store, dir: &Path, options: &BuildOptions) -> Result<LoadedImage, BuildError> {
    store.build(dir, options, &mut |_| {})
}

/// Dates a file, without a look through symlinks.
fn date(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}

/// A tree of everything that a directory may have, as far as this user may make it.
fn tree(dir: &Path) {
    let long = "n".repeat(200);
    fs::create_dir_all(dir.join("bin")).unwrap();
    fs::create_dir_all(dir.join("deep").join(&long).join(&long)).unwrap();
    fs::write(dir.join("bin/app"), vec![7; 5000]).unwrap();
    fs::hard_link(dir.join("bin/app"), dir.join("bin/again")).unwrap();
    fs::write(dir.join("empty"), b"").unwrap();
    fs::write(dir.join("deep").join(&long).join(&long).join("f"), b"deep").unwrap();
    symlink("bin/app", dir.join("short")).unwrap();
    symlink("x/".repeat(1000), dir.join("long-link")).unwrap();
    symlink("/etc/passwd", dir.join("outside")).unwrap();
    fs::write(dir.join("two\nlines = ü"), b"x").unwrap();
    let sparse = File::create(dir.join("sparse")).unwrap();
    for run in [0, 3, 90] {
        sparse.write_all_at(&[9; 5000], run * 65_536).unwrap();
    }
    sparse.set_len(8 << 20).unwrap();
    File::create(dir.join("hole"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("fifo"), fifo, mode, 0).unwrap();
    let noted = dir.join("noted");
    fs::write(&noted, b"x").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    // Not every file system has them: then there are none on both sides.
    let _ = rustix::fs::setxattr(&noted, "user.note", b"two\nlines=\0", flags);
    let _ = rustix::fs::setxattr(&noted, "user.overlay.opaque", b"y", flags);
    date(&dir.join("bin/app"), 1_600_000_000, 123_456_789);
    date(&noted, -2, 500_000_000);
    date(&dir.join("empty"), 99_999_999_999, 0);
    date(&dir.join("short"), 5, 0);
    let mut chmod = Command::new("chmod");
    run(chmod.args(["4750"]).arg(dir.join("bin/app"))).unwrap();
    if is_root(dir) {
        privileged(dir);
    }
    date(dir, 7, 0);
}

/// Whether whoever made this is root.
fn is_root(dir: &Path) -> bool {
    fs::metadata(dir).unwrap().uid() == 0
}

/// What only root makes.
fn privileged(dir: &Path) {
    let node = |name: &str, kind, major, minor| {
        let mode = rustix::fs::Mode::from_raw_mode(0o620);
        let number = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(rustix::fs::CWD, dir.join(name), kind, mode, number).unwrap();
    };
    node("null", rustix::fs::FileType::CharacterDevice, 1, 3);
    node("disk", rustix::fs::FileType::BlockDevice, 259, 300);
    std::os::unix::fs::lchown(dir.join("short"), Some(5), Some(6)).unwrap();
    std::os::unix::fs::chown(dir.join("empty"), Some(70_000), Some(3_000_000)).unwrap();
}

/// The one layer, unpacked by GNU tar.
fn unpacked(store: &Store, built: &LoadedImage, to: &Path) {
    let blobs = store.root().join("blobs/sha256");
    let largest = fs::read_dir(blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let largest = largest
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    assert_eq!(built.image.layers.len(), 1);
    fs::create_dir(to).unwrap();
    let mut tar = Command::new("tar");
    tar.args([
        "-xzp",
        "--same-owner",
        "--numeric-owner",
        "--delay-directory-restore",
    ]);
    tar.args(["--xattrs", "--xattrs-include=*", "-C"])
        .arg(to)
        .arg("-f")
        .arg(largest);
    run(&mut tar).unwrap();
}

#[test]
fn what_goes_in_comes_out() {
    let scratch = Scratch::new();
    let (dir, store) = (
        scratch.0.join("dir"),
        Store::open(scratch.0.join("store")).unwrap(),
    );
    tree(&dir);
    let built = build(&store, &dir, &options("app:1")).unwrap();
    let out = scratch.0.join("out");
    unpacked(&store, &built, &out);
    let (mut ours, mut theirs) = (list(&out), list(&dir));
    // The root is everybody's to enter, and root's.
    assert!(ours[""].starts_with("40755 0:0 7.0"), "{}", ours[""]);
    ours.remove("");
    theirs.remove("");
    for (name, text) in &theirs {
        let text = text.replace("user.overlay.opaque=[121] ", "");
        let text = text.replace(" user.overlay.opaque=[121]", "");
        assert_eq!(ours.get(name), Some(&text), "{name}");
    }
    assert_eq!(ours.len(), theirs.len());
    let holes = fs::metadata(out.join("sparse")).unwrap();
    assert!(holes.blocks() < 1000, "{} blocks", holes.blocks());
    if !is_root(&dir) {
        skip("what_goes_in_comes_out::devices_and_owners", "not root");
    }
}

/// An access list as Linux takes it: version 2, then tag, permissions and number of each entry.
fn access_list(user: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let mut list = 2u32.to_le_bytes().to_vec();
    // Owner, a user, the group, the mask, others.
    for (tag, permissions, number) in [
        (0x01u16, 6u16, NOBODY),
        (0x02, 5, user),
        (0x04, 4, NOBODY),
        (0x10, 5, NOBODY),
        (0x20, 0, NOBODY),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(number.to_le_bytes());
    }
    list
}

#[test]
fn access_lists_are_kept() {
    let scratch = Scratch::new();
    let (dir, store) = (
        scratch.0.join("dir"),
        Store::open(scratch.0.join("store")).unwrap(),
    );
    fs::create_dir_all(dir.join("shared")).unwrap();
    // So that the layer is the largest blob.
    let noise = (0..2000u32).flat_map(|number| number.wrapping_pow(3).to_le_bytes());
    fs::write(dir.join("file"), noise.collect::<Vec<u8>>()).unwrap();
    let (access, default, root) = (access_list(1234), access_list(4321), access_list(999));
    for (name, key, list) in [
        ("file", "system.posix_acl_access", &access),
        ("shared", "system.posix_acl_default", &default),
        ("", "system.posix_acl_access", &root),
    ] {
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(dir.join(name), key, list, flags).is_err() {
            return skip(
                "access_lists_are_kept",
                "a file system without access lists",
            );
        }
    }
    let built = build(&store, &dir, &options("app:1")).unwrap();
    // In the disk: the length of a name's rest, the number of its beginning, the length of the
    // list, the list (fs/erofs/erofs_fs.h, fs/erofs/xattr.h).
    let disk = fs::read(&built.image.layers[0].path).unwrap();
    let has = |wanted: &[u8]| disk.windows(wanted.len()).any(|found| found == wanted);
    assert!(has(&[&[0, 2, 44, 0], &access[..]].concat()), "for the file");
    assert!(
        has(&[&[0, 3, 44, 0], &default[..]].concat()),
        "for what is made"
    );
    assert!(!has(&root), "the root is everybody's to enter");
    let out = scratch.0.join("out");
    unpacked(&store, &built, &out);
    let (ours, theirs) = (list(&out), list(&dir));
    assert_eq!(
        (&ours["file"], &ours["shared"]),
        (&theirs["file"], &theirs["shared"])
    );
}

#[test]
fn the_image_says_what_it_was_told() {
    let scratch = Scratch::new();
    let (dir, store) = (
        scratch.0.join("dir"),
        Store::open(scratch.0.join("store")).unwrap(),
    );
    fs::create_dir(&dir).unwrap();
    let options = options("app:1");
    let built = build(&store, &dir, &options).unwrap();
    assert_eq!(built.image.config, options.config);
    assert_eq!(built.names, options.names);
    let found = store.resolve(&options.names[0]).unwrap();
    assert_eq!(found.map(|image| image.id), Some(built.image.id));
}

/// A copy in another place, with other times.
fn copy(scratch: &Scratch, name: &str) -> PathBuf {
    let dir = scratch.0.join(name);
    for (path, text) in [("b/z", "1"), ("b/a", "2"), ("a", "3"), ("b.c", "4")] {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

#[test]
fn the_same_files_are_the_same_image() {
    let scratch = Scratch::new();
    let (one, two) = (copy(&scratch, "one"), copy(&scratch, "two"));
    date(&two.join("a"), 2_000_000_000, 5);
    let options = BuildOptions {
        latest: Some(1_000_000_000),
        owner: Some((8, 9)),
        ..options("app:1")
    };
    let mut all = Vec::new();
    for (number, dir) in [&one, &two, &one].into_iter().enumerate() {
        let store = Store::open(scratch.0.join(format!("store{number}"))).unwrap();
        let built = build(&store, dir, &options).unwrap();
        all.push((
            built.image.id,
            built.image.manifest_digest,
            contents(store.root()),
        ));
    }
    assert!(all[0] == all[1] && all[0] == all[2], "{all:?}");
    fs::write(two.join("a"), "4").unwrap();
    let store = Store::open(scratch.0.join("store9")).unwrap();
    assert_ne!(build(&store, &two, &options).unwrap().image.id, all[0].0);
}

#[test]
fn what_cannot_be_kept_is_named() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let before = contents(store.root());
    let dir = copy(&scratch, "dir");
    let _socket = UnixListener::bind(dir.join("b/socket")).unwrap();
    let mut skipped = Vec::new();
    let mut told = |step: BuildProgress<'_>| {
        if let BuildProgress::Skipped { path } = step {
            skipped.push(path.to_owned());
        }
    };
    store.build(&dir, &options("app:1"), &mut told).unwrap();
    assert_eq!(skipped, [dir.join("b/socket")]);
    store.remove("app:1", &Default::default()).unwrap();

    let limits = |change: fn(&mut Limits)| {
        let mut options = options("app:1");
        change(&mut options.limits);
        options
    };
    let refused = |options: &BuildOptions| {
        let error = build(&store, &dir, options).expect_err("it was built");
        assert_eq!(contents(store.root()), before, "{error}");
        error
    };
    let many = refused(&limits(|limits| limits.max_entries = 3));
    assert!(
        matches!(many, BuildError::TooMany { limit: 3, .. }),
        "{many}"
    );
    let large = refused(&limits(|limits| limits.max_file_bytes = 3));
    assert!(
        matches!(&large, BuildError::TooLarge { path, .. } if *path == dir.join("b.c")),
        "{large}"
    );
    let stopped = limits(|_| ());
    stopped.cancel.cancel();
    let stopped = refused(&stopped);
    assert!(
        matches!(stopped, BuildError::Load(LoadError::Cancelled)),
        "{stopped}"
    );
    fs::write(dir.join("b/.wh.a"), "").unwrap();
    let hides = refused(&options("app:1"));
    assert!(
        matches!(&hides, BuildError::Whiteout { path } if *path == dir.join("b/.wh.a")),
        "{hides}"
    );
    let absent = build(&store, &scratch.0.join("absent"), &options("app:1")).unwrap_err();
    assert!(matches!(absent, BuildError::Read { .. }), "{absent}");
}

/// The names in the layer of the only image that is built of a directory.
fn packed(dir: &Path) -> Result<Vec<String>, BuildError> {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    build(&store, dir, &options("app"))?;
    let blobs = fs::read_dir(store.root().join("blobs/sha256")).unwrap();
    let blobs = blobs.map(|blob| fs::read(blob.unwrap().path()).unwrap());
    let layer = { blobs }
        .find(|blob| blob.starts_with(&[0x1f, 0x8b]))
        .unwrap();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&layer[..]));
    let names = tar.entries().unwrap().map(|entry| {
        let path = entry.unwrap().path().unwrap().display().to_string();
        path.trim_end_matches('/').to_owned()
    });
    Ok(names.collect())
}

#[test]
fn what_dockerignore_names_stays_out() {
    let scratch = Scratch::new();
    for path in [
        ".git/config",
        "src/main",
        "log/old/a",
        "log/old/keep",
        "README.md",
    ] {
        scratch.file(&format!("app/{path}"), b"x");
    }
    let dir = scratch.0.join("app");
    scratch.file("app/.dockerignore", b".git\n**/*.md\nlog\n!log/old/keep\n");
    let found = packed(&dir).unwrap();
    let kept = [
        ".dockerignore",
        "log",
        "log/old",
        "log/old/keep",
        "src",
        "src/main",
    ];
    assert_eq!(found[1..], kept);
    // Podman's name comes first.
    scratch.file("app/.containerignore", b"*\n!src\n");
    assert_eq!(packed(&dir).unwrap()[1..], ["src", "src/main"]);
    scratch.file("app/.containerignore", b"[x\n");
    let error = packed(&dir).unwrap_err();
    assert!(error.to_string().contains("is no pattern"), "{error}");
}
