//! Hostile records as a tree of the host: see the module above.

use super::CopyError;
use super::records::Reader;
use beluga_proto::copy::{self, Entry, EntryKind, RecordKind};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Most files that others may be links to: names are remembered for them.
const MAX_LINKED: usize = 1 << 20;

/// Permission bits that a container may set on a file of the host: never those
/// that lend rights.
const MODE: u32 = 0o777;

/// Makes what comes out of a container at a path or, where that is a directory,
/// in it under `name`. What the container's side could not read is told to
/// `note`.
pub fn receive(
    path: &Path,
    name: &OsStr,
    from: impl Read,
    mut note: impl FnMut(String),
) -> Result<(), CopyError> {
    let mut writer = Writer::new(path, name)?;
    let mut reader = Reader::new(from);
    loop {
        match reader.next()? {
            (RecordKind::Entry, payload) => {
                let entry = Entry::decode(payload).ok_or(NO_ENTRY)?;
                writer.finish_file()?;
                writer.make(&entry)?;
            }
            (RecordKind::Data, payload) => writer.put(payload)?,
            (RecordKind::Note, text) => note(String::from_utf8_lossy(text).into_owned()),
            (RecordKind::End, _) => break,
        }
    }
    writer.finish_file()?;
    writer.finish()
}

const NO_ENTRY: CopyError = CopyError::Nonsense {
    what: "an entry that is none",
};

const BAD_PATH: CopyError = CopyError::Nonsense {
    what: "a path that leads elsewhere",
};

/// A file whose data come.
struct Open {
    file: File,
    shown: PathBuf,
    size: u64,
    entry: Entry,
    kind: Kind,
}

/// What a file was before.
#[derive(PartialEq, Eq)]
enum Kind {
    /// Not there.
    New,
    /// A file, whose mode and owner stay.
    There,
    /// A device or a FIFO, which takes bytes one behind the other: so many it has.
    Stream(u64),
}

impl Open {
    fn put(&mut self, place: u64, bytes: &[u8]) -> Result<(), CopyError> {
        let written = match &mut self.kind {
            Kind::Stream(sent) if place < *sent => {
                return Err(CopyError::Nonsense {
                    what: "data before those that have come",
                });
            }
            Kind::Stream(sent) => {
                let hole = io::copy(&mut io::repeat(0).take(place - *sent), &mut self.file);
                *sent = place + bytes.len() as u64;
                hole.and_then(|_| self.file.write_all(bytes))
            }
            Kind::New | Kind::There => self.file.write_all_at(bytes, place),
        };
        written.map_err(CopyError::path("write", &self.shown))
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Kind::Stream(sent) = self.kind {
            let hole = self.size.saturating_sub(sent);
            return io::copy(&mut io::repeat(0).take(hole), &mut self.file).map(|_| ());
        }
        self.file.set_len(self.size)?;
        if self.kind == Kind::There {
            return Ok(());
        }
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(self.entry.mode & MODE))?;
        Ok(rustix::fs::futimens(
            self.file.as_fd(),
            &times(&self.entry),
        )?)
    }
}

struct Writer {
    /// Directory in which the root of the tree lies.
    base: OwnedFd,
    /// For messages.
    base_path: PathBuf,
    /// Name of the root in it.
    name: Vec<u8>,
    has_root: bool,
    open: Option<Open>,
    /// Paths of files made here.
    made: BTreeSet<Vec<u8>>,
    /// Directories made here: mode and time come last.
    directories: Vec<Entry>,
}

impl Writer {
    fn new(path: &Path, name: &OsStr) -> Result<Self, CopyError> {
        let (base_path, name) = if path.is_dir() {
            (path.to_owned(), name.to_owned())
        } else {
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            let last = path.file_name().unwrap_or(name);
            (parent.unwrap_or(Path::new(".")).to_owned(), last.to_owned())
        };
        // The user's own path: links in it are his.
        let base = rustix::fs::openat(CWD, &base_path, DIRECTORY, Mode::empty())
            .map_err(|errno| CopyError::path("open", &base_path)(errno.into()))?;
        let name = name.as_bytes().to_vec();
        match copy::parts(&name) {
            Some(parts) if parts.len() == 1 => {}
            _ => return Err(BAD_PATH),
        }
        Ok(Self {
            base,
            base_path,
            name,
            has_root: false,
            open: None,
            made: BTreeSet::new(),
            directories: Vec::new(),
        })
    }

