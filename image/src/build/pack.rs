//! Files to a tar: ustar headers, and pax records for what they have no room for.
//!
//! Not the crate's builder: it takes its files by path, knows no extended attributes and no hard
//! links, and names no pax records.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

use tar::{EntryType, Header};

use super::walk::{Found, data_runs, libc_type as kind};
use super::{BuildError, BuildOptions, BuildProgress};
use crate::load::LoadError;
use crate::tarfile::Time;

const BLOCK: usize = 512;
/// What a ustar header's fields hold.
const MAX_NAME: usize = 100;
const MAX_ID: u64 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;
const BUFFER: usize = 256 << 10;

/// Why an entry could not be written: the file, or what takes the tar.
pub(super) enum PackError {
    Source(BuildError),
    Write(io::Error),
}

impl From<BuildError> for PackError {
    fn from(error: BuildError) -> Self {
        PackError::Source(error)
    }
}

/// A tar in the making.
pub(super) struct Pack<'a, W> {
    out: W,
    options: &'a BuildOptions,
    progress: &'a mut dyn FnMut(BuildProgress<'_>),
    /// The first path of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    files: u64,
    bytes: u64,
}

/// What becomes of an entry's header.
struct Entry<'a> {
    path: &'a [u8],
    kind: EntryType,
    link: &'a [u8],
    /// Bytes that follow.
    size: u64,
    device: Option<(u32, u32)>,
    records: Vec<u8>,
}

