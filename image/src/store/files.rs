//! Files that appear whole or not at all.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use super::StoreError;

/// Makes the store's directory, which nobody but its owner may enter, whatever the umask:
/// what is private at a registry is not any user's of this host.
pub(super) fn own(root: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(root);
    made.map_err(StoreError::io("make directory", root))?;
    let found = fs::metadata(root).map_err(StoreError::io("look at", root))?;
    // One that an earlier version has made; who may only read it leaves it as it is.
    if found.permissions().mode() & 0o077 != 0 {
        let _ = fs::set_permissions(root, Permissions::from_mode(0o700));
    }
    Ok(())
}

/// Writes `bytes` to `target` by way of a temporary file in `scratch`.
pub(super) fn write(scratch: &Path, target: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = scratch.join("record");
    let mut file = File::create(&temporary).map_err(StoreError::io("create", &temporary))?;
    file.write_all(bytes)
        .map_err(StoreError::io("write", &temporary))?;
    commit(&file, &temporary, target)
}

/// Makes a finished temporary file durable under its final name.
pub(crate) fn commit(file: &File, temporary: &Path, target: &Path) -> Result<(), StoreError> {
    file.sync_all()
        .map_err(StoreError::io("flush", temporary))?;
    fs::rename(temporary, target).map_err(StoreError::io("move into place", target))?;
    target.parent().map_or(Ok(()), sync_dir)
}

/// Makes renames and removals in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let opened = File::open(dir).map_err(StoreError::io("open", dir))?;
    opened.sync_all().map_err(StoreError::io("flush", dir))
}

/// Reads a file that may be absent.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::io("read", path)(source)),
    }
}

/// Removes a file that may be absent; its length, 0 when it was.
pub(super) fn remove_file(path: &Path) -> Result<u64, StoreError> {
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    match fs::remove_file(path) {
        Ok(()) => Ok(length),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(source) => Err(StoreError::io("remove", path)(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_its_owners_alone_also_one_of_an_earlier_version() {
        let name = format!("beluga-images-own-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let mode = || fs::metadata(&root).unwrap().permissions().mode() & 0o777;
        own(&root).unwrap();
        let made = mode();
        fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
        own(&root).unwrap();
        let mended = mode();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!([made, mended], [0o700; 2]);
    }
}
