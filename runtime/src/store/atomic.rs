//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces the file in one step. A crash of a process leaves the old content
/// or the new; after a crash of the machine a reader may find neither, which
/// is why records carry the boot ID and pods do not outlive a boot.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write((&beside(path), path), bytes, false)
}

/// The same by way of a file of this name, for names that may have any extension.
pub fn replace_by_way_of(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    write((temporary, path), bytes, false)
}

/// The same, and the content is on the disk when this returns.
pub fn replace_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write((&beside(path), path), bytes, true)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn write((temporary, path): (&Path, &Path), bytes: &[u8], durably: bool) -> io::Result<()> {
    // One writer per file: whoever holds the lock that belongs to it.
    let written = write_new(temporary, bytes, durably);
    let moved = written.and_then(|()| std::fs::rename(temporary, path));
    if moved.is_err() {
        // The error that is told is the first one.
        let _ = std::fs::remove_file(temporary);
    }
    moved
}

fn write_new(path: &Path, bytes: &[u8], durably: bool) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    if durably {
        file.sync_data()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_put_in_place_leaves_nothing() {
        let place = std::env::temp_dir().join(format!("beluga-atomic-{}", std::process::id()));
        let in_the_way = place.join("a.json");
        std::fs::create_dir_all(&in_the_way).unwrap();
        assert!(replace_durably(&in_the_way, b"{}").is_err());
        let left = std::fs::read_dir(&place).unwrap().count();
        std::fs::remove_dir_all(&place).unwrap();
        assert_eq!(left, 1, "the directory that was in the way");
    }
}