impl<'a, W: Write> Pack<'a, W> {
    pub(super) fn new(
        out: W,
        options: &'a BuildOptions,
        progress: &'a mut dyn FnMut(BuildProgress<'_>),
    ) -> Self {
        Pack {
            out,
            options,
            progress,
            links: HashMap::new(),
            files: 0,
            bytes: 0,
        }
    }

    /// Adds a file.
    pub(super) fn add(&mut self, found: &Found) -> Result<(), PackError> {
        if self.options.cancel.is_cancelled() {
            return Err(BuildError::from(LoadError::Cancelled).into());
        }
        if found.is(kind::SOCKET) {
            (self.progress)(BuildProgress::Skipped { path: &found.shown });
            return Ok(());
        }
        self.files += 1;
        (self.progress)(BuildProgress::Packed {
            files: self.files,
            bytes: self.bytes,
        });
        if !found.is(kind::DIRECTORY) && found.stat.st_nlink > 1 {
            let id = (found.stat.st_dev, found.stat.st_ino);
            if let Some(first) = self.links.get(&id) {
                let first = first.clone();
                return self.entry(found, EntryType::Link, &first, None);
            }
            self.links.insert(id, found.path.clone());
        }
        match found.stat.st_mode & kind::MASK {
            kind::DIRECTORY => self.entry(found, EntryType::Directory, b"", None),
            kind::SYMLINK => self.entry(found, EntryType::Symlink, &found.target()?, None),
            kind::REGULAR => self.file(found),
            kind::FIFO => self.entry(found, EntryType::Fifo, b"", None),
            kind::BLOCK => self.device(found, EntryType::Block),
            kind::CHARACTER => self.device(found, EntryType::Char),
            _ => Ok(()),
        }
    }

    /// Ends the tar.
    pub(super) fn finish(mut self) -> Result<W, PackError> {
        self.out
            .write_all(&[0; 2 * BLOCK])
            .map_err(PackError::Write)?;
        Ok(self.out)
    }

    fn device(&mut self, found: &Found, kind: EntryType) -> Result<(), PackError> {
        let number = found.stat.st_rdev;
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        self.entry(found, kind, b"", Some((major, minor)))
    }

    fn file(&mut self, found: &Found) -> Result<(), PackError> {
        let size = u64::try_from(found.stat.st_size).unwrap_or(0);
        let (total, limit) = (
            self.bytes.saturating_add(size),
            self.options.limits.max_file_bytes,
        );
        if total > limit {
            let path = found.shown.clone();
            return Err(BuildError::TooLarge { path, limit }.into());
        }
        let file = found.open()?;
        let runs = self.runs(found, &file, size)?;
        let (mut records, mut map) = (Vec::new(), Vec::new());
        let mut stored = size;
        if let Some(runs) = &runs {
            // GNU's format 1.0: the map stands before the contents.
            map = sparse_map(runs, size);
            stored = map.len() as u64 + runs.iter().map(|(_, length)| length).sum::<u64>();
            record(&mut records, b"GNU.sparse.major", b"1");
            record(&mut records, b"GNU.sparse.minor", b"0");
            record(&mut records, b"GNU.sparse.name", &found.path);
            let real = size.to_string();
            record(&mut records, b"GNU.sparse.realsize", real.as_bytes());
        }
        let entry = Entry {
            path: &found.path,
            kind: EntryType::Regular,
            link: b"",
            size: stored,
            device: None,
            records,
        };
        self.write(found, entry)?;
        self.out.write_all(&map).map_err(PackError::Write)?;
        for (offset, length) in runs.unwrap_or_else(|| vec![(0, size)]) {
            self.copy(found, &file, offset, length)?;
        }
        self.pad(stored)
    }

    /// Where the bytes of a file with holes are.
    fn runs(
        &self,
        found: &Found,
        file: &File,
        size: u64,
    ) -> Result<Option<Vec<(u64, u64)>>, PackError> {
        let allocated = u64::try_from(found.stat.st_blocks).unwrap_or(0) * 512;
        if allocated >= size {
            return Ok(None);
        }
        data_runs(file, size).map_err(|source| {
            let path = found.shown.clone();
            BuildError::Read { path, source }.into()
        })
    }

    fn copy(
        &mut self,
        found: &Found,
        file: &File,
        offset: u64,
        length: u64,
    ) -> Result<(), PackError> {
        let mut buffer = vec![0; BUFFER.min(usize::try_from(length).unwrap_or(BUFFER))];
        let (mut at, end) = (offset, offset + length);
        while at < end {
            if self.options.cancel.is_cancelled() {
                return Err(BuildError::from(LoadError::Cancelled).into());
            }
            let space = buffer
                .len()
                .min(usize::try_from(end - at).unwrap_or(BUFFER));
            let read = file.read_at(&mut buffer[..space], at);
            let read = read.map_err(|source| {
                let path = found.shown.clone();
                BuildError::Read { path, source }
            })?;
            if read == 0 {
                let path = found.shown.clone();
                return Err(BuildError::Changed { path }.into());
            }
            self.out
                .write_all(&buffer[..read])
                .map_err(PackError::Write)?;
            at += read as u64;
            self.bytes += read as u64;
            let (files, bytes) = (self.files, self.bytes);
            (self.progress)(BuildProgress::Packed { files, bytes });
        }
        Ok(())
    }

    fn pad(&mut self, length: u64) -> Result<(), PackError> {
        let over = (length % BLOCK as u64) as usize;
        let padding = &[0; BLOCK][..(BLOCK - over) % BLOCK];
        self.out.write_all(padding).map_err(PackError::Write)
    }

    /// An entry without contents.
    fn entry(
        &mut self,
        found: &Found,
        kind: EntryType,
        link: &[u8],
        device: Option<(u32, u32)>,
    ) -> Result<(), PackError> {
        let mut path = found.path.clone();
        if kind == EntryType::Directory {
            path.extend(if path.is_empty() {
                &b"./"[..]
            } else {
                &b"/"[..]
            });
        }
        let entry = Entry {
            path: &path,
            kind,
            link,
            size: 0,
            device,
            records: Vec::new(),
        };
        self.write(found, entry)
    }

    /// Writes an entry's headers.
    fn write(&mut self, found: &Found, entry: Entry<'_>) -> Result<(), PackError> {
        let (uid, gid) = self.owner(found);
        let time = self.time(found);
        let seconds = u64::try_from(time.seconds).ok();
        let seconds = seconds.filter(|seconds| *seconds <= MAX_SIZE);
        let mut records = entry.records;
        // A sparse file has its name among its records.
        if entry.path.len() > MAX_NAME && records.is_empty() {
            record(&mut records, b"path", entry.path);
        }
        if entry.link.len() > MAX_NAME {
            record(&mut records, b"linkpath", entry.link);
        }
        for (key, number, most) in [
            (&b"uid"[..], uid, MAX_ID),
            (b"gid", gid, MAX_ID),
            (b"size", entry.size, MAX_SIZE),
        ] {
            if number > most {
                record(&mut records, key, number.to_string().as_bytes());
            }
        }
        if time.nanos != 0 || seconds.is_none() {
            record(&mut records, b"mtime", pax_time(time).as_bytes());
        }
        // A further name of a file says nothing of it but where it is.
        if entry.kind != EntryType::Link {
            for (name, value) in found.xattrs()? {
                let key = [b"SCHILY.xattr.", &name[..]].concat();
                record(&mut records, &key, &value);
            }
        }
        self.extended(&records)?;
        let fits = |number: u64, most: u64| if number > most { 0 } else { number };
        let mut header = Header::new_ustar();
        header.set_entry_type(entry.kind);
        put(&mut header.as_old_mut().name, entry.path);
        put(&mut header.as_old_mut().linkname, entry.link);
        header.set_mode(self.mode(found));
        header.set_uid(fits(uid, MAX_ID));
        header.set_gid(fits(gid, MAX_ID));
        header.set_size(fits(entry.size, MAX_SIZE));
        header.set_mtime(seconds.unwrap_or(0));
        let (major, minor) = entry.device.unwrap_or_default();
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.set_device_major(major);
            ustar.set_device_minor(minor);
        }
        self.header(&mut header)
    }

    /// Writes the pax header of the entry that follows, if it has one.
    fn extended(&mut self, records: &[u8]) -> Result<(), PackError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(records.len() as u64);
        header.set_mode(0o644);
        put(&mut header.as_old_mut().name, b"././@PaxHeader");
        self.header(&mut header)?;
        self.out.write_all(records).map_err(PackError::Write)?;
        self.pad(records.len() as u64)
    }

    fn header(&mut self, header: &mut Header) -> Result<(), PackError> {
        header.set_cksum();
        self.out
            .write_all(header.as_bytes())
            .map_err(PackError::Write)
    }

    /// The image's root is everybody's to enter and root's to change, whatever a temporary
    /// directory is.
    fn mode(&self, found: &Found) -> u32 {
        match found.path.is_empty() {
            true => 0o755,
            false => found.stat.st_mode & 0o7777,
        }
    }

    fn owner(&self, found: &Found) -> (u64, u64) {
        match self.options.owner {
            _ if found.path.is_empty() => (0, 0),
            Some((uid, gid)) => (uid.into(), gid.into()),
            None => (found.stat.st_uid.into(), found.stat.st_gid.into()),
        }
    }

    /// When it was changed, or the moment that everything later is dated.
    fn time(&self, found: &Found) -> Time {
        let time = Time {
            seconds: found.stat.st_mtime,
            nanos: u32::try_from(found.stat.st_mtime_nsec).unwrap_or(0),
        };
        let latest = self
            .options
            .latest
            .map(|seconds| Time { seconds, nanos: 0 });
        latest.map_or(time, |latest| time.min(latest))
    }
}

