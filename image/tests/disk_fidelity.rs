//! What a layer's tar says is what the kernel shows: compared file by file with GNU tar's
//! extraction of the same bytes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::fs;
use std::process::Command;

use beluga_image::Digest;
use support::listing::{Listing, list};
use support::{Mount, Scratch, Tar, device, dir, disk, entry, file, fsck, hard_link, run, skip};
use support::{has_tool, symlink};

/// Mounts the disk made of `tar` and compares it with what `tar -x` makes. When that
/// cannot be done here, the reason is printed.
fn same_as_extracted(test: &str, tar: &[u8], root_described: bool) {
    let scratch = Scratch::new();
    let tar_path = scratch.file("layer.tar", tar);
    let disk_path = scratch.file("disk", &disk(tar).unwrap());
    if !fsck(&disk_path) {
        skip(test, "no fsck.erofs");
    }
    let mount = match Mount::new(&disk_path, &scratch.0.join("mount")) {
        Ok(mount) => mount,
        Err(reason) => {
            skip(test, &reason);
            return;
        }
    };
    let tree = scratch.0.join("tree");
    fs::create_dir(&tree).unwrap();
    let mut command = Command::new("tar");
    command.args([
        "-x",
        "-p",
        "--same-owner",
        "--numeric-owner",
        "--delay-directory-restore",
    ]);
    run(command
        .args(["--xattrs", "--xattrs-include=*"])
        .arg("-C")
        .arg(&tree)
        .arg("-f")
        .arg(&tar_path))
    .unwrap();
    let (mut ours, mut theirs) = (list(&mount.0), list(&tree));
    if !root_described {
        // No entry describes the root.
        ours.remove("");
        theirs.remove("");
    }
    for (name, text) in &theirs {
        assert_eq!(ours.get(name), Some(text), "{name}");
    }
    assert_eq!(ours.len(), theirs.len());
}

fn numbered(count: usize) -> impl Iterator<Item = support::Entry> {
    (0..count).map(|i| {
        file(
            &format!("many/a file with the number {i:06}"),
            &vec![b'n'; i % 5000],
        )
    })
}

#[test]
fn every_kind_of_file() {
    let long = format!("long/{}", "n".repeat(255));
    let deep = format!("deep/{}f", "d/".repeat(300));
    let mut capability = vec![1, 0, 0, 2, 0, 10, 0, 0];
    capability.resize(20, 0);
    let mut entries = vec![
        dir("./").pax("mtime", b"1600000000.123456789"),
        dir("bin").mode(0o755),
        file("bin/su", &[7; 5000])
            .mode(0o4755)
            .owner(70_000, 1_000_000),
        hard_link("bin/again", "bin/su"),
        hard_link("bin/third", "./bin/again"),
        file("old", b"x").pax("mtime", b"-1.5"),
        file("future", b"x").pax("mtime", b"9999999999.9"),
        symlink("short", "bin/su"),
        symlink("long-link", &"x/".repeat(2000)),
        entry("fifo", b'6').mode(0o600),
        dir("sticky").mode(0o1777),
        dir("set-gid").mode(0o2750).owner(1, 2),
        dir("dev"),
        device("dev/null", b'3', 1, 3).mode(0o666),
        device("dev/disk", b'4', 259, 300),
        file("capable", b"x").pax("SCHILY.xattr.security.capability", &capability),
        file("noted", b"x")
            .pax("SCHILY.xattr.user.note", b"two\nlines=")
            .pax("uid", b"99999"),
        file("trusted", b"x").pax("SCHILY.xattr.trusted.x", &[0, 255, 10]),
        file("empty", b""),
        dir("long"),
        file(&long, b"long"),
        dir("deep"),
        file("zeros", &vec![0; 1 << 20]),
        file(
            "mixed",
            &[vec![1; 70_000], vec![0; 300_000], vec![2; 10_001]].concat(),
        ),
        file(
            "trailing-zeros",
            &[vec![1; 65_536], vec![0; 65_536 + 3]].concat(),
        ),
    ];
    entries.extend((1..=300).map(|depth| dir(&format!("deep/{}", "d/".repeat(depth)))));
    entries.push(file(&deep, b"deep"));
    entries.push(dir("many"));
    entries.extend(numbered(1500));
    for size in [
        1, 4030, 4031, 4032, 4033, 4063, 4064, 4065, 4095, 4096, 4097, 65_535, 65_537,
    ] {
        entries.push(file(&format!("size-{size}"), &vec![b's'; size]));
    }
    same_as_extracted("every_kind_of_file", &Tar::of(entries).end(), true);
}

