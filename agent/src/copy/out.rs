//! A tree as records.

use super::Records;
use beluga_proto::copy::{Entry, EntryKind, MAX_DATA, RecordKind};
use rustix::fs::SeekFrom;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most files with several names that are remembered: a name beyond them
/// becomes a file of its own.
const MAX_LINKS: usize = 4 << 10;

/// Files with several names, by device and number: the first name. Few, as a
/// rule: a map would be larger than what it saves.
type Links = Vec<((u64, u64), Vec<u8>)>;

/// Sends what lies at a path. What is at the path itself may be a link.
pub fn tree<W: Write>(root: &Path, records: &mut Records<W>) -> io::Result<()> {
    let mut links = Links::new();
    let mut waiting: Vec<(PathBuf, Vec<u8>)> = vec![(root.to_owned(), Vec::new())];
    while let Some((path, name)) = waiting.pop() {
        let found = if name.is_empty() {
            std::fs::metadata(&path)
        } else {
            std::fs::symlink_metadata(&path)
        };
        let sent = match found {
            Ok(found) => one(&path, &name, &found, &mut links, records)?,
            Err(error) => Err(error),
        };
        let is_directory = match sent {
            Ok(is_directory) => is_directory,
            Err(error) => {
                records.note("copy", &path, &error)?;
                continue;
            }
        };
        if !is_directory {
            continue;
        }
        match std::fs::read_dir(&path) {
            Ok(entries) => waiting.extend(entries.flatten().map(|entry| {
                let mut below = name.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(entry.file_name().as_bytes());
                (entry.path(), below)
            })),
            Err(error) => records.note("list", &path, &error)?,
        }
    }
    Ok(())
}

/// Sends one thing; whether it is a directory. The outer error is a stream's,
/// the inner one the thing's.
fn one<W: Write>(
    path: &Path,
    name: &[u8],
    found: &Metadata,
    links: &mut Links,
    records: &mut Records<W>,
) -> io::Result<io::Result<bool>> {
    let kind = found.file_type();
    let file = if kind.is_file() {
        // What is there now may be something else: it is not waited for.
        let follow = if name.is_empty() { 0 } else { libc::O_NOFOLLOW };
        let flags = libc::O_NONBLOCK | follow;
        match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => Some(file),
            Err(error) => return Ok(Err(error)),
        }
    } else {
        None
    };
    let kind = if kind.is_dir() {
        EntryKind::Directory
    } else if kind.is_symlink() {
        match std::fs::read_link(path) {
            Ok(target) => EntryKind::Symlink {
                target: target.as_os_str().as_bytes().to_vec(),
            },
            Err(error) => return Ok(Err(error)),
        }
    } else if kind.is_file() {
        named_before(name, found, links).unwrap_or(EntryKind::File { size: found.size() })
    } else {
        let what = if kind.is_socket() {
            "a socket"
        } else {
            "a device or pipe"
        };
        return Ok(Err(io::Error::other(format!("it is {what}"))));
    };
    let is_directory = kind == EntryKind::Directory;
    let has_data = matches!(kind, EntryKind::File { .. });
    let entry = Entry {
        path: name.to_vec(),
        kind,
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
        mtime: found.mtime(),
        mtime_nanos: u32::try_from(found.mtime_nsec()).unwrap_or(0),
    };
    records.write(RecordKind::Entry, &entry.encode())?;
    if let Some(file) = file.filter(|_| has_data) {
        return data(&file, found.size(), records).map(|read| read.map(|()| false));
    }
    Ok(Ok(is_directory))
}

/// Another name of a file that has been sent.
fn named_before(name: &[u8], found: &Metadata, links: &mut Links) -> Option<EntryKind> {
    if found.nlink() < 2 {
        return None;
    }
    let number = (found.dev(), found.ino());
    let first = links.iter().find(|(known, _)| *known == number);
    if let Some((_, first)) = first {
        return Some(EntryKind::Again { of: first.clone() });
    }
    if links.len() < MAX_LINKS {
        links.push((number, name.to_vec()));
    }
    None
}

/// Sends what is in a file, without its holes.
fn data<W: Write>(file: &File, size: u64, records: &mut Records<W>) -> io::Result<io::Result<()>> {
    let mut buffer = vec![0; 8 + MAX_DATA];
    let mut place = 0;
    while place < size {
        // Where nothing follows but a hole there is no such place, and where the
        // file system knows none, everything is data.
        place = match rustix::fs::seek(file, SeekFrom::Data(place)) {
            Ok(next) => next,
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => place,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(place))
            .unwrap_or(size)
            .min(size);
        while place < end {
            let wanted = usize::try_from(end - place)
                .unwrap_or(MAX_DATA)
                .min(MAX_DATA);
            let read = match file.read_at(&mut buffer[8..8 + wanted], place) {
                Ok(0) => return Ok(Ok(())),
                Ok(read) => read,
                Err(error) => return Ok(Err(error)),
            };
            buffer[..8].copy_from_slice(&place.to_le_bytes());
            records.write(RecordKind::Data, &buffer[..8 + read])?;
            place += read as u64;
        }
        if end == place && end >= size {
            break;
        }
    }
    Ok(Ok(()))
}