/// Fills a field with the beginning of a text.
fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + bare.to_string().len();
    length = bare + length.to_string().len();
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds with a fraction, as pax has them: before 1970 both count downwards.
fn pax_time(time: Time) -> String {
    let (sign, seconds, nanos) = match (time.seconds < 0, time.nanos) {
        (false, nanos) => ("", time.seconds.unsigned_abs(), nanos),
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, nanos) => ("-", time.seconds.unsigned_abs() - 1, 1_000_000_000 - nanos),
    };
    match nanos {
        0 => format!("{sign}{seconds}"),
        nanos => {
            let text = format!("{sign}{seconds}.{nanos:09}");
            text.trim_end_matches('0').to_owned()
        }
    }
}

/// How many runs there are, and each one's offset and length, in lines; padded to a block. A file
/// that ends in a hole has an empty run at its end.
fn sparse_map(runs: &[(u64, u64)], size: u64) -> Vec<u8> {
    let ends = runs
        .last()
        .is_some_and(|(offset, length)| offset + length == size);
    let mut runs = runs.to_vec();
    if !ends {
        runs.push((size, 0));
    }
    let mut text = format!("{}\n", runs.len());
    for (offset, length) in runs {
        text += &format!("{offset}\n{length}\n");
    }
    let mut map = text.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// Counts and hashes what passes.
pub(super) struct Hashed<W> {
    pub out: W,
    pub hasher: crate::digest::Hasher,
    pub count: u64,
}

impl<W> Hashed<W> {
    pub(super) fn new(out: W) -> Self {
        Hashed {
            out,
            hasher: crate::digest::Hasher::new(),
            count: 0,
        }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_length_counts_itself() {
        for (value, begin) in [(0, "5 "), (2, "7 "), (4, "9 "), (5, "11 "), (93, "99 ")] {
            let mut records = Vec::new();
            record(&mut records, b"a", &vec![b'v'; value]);
            assert!(records.starts_with(begin.as_bytes()), "{value}");
            let length: usize = begin.trim().parse().unwrap();
            assert_eq!(records.len(), length);
        }
        let mut records = Vec::new();
        record(&mut records, b"a", &[b'v'; 94]);
        assert!(records.starts_with(b"101 ") && records.len() == 101);
    }

    #[test]
    fn times_before_1970_count_downwards() {
        let text = |seconds, nanos| pax_time(Time { seconds, nanos });
        assert_eq!(text(-2, 500_000_000), "-1.5");
        assert_eq!(text(-2, 0), "-2");
        assert_eq!(text(3, 120), "3.00000012");
    }
}
