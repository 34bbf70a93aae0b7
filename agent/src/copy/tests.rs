//! A tree that goes out of one place and into another.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

fn place(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("beluga-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn copied(path: &Path, name: Option<&str>, from: &[u8]) -> (bool, Vec<u8>) {
    let spec = CopySpec {
        path: path.to_str().unwrap().to_owned(),
        name: name.map(str::to_owned),
    };
    let mut to = Vec::new();
    (copy(&spec, from, &mut to).unwrap(), to)
}

fn into(path: &Path, records: &[u8]) -> (bool, Vec<u8>) {
    copied(path, Some("name"), records)
}

#[test]
fn modes_links_times_and_holes_arrive() {
    let here = place("copy");
    let tree = here.join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::write(tree.join("a/b/text"), "text").unwrap();
    std::fs::hard_link(tree.join("a/b/text"), tree.join("again")).unwrap();
    symlink("a/b/text", tree.join("link")).unwrap();
    symlink("/nowhere", tree.join("dangling")).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (32 << 20) + 1).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(&tree.join("a/b/text"), 0o4751);
    mode(&tree.join("a"), 0o555);
    let (complete, records) = copied(&tree, None, &[]);
    assert!(
        complete && records.len() < 1 << 20,
        "{} bytes",
        records.len()
    );
    let new = here.join("new");
    assert_eq!(
        into(&new, &records),
        (true, RecordKind::End.header(0).to_vec())
    );
    let found = |path: &str| std::fs::symlink_metadata(new.join(path)).unwrap();
    assert_eq!(std::fs::read_to_string(new.join("link")).unwrap(), "text");
    assert_eq!(
        std::fs::read_link(new.join("dangling")).unwrap(),
        Path::new("/nowhere")
    );
    assert_eq!(found("a/b/text").mode() & 0o7777, 0o4751);
    assert_eq!(found("a").mode() & 0o7777, 0o555);
    assert_eq!(found("again").ino(), found("a/b/text").ino());
    let old = std::fs::metadata(tree.join("sparse")).unwrap();
    assert_eq!(
        (found("sparse").size(), found("sparse").mtime()),
        (64 << 20, old.mtime())
    );
    assert!(found("sparse").blocks() <= old.blocks().max(64));
    let read = std::fs::read(new.join("sparse")).unwrap();
    assert_eq!(&read[(32 << 20)..(32 << 20) + 5], b"\0end\0");
    // Once more, into the directory that is there now.
    mode(&new.join("a"), 0o755);
    assert!(into(&new, &records).0 && new.join("name/a/b/text").exists());
    for path in [tree.join("a"), new.join("name/a")] {
        mode(&path, 0o755);
    }
    std::fs::remove_dir_all(&here).unwrap();
}

#[test]
fn one_file_replaces_one_file_and_a_link_is_followed() {
    let here = place("copy-file");
    let file = here.join("file");
    std::fs::write(&file, "new").unwrap();
    symlink("file", here.join("link")).unwrap();
    let (complete, records) = copied(&here.join("link"), None, &[]);
    assert!(complete);
    let there = here.join("there");
    std::fs::write(&there, "old and longer").unwrap();
    assert!(into(&there, &records).0);
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "new");
    assert!(into(&here, &records).0);
    assert_eq!(std::fs::read_to_string(here.join("name")).unwrap(), "new");
    std::fs::remove_dir_all(&here).unwrap();
}

#[test]
fn what_cannot_be_copied_is_told() {
    let here = place("copy-bad");
    let (complete, records) = copied(&here.join("nobody"), None, &[]);
    assert!(!complete);
    let text = String::from_utf8_lossy(&records).into_owned();
    assert!(text.contains("nobody: No such file"), "{text}");
    let _socket = std::os::unix::net::UnixListener::bind(here.join("socket")).unwrap();
    let (complete, records) = copied(&here, None, &[]);
    assert!(!complete && String::from_utf8_lossy(&records).contains("it is a socket"));
    let (_, records) = copied(&here, None, &[]);
    let (complete, told) = into(&here.join("no/such/directory"), &records);
    assert!(!complete && String::from_utf8_lossy(&told).contains("cannot write"));
    std::fs::remove_dir_all(&here).unwrap();
}