    /// Path of an entry below the base, its directories first.
    fn place<'p>(&'p self, path: &'p [u8]) -> Result<(Vec<&'p [u8]>, &'p [u8]), CopyError> {
        let mut parts = vec![self.name.as_slice()];
        parts.extend(copy::parts(path).ok_or(BAD_PATH)?);
        let last = parts.pop().ok_or(BAD_PATH)?;
        Ok((parts, last))
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        let mut shown = self.base_path.join(OsStr::from_bytes(&self.name));
        if !path.is_empty() {
            shown.push(OsStr::from_bytes(path));
        }
        shown
    }

    /// Opens a directory beneath the base, no link followed on the way.
    fn directory(&self, parts: &[&[u8]]) -> io::Result<OwnedFd> {
        if parts.is_empty() {
            return self.base.try_clone();
        }
        let path = parts.join(&b'/');
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(
            &self.base,
            OsStr::from_bytes(&path),
            DIRECTORY,
            Mode::empty(),
            resolve,
        )?)
    }

    fn make(&mut self, entry: &Entry) -> Result<(), CopyError> {
        // The root comes first and once.
        if self.has_root == entry.path.is_empty() {
            return Err(BAD_PATH);
        }
        self.has_root = true;
        let (parents, last) = self.place(&entry.path)?;
        let shown = self.shown(&entry.path);
        let parent = self
            .directory(&parents)
            .map_err(CopyError::path("open the directory of", &shown))?;
        let name = OsStr::from_bytes(last).to_owned();
        let made = match &entry.kind {
            EntryKind::Directory => self.make_directory(&parent, &name, entry),
            EntryKind::Symlink { target } => {
                let target = OsStr::from_bytes(target).to_owned();
                make_room(&parent, &name)
                    .and_then(|()| Ok(rustix::fs::symlinkat(target, &parent, &name)?))
            }
            EntryKind::Again { of } => self.make_link(of, &parent, &name)?,
            EntryKind::File { size } => self.make_file(&parent, &name, *size, entry),
        };
        made.map_err(CopyError::path("make", shown))
    }

    fn make_directory(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> io::Result<()> {
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => self.directories.push(entry.clone()),
            Err(rustix::io::Errno::EXIST) => {
                // One that is there keeps its mode; a link is none.
                let flags = DIRECTORY | OFlags::NOFOLLOW;
                rustix::fs::openat(parent, name, flags, Mode::empty())?;
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    fn make_file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        size: u64,
        entry: &Entry,
    ) -> io::Result<()> {
        // Only the user's own path may be a link to what is written into.
        let there = if entry.path.is_empty() {
            open_there(parent, name)?
        } else {
            None
        };
        let (file, kind) = if let Some(there) = there {
            there
        } else {
            make_room(parent, name)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let mode = Mode::from_raw_mode(0o600);
            let file = rustix::fs::openat(parent, name, flags | OFlags::CLOEXEC, mode)?;
            (file.into(), Kind::New)
        };
        if self.made.len() < MAX_LINKED {
            self.made.insert(entry.path.clone());
        }
        self.open = Some(Open {
            file,
            shown: self.shown(&entry.path),
            size,
            entry: entry.clone(),
            kind,
        });
        Ok(())
    }

    /// A further name of a file that was made here.
    fn make_link(
        &self,
        of: &Vec<u8>,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> Result<io::Result<()>, CopyError> {
        if !self.made.contains(of) {
            return Err(CopyError::Nonsense {
                what: "a link to a file that did not come before it",
            });
        }
        let (parents, last) = self.place(of)?;
        let link = || -> io::Result<()> {
            let old = self.directory(&parents)?;
            make_room(parent, name)?;
            let last = OsStr::from_bytes(last);
            Ok(rustix::fs::linkat(
                &old,
                last,
                parent,
                name,
                AtFlags::empty(),
            )?)
        };
        Ok(link())
    }

    fn put(&mut self, payload: &[u8]) -> Result<(), CopyError> {
        let (Some(open), Some((place, bytes))) = (&mut self.open, copy::data(payload)) else {
            return Err(CopyError::Nonsense {
                what: "data without a file",
            });
        };
        let end = place.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > open.size) {
            return Err(CopyError::Nonsense {
                what: "data beyond the end of its file",
            });
        }
        open.put(place, bytes)
    }

    fn finish_file(&mut self) -> Result<(), CopyError> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let finished = open.finish();
        finished.map_err(CopyError::path("write", open.shown))
    }

    fn finish(&mut self) -> Result<(), CopyError> {
        for entry in std::mem::take(&mut self.directories).into_iter().rev() {
            let (mut parts, last) = self.place(&entry.path)?;
            parts.push(last);
            let finish = || -> io::Result<()> {
                let directory = self.directory(&parts)?;
                rustix::fs::fchmod(&directory, Mode::from_raw_mode(entry.mode & MODE))?;
                Ok(rustix::fs::futimens(&directory, &times(&entry))?)
            };
            finish().map_err(CopyError::path("write", self.shown(&entry.path)))?;
        }
        Ok(())
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Opens what lies at the user's own path, as cp(1) does: a secret's file stays as readable as it
/// is, and `/dev/stdout` the way to the terminal. `None` where there is nothing.
fn open_there(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<(File, Kind)>> {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let kind = if file.metadata()?.is_file() {
        Kind::There
    } else {
        Kind::Stream(0)
    };
    Ok(Some((file, kind)))
}

/// Removes what is there, unless it is a directory: nothing that a container named is written into
/// a file that may have other names or readers. What is no file, the host's own, stays.
fn make_room(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    use rustix::fs::FileType;
    let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    let kind = match there {
        Ok(there) => FileType::from_raw_mode(there.st_mode),
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    match kind {
        FileType::RegularFile | FileType::Symlink => {}
        FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        _ => return Err(io::ErrorKind::AlreadyExists.into()),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn times(entry: &Entry) -> Timestamps {
    let at = Timespec {
        tv_sec: entry.mtime,
        tv_nsec: entry.mtime_nanos.min(999_999_999).into(),
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}