#[test]
fn what_gnu_tar_makes_of_a_real_tree() {
    let test = "what_gnu_tar_makes_of_a_real_tree";
    let scratch = Scratch::new();
    for format in ["gnu", "posix", "ustar"] {
        let tar = scratch.0.join(format);
        let mut command = Command::new("tar");
        command
            .arg("-c")
            .arg("--format")
            .arg(format)
            .arg("-f")
            .arg(&tar);
        run(command.args(["-C", "/", "etc", "-C", "/usr/lib", "apt"])).unwrap();
        same_as_extracted(test, &fs::read(tar).unwrap(), false);
    }
}

#[test]
fn sparse_files_in_every_format() {
    let scratch = Scratch::new();
    let sparse = fs::File::create(scratch.0.join("sparse")).unwrap();
    let write = |offset: u64| {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[9; 5000], offset).unwrap();
    };
    // More runs than the old format has room for in one header.
    (1..60).for_each(|run| write(run * 150_000));
    sparse.set_len(20_000_001).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=posix"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=0.0"],
    ] {
        let tar = scratch.0.join("tar");
        let mut command = Command::new("tar");
        command.args(["-c", "-S"]).args(format).arg("-f").arg(&tar);
        run(command.arg("-C").arg(&scratch.0).arg("sparse")).unwrap();
        let tar = fs::read(tar).unwrap();
        assert!(tar.len() < 1 << 20, "not sparse: {format:?}");
        let disk = disk(&tar).unwrap();
        assert!(disk.len() < 8 << 20, "holes were filled: {format:?}");
        // The root is described by no entry, so only the file is compared.
        let disk_path = scratch.file("disk", &disk);
        match Mount::new(&disk_path, &scratch.0.join("mount")) {
            Err(reason) => skip("sparse_files_in_every_format", &reason),
            Ok(mount) => {
                let (ours, theirs) = (mount.0.join("sparse"), scratch.0.join("sparse"));
                assert!(
                    fs::read(ours).unwrap() == fs::read(theirs).unwrap(),
                    "{format:?}"
                );
            }
        }
    }
}

/// The listing of the disk made of `entries`, if it can be mounted here.
fn mounted(test: &str, tar: &[u8]) -> Option<Listing> {
    let scratch = Scratch::new();
    let disk_path = scratch.file("disk", &disk(tar).unwrap());
    fsck(&disk_path);
    match Mount::new(&disk_path, &scratch.0.join("mount")) {
        Ok(mount) => Some(list(&mount.0)),
        Err(reason) => {
            skip(test, &reason);
            None
        }
    }
}

