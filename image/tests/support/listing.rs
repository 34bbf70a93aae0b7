//! What the files of a tree are, to be compared.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use beluga_image::Digest;

/// Everything that a file has, as text, by path.
pub type Listing = BTreeMap<String, String>;

pub fn list(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut stack = vec![root.to_owned()];
    while let Some(path) = stack.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let mut text = format!("{:o} {}:{} ", meta.mode(), meta.uid(), meta.gid());
        text += &format!("{}.{:09} ", meta.mtime(), meta.mtime_nsec());
        text += &xattrs(&path);
        if kind.is_dir() {
            stack.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            text += &format!(" links {}", meta.nlink());
        }
        if kind.is_symlink() {
            text += &format!(" -> {}", fs::read_link(&path).unwrap().display());
        } else if kind.is_char_device() || kind.is_block_device() {
            text += &format!(" device {:x}", meta.rdev());
        } else if kind.is_file() {
            text += &format!(" {} {}", meta.len(), Digest::of(&fs::read(&path).unwrap()));
        }
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        listing.insert(name, text);
    }
    listing
}

/// Its extended attributes.
fn xattrs(path: &Path) -> String {
    let mut names = vec![0u8; 4096];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else {
        return String::new();
    };
    names.truncate(length);
    let mut all = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0u8; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        all.push(format!(
            "{}={:?}",
            String::from_utf8_lossy(name),
            &value[..length]
        ));
    }
    all.sort();
    all.join(" ")
}
