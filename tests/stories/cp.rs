//! `beluga cp`: files into containers and out of them, without a program there.
//!
//! The containers `without-tar` and `reader`, who is not root, of `pods/logical-host.yaml`.

use crate::logical_host::POD;
use beluga_tests::{Ran, shared};
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Copies with the words of a line, in which `HERE` is a place of this host and `POD` the pod.
fn cp(here: &TempDir, line: &str) -> Ran {
    let here = here.path().display().to_string();
    let line = line.replace("HERE", &here).replace("POD", POD.name());
    shared().types(&format!("cp {line}"))
}

/// A place with a tree with all that a copy should keep.
fn tree() -> TempDir {
    let here = tempfile::tempdir().expect("a place");
    let at = here.path().join("tree");
    fs::create_dir_all(at.join("a/b")).expect("made");
    fs::write(at.join("a/b/big"), vec![b'x'; 8 << 20]).expect("written");
    fs::set_permissions(at.join("a/b/big"), PermissionsExt::from_mode(0o751)).expect("set");
    fs::hard_link(at.join("a/b/big"), at.join("again")).expect("linked");
    symlink("a/b/big", at.join("link")).expect("linked");
    let sparse = fs::File::create(at.join("sparse")).expect("made");
    sparse.set_len(256 << 20).expect("set");
    sparse.write_all_at(b"end", 200 << 20).expect("written");
    here
}

/// A place with a file that everybody may read.
fn file() -> TempDir {
    let here = tempfile::tempdir().expect("a place");
    let file = here.path().join("file");
    fs::write(&file, "inside\n").expect("written");
    fs::set_permissions(file, PermissionsExt::from_mode(0o751)).expect("set");
    here
}

#[test]
fn cp_keeps_modes_links_and_holes_on_the_way_in() {
    let here = tree();
    cp(&here, "-c without-tar HERE/tree POD:/tmp/new").ok();
    let seen = "cd /tmp/new; stat -c '%a %h' a/b/big; stat -c %s sparse; readlink link; du -m sparse | cut -f 1";
    let expected = "751 2\n268435456\na/b/big\n1";
    assert_eq!(POD.sh("without-tar", seen), expected);
}

#[test]
fn cp_keeps_modes_links_and_holes_on_the_way_out() {
    let here = tree();
    // Into a directory that is there, then out of it again.
    cp(&here, "-c without-tar HERE/tree default/POD:/tmp").ok();
    let change = "test -e /tmp/tree/link && chmod 4755 /tmp/tree/a/b/big";
    POD.sh("without-tar", change);
    cp(&here, "-c without-tar POD:/tmp/tree HERE/back").ok();
    is_as_it_was(&here.path().join("back"));
}

/// Asserts that a tree has come back, with the mode that was set: its marks of rights
/// are not this host's.
fn is_as_it_was(back: &Path) {
    let found = |name: &str| fs::symlink_metadata(back.join(name)).expect("it came");
    let (big, sparse) = (found("a/b/big"), found("sparse"));
    let bytes = fs::read(back.join("a/b/big")).expect("read");
    assert_eq!(bytes, vec![b'x'; 8 << 20]);
    assert_eq!((big.mode() & 0o7777, big.nlink()), (0o755, 2));
    assert_eq!((sparse.size(), sparse.blocks() < 4096), (256 << 20, true));
    let link = fs::read_link(back.join("link")).expect("a link");
    assert_eq!(link, PathBuf::from("a/b/big"));
}

#[test]
fn cp_makes_files_of_the_containers_user_where_that_user_may() {
    let here = file();
    cp(&here, "-c reader HERE/file POD:/tmp/mine").ok();
    let seen = POD.sh("reader", "stat -c '%u %a' /tmp/mine");
    assert_eq!(seen, "1000 751");
    let refused = cp(&here, "-c reader HERE/file POD:/etc/passwd");
    refused.fails(1, "Permission denied");
}

#[test]
fn cp_of_a_relative_path_is_below_the_working_directory() {
    let here = file();
    cp(&here, "-c without-tar HERE/file POD:relative").ok();
    assert_eq!(POD.sh("without-tar", "ls /srv"), "relative");
}

#[test]
fn cp_follows_a_link_at_the_path_itself_as_the_container_does() {
    let here = file();
    let make = "echo inside > /etc/hostname.test; ln -s /etc/hostname.test /tmp/l";
    POD.sh("without-tar", make);
    cp(&here, "-c without-tar POD:/tmp/l HERE/l").ok();
    let copy = fs::read_to_string(here.path().join("l"));
    assert_eq!(copy.expect("read"), "inside\n");
}

#[test]
fn cp_tells_what_is_not_there() {
    let here = file();
    let fails = |line: &str, code, why: &str| drop(cp(&here, line).fails(code, why));
    let nowhere = "-c without-tar HERE/file POD:/no/such/place";
    fails(nowhere, 1, "No such file");
    fails("-c without-tar POD:/nobody HERE/x", 1, "/nobody");
    fails("HERE/nobody POD:/tmp", 1, "nobody");
    fails("POD:/a POD:/b", 2, "POD:PATH");
}