#[test]
fn whiteouts_become_what_overlayfs_understands() {
    let tar = Tar::of([
        dir("a"),
        file("a/.wh.gone", b""),
        dir("opaque"),
        file("opaque/.wh..wh..opq", b""),
        file("opaque/new", b"x"),
        // Of one layer, the whiteout hides only what is below.
        file("kept", b"x"),
        file(".wh.kept", b""),
        file(".wh.replaced", b""),
        dir("replaced"),
        file(".wh..wh.plnk/1.2", b""),
        file("implied/.wh.x", b""),
        dir("forged").pax("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
    ]);
    let Some(listing) = mounted("whiteouts", &tar.end()) else {
        return;
    };
    assert!(
        listing["a/gone"].starts_with("20000 0:0 "),
        "{}",
        listing["a/gone"]
    );
    assert!(
        listing["a/gone"].ends_with("device 0"),
        "{}",
        listing["a/gone"]
    );
    let opaque = format!("trusted.overlay.opaque={:?}", b"y");
    assert!(listing["opaque"].contains(&opaque), "{}", listing["opaque"]);
    assert!(listing["replaced"].contains(&opaque) && listing["replaced"].starts_with("40755"));
    assert!(listing["kept"].starts_with("100644"));
    assert!(listing["implied"].starts_with("40755 0:0 1700000000."));
    assert!(!listing["forged"].contains("overlay"));
    assert!(!listing.contains_key(".wh..wh.plnk"));
}

#[test]
fn overlayfs_hides_what_whiteouts_hide() {
    let test = "overlayfs_hides_what_whiteouts_hide";
    let scratch = Scratch::new();
    let lower = Tar::of([
        dir("d"),
        file("d/gone", b"x"),
        file("d/kept", b"lower"),
        dir("o"),
        file("o/old", b"x"),
        dir("r"),
        file("r/old", b"x"),
    ]);
    let upper = Tar::of([
        file("d/.wh.gone", b""),
        file("o/.wh..wh..opq", b""),
        file("o/new", b"x"),
        file(".wh.r", b""),
        dir("r"),
    ]);
    let mut mounts = Vec::new();
    for (name, tar) in [("lower", lower), ("upper", upper)] {
        let disk = scratch.file(&format!("{name}.disk"), &disk(&tar.end()).unwrap());
        match Mount::new(&disk, &scratch.0.join(name)) {
            Ok(mount) => mounts.push(mount),
            Err(reason) => return skip(test, &reason),
        }
    }
    let merged = scratch.0.join("merged");
    fs::create_dir(&merged).unwrap();
    let layers = format!(
        "lowerdir={}:{}",
        mounts[1].0.display(),
        mounts[0].0.display()
    );
    let mut command = Command::new("mount");
    if let Err(reason) = run(command
        .args(["-t", "overlay", "-o", &layers, "none"])
        .arg(&merged))
    {
        return skip(test, &reason);
    }
    let merged = Mount(merged);
    let names: Vec<String> = list(&merged.0).into_keys().collect();
    assert_eq!(names, ["", "d", "d/kept", "o", "o/new", "r"]);
}

#[test]
fn entries_go_where_docker_puts_them() {
    let tar = Tar::of([
        dir("usr/bin"),
        symlink("bin", "usr/bin"),
        file("bin/tool", b"through a symlink"),
        hard_link("bin/same", "bin/tool"),
        symlink("abs", "/usr/../../usr/bin"),
        file("abs/other", b"x"),
        symlink("dangling", "not/yet"),
        file("dangling/made", b"x"),
        file("/absolute", b"x"),
        file("a/../b", b"x"),
        file("twice", b"first"),
        file("twice", b"second, and longer"),
        file("dir-then-file/x", b"x"),
        file("dir-then-file", b"x"),
        file("file-then-dir", b"x"),
        dir("file-then-dir"),
        symlink("link-then-dir", "usr"),
        dir("link-then-dir"),
        file("link-then-dir/x", b"x"),
        dir("usr").mode(0o700),
    ]);
    let Some(listing) = mounted("entries_go_where_docker_puts_them", &tar.end()) else {
        return;
    };
    for name in [
        "usr/bin/tool",
        "usr/bin/other",
        "not/yet/made",
        "absolute",
        "b",
    ] {
        assert!(
            listing[name].starts_with("100644"),
            "{name}: {}",
            listing[name]
        );
    }
    assert!(listing["usr/bin/same"].contains("links 2"));
    assert!(listing["twice"].contains(&Digest::of(b"second, and longer").to_string()));
    assert!(listing["dir-then-file"].starts_with("100644"));
    assert!(!listing.contains_key("dir-then-file/x"));
    assert!(listing["file-then-dir"].starts_with("40755"));
    assert!(listing.contains_key("link-then-dir/x") && !listing.contains_key("usr/x"));
    assert!(listing["usr"].starts_with("40700") && listing.contains_key("usr/bin"));
}

#[test]
fn the_same_tar_gives_the_same_bytes_and_little_more() {
    let tar = Tar::of(numbered(3000)).end();
    let first = disk(&tar).unwrap();
    assert!(first == disk(&tar).unwrap());
    // The contents and names are 7.6 MB; headers and padding make 9.2 MB of tar.
    assert!(first.len() < tar.len(), "{} of {}", first.len(), tar.len());
    if has_tool("dump.erofs") {
        let scratch = Scratch::new();
        let path = scratch.file("disk", &first);
        let dump = run(Command::new("dump.erofs").arg("-s").arg(path)).unwrap();
        assert!(
            dump.contains("inode count:") && dump.contains(" 3002"),
            "{dump}"
        );
    } else {
        skip(
            "the_same_tar_gives_the_same_bytes_and_little_more::count",
            "no dump.erofs",
        );
    }
}

#[test]
fn an_empty_layer_is_one_block() {
    let scratch = Scratch::new();
    for tar in [vec![], vec![0; 1024], vec![0; 10_240]] {
        let bytes = disk(&tar).unwrap();
        assert_eq!(bytes.len(), 4096);
        fsck(&scratch.file("disk", &bytes));
    }
}
