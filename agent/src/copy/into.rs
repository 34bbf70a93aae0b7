//! Records as a tree.

use super::Records;
use beluga_proto::copy::{self, Entry, EntryKind, HEADER, RecordKind};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Makes what the records say at a path or, where that is a directory, in it.
pub fn tree<W: Write>(
    path: &Path,
    name: &str,
    mut from: impl Read,
    records: &mut Records<W>,
) -> io::Result<()> {
    let is_named = path.as_os_str().as_bytes().ends_with(b"/");
    let root = if is_named || path.is_dir() {
        path.join(name)
    } else {
        path.to_owned()
    };
    let mut writer = Writer {
        root,
        file: None,
        directories: Vec::new(),
    };
    let mut payload = Vec::new();
    loop {
        let mut header = [0; HEADER];
        from.read_exact(&mut header)?;
        let (kind, length) = RecordKind::read(header).ok_or(io::ErrorKind::InvalidData)?;
        payload.resize(length, 0);
        from.read_exact(&mut payload)?;
        let written = match kind {
            RecordKind::Entry => {
                let entry = Entry::decode(&payload).ok_or(io::ErrorKind::InvalidData)?;
                let finished = writer.finish_file();
                finished.and_then(|()| writer.make(&entry))
            }
            RecordKind::Data => writer.put(&payload),
            RecordKind::Note => Ok(()),
            RecordKind::End => break,
        };
        if let Err((path, error)) = written {
            records.note("write", &path, &error)?;
        }
    }
    if let Err((path, error)) = writer.finish() {
        records.note("write", &path, &error)?;
    }
    Ok(())
}

type Written = Result<(), (PathBuf, io::Error)>;

struct Writer {
    root: PathBuf,
    /// The file whose data come, and its path.
    file: Option<(File, PathBuf, Entry)>,
    /// What is done to directories last: writing into them changes it.
    directories: Vec<(PathBuf, Entry)>,
}

impl Writer {
    fn place(&self, path: &[u8]) -> io::Result<PathBuf> {
        let parts = copy::parts(path).ok_or(io::ErrorKind::InvalidInput)?;
        let mut place = self.root.clone();
        place.extend(parts.into_iter().map(OsStr::from_bytes));
        Ok(place)
    }

    fn make(&mut self, entry: &Entry) -> Written {
        let place = self
            .place(&entry.path)
            .map_err(|error| (self.root.clone(), error))?;
        self.make_at(&place, entry).map_err(|error| (place, error))
    }

    fn make_at(&mut self, place: &Path, entry: &Entry) -> io::Result<()> {
        match &entry.kind {
            EntryKind::Directory => {
                match std::fs::create_dir(place) {
                    Err(error)
                        if error.kind() == io::ErrorKind::AlreadyExists && place.is_dir() => {}
                    other => other?,
                }
                self.directories.push((place.to_owned(), entry.clone()));
            }
            EntryKind::Symlink { target } => {
                remove(place)?;
                std::os::unix::fs::symlink(OsStr::from_bytes(target), place)?;
                own(place, entry)?;
            }
            EntryKind::Again { of } => {
                let first = self.place(of)?;
                remove(place)?;
                std::fs::hard_link(first, place)?;
            }
            EntryKind::File { .. } => {
                self.file = Some((open(place)?, place.to_owned(), entry.clone()));
            }
        }
        Ok(())
    }

    fn put(&mut self, payload: &[u8]) -> Written {
        // Data of a file that could not be made have nowhere to go.
        let (Some((file, path, _)), Some((place, bytes))) = (&self.file, copy::data(payload))
        else {
            return Ok(());
        };
        let Err(error) = file.write_all_at(bytes, place) else {
            return Ok(());
        };
        let path = path.clone();
        self.file = None;
        Err((path, error))
    }

    fn finish_file(&mut self) -> Written {
        let Some((file, path, entry)) = self.file.take() else {
            return Ok(());
        };
        let EntryKind::File { size } = entry.kind else {
            return Ok(());
        };
        let done = file
            .set_len(size)
            .and_then(|()| own(&path, &entry))
            .and_then(|()| dress(&path, &entry));
        done.map_err(|error| (path, error))
    }

    fn finish(&mut self) -> Written {
        self.finish_file()?;
        // What is inside comes first.
        for (path, entry) in self.directories.drain(..).rev() {
            let done = own(&path, &entry).and_then(|()| dress(&path, &entry));
            done.map_err(|error| (path, error))?;
        }
        Ok(())
    }
}

/// An empty file: a new one, or the one that is there, which may be a mount.
fn open(place: &Path) -> io::Result<File> {
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::open(place, new | OFlags::TRUNC | OFlags::NONBLOCK, mode) {
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => {
            remove(place)?;
            Ok(rustix::fs::open(place, new | OFlags::EXCL, mode)?.into())
        }
        other => Ok(other?.into()),
    }
}

/// Makes room for something that is not a directory.
fn remove(place: &Path) -> io::Result<()> {
    match std::fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives a thing its owner. Who is not root owns what he makes.
fn own(place: &Path, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::chownat(CWD, place, Some(uid), Some(gid), flags) {
        Err(rustix::io::Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}

/// Gives a thing its mode, which a change of owner takes bits from, and time.
fn dress(place: &Path, entry: &Entry) -> io::Result<()> {
    let mode = Mode::from_raw_mode(entry.mode & 0o7777);
    match rustix::fs::chmod(place, mode) {
        // A mount of somebody else's.
        Err(rustix::io::Errno::PERM) => {}
        other => other?,
    }
    let at = Timespec {
        tv_sec: entry.mtime,
        tv_nsec: entry.mtime_nanos.into(),
    };
    let times = Timestamps {
        last_access: at,
        last_modification: at,
    };
    let _ = rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW);
    Ok(())
}
