//! A tree of the host as records.

use super::{CopyError, records};
use beluga_proto::copy::{Entry, EntryKind, MAX_DATA, RecordKind};
use rustix::fs::SeekFrom;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Most files with several names that are remembered.
const MAX_LINKS: usize = 64 << 10;

/// A thing to be sent, and its path below the root of what is sent.
type Waiting = (PathBuf, Vec<u8>);

/// Sends what lies at a path, a link at the path itself followed. What cannot
/// be sent is told to `note`.
pub fn send(
    root: &Path,
    to: &mut impl Write,
    mut note: impl FnMut(String),
) -> Result<(), CopyError> {
    let mut links: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    let mut waiting: Vec<Waiting> = vec![(root.to_owned(), Vec::new())];
    while let Some((path, name)) = waiting.pop() {
        let found = if name.is_empty() {
            std::fs::metadata(&path)
        } else {
            std::fs::symlink_metadata(&path)
        };
        let found = found.map_err(CopyError::path("read", &path))?;
        let Some(kind) = kind(&path, &name, &found, &mut links)? else {
            note(format!(
                "skipping {}: it is a device, pipe or socket",
                path.display()
            ));
            continue;
        };
        let is_directory = kind == EntryKind::Directory;
        let size = match kind {
            EntryKind::File { size } => Some(size),
            _ => None,
        };
        let entry = Entry {
            path: name.clone(),
            kind,
            mode: found.mode() & 0o7777,
            uid: found.uid(),
            gid: found.gid(),
            mtime: found.mtime(),
            mtime_nanos: u32::try_from(found.mtime_nsec()).unwrap_or(0),
        };
        records::write(to, RecordKind::Entry, &entry.encode())?;
        if let Some(size) = size {
            data(&path, size, to)?;
        }
        if is_directory {
            let entries = std::fs::read_dir(&path).map_err(CopyError::path("list", &path))?;
            waiting.extend(entries.flatten().map(|entry| {
                let mut below = name.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(entry.file_name().as_bytes());
                (entry.path(), below)
            }));
        }
    }
    records::write(to, RecordKind::End, &[])?;
    Ok(())
}

fn kind(
    path: &Path,
    name: &[u8],
    found: &Metadata,
    links: &mut BTreeMap<(u64, u64), Vec<u8>>,
) -> Result<Option<EntryKind>, CopyError> {
    let kind = found.file_type();
    if kind.is_dir() {
        return Ok(Some(EntryKind::Directory));
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(path).map_err(CopyError::path("read", path))?;
        let target = target.as_os_str().as_bytes().to_vec();
        return Ok(Some(EntryKind::Symlink { target }));
    }
    if !kind.is_file() {
        return Ok(None);
    }
    if found.nlink() > 1 {
        let number = (found.dev(), found.ino());
        if let Some(first) = links.get(&number) {
            let of = first.clone();
            return Ok(Some(EntryKind::Again { of }));
        }
        if links.len() < MAX_LINKS {
            links.insert(number, name.to_vec());
        }
    }
    Ok(Some(EntryKind::File { size: found.size() }))
}

/// Sends what is in a file, without its holes.
fn data(path: &Path, size: u64, to: &mut impl Write) -> Result<(), CopyError> {
    let file = File::open(path).map_err(CopyError::path("open", path))?;
    let mut buffer = vec![0; 8 + MAX_DATA];
    let mut place = 0;
    while place < size {
        place = match rustix::fs::seek(&file, SeekFrom::Data(place)) {
            Ok(next) => next,
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => place,
        };
        let hole = rustix::fs::seek(&file, SeekFrom::Hole(place)).unwrap_or(size);
        let end = hole.min(size);
        while place < end {
            let wanted = usize::try_from(end - place)
                .unwrap_or(MAX_DATA)
                .min(MAX_DATA);
            let read = file
                .read_at(&mut buffer[8..8 + wanted], place)
                .map_err(CopyError::path("read", path))?;
            if read == 0 {
                return Ok(());
            }
            buffer[..8].copy_from_slice(&place.to_le_bytes());
            records::write(to, RecordKind::Data, &buffer[..8 + read])?;
            place += read as u64;
        }
    }
    Ok(())
}
