//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Replaces the file in one step. A crash of a process leaves the old content
/// or the new; after a crash of the machine a reader may find neither, which
/// is why records carry the boot ID and pods do not outlive a boot.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, false)
}

/// The same, and the content is on the disk when this returns.
pub fn replace_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, true)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8], durably: bool) -> io::Result<()> {
    // One writer per file: whoever holds the lock that belongs to it.
    let temporary = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    if durably {
        file.sync_data()?;
    }
    std::fs::rename(&temporary, path)
}
