//! Files into a container and out of it: what goes over the streams of a
//! process that the agent runs there, one of its own making.
//!
//! ```text
//! out:  stdout  Entry Data … Entry Data … Note … End      what it cannot read is a Note
//! in:   stdin   Entry Data … Entry Data … End
//!       stdout  Note … End                                what it cannot write is a Note
//! ```
//! A record is one byte for its kind, four for its length (little-endian), and
//! so many bytes. Data belongs to the file before it and begins with its place
//! in the file, eight bytes; what no data says is a hole. Whoever writes on the
//! host believes no path here.

use serde::{Deserialize, Serialize};

/// Most bytes of a file in one record.
pub const MAX_DATA: usize = 64 << 10;

/// Longest record: an entry with two paths of 4 KiB, or data with its place.
pub const MAX_RECORD: usize = 68 << 10;

/// What is copied, seen from the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySpec {
    /// A path in the container.
    pub path: String,
    /// Into the container: to the path or, where that is a directory, into it
    /// under this name, which has no slashes. None: out of it; a link at the
    /// path itself is followed.
    pub name: Option<String>,
}

/// One thing of a tree; directories before what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Below what is copied, parts joined by slashes; empty: that itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Last change of its content: seconds since 1970,
    pub mtime: i64,
    /// and nanoseconds.
    pub mtime_nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// Its data follow.
    File {
        /// Bytes, holes counted.
        size: u64,
    },
    /// What is in it follows.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it says.
        target: Vec<u8>,
    },
    /// Another name of a file before it.
    Again {
        /// That file's path, as its entry has it.
        of: Vec<u8>,
    },
}

/// Bytes of an entry before its path.
const ENTRY: usize = 35;

impl Entry {
    /// Its record's payload: numbers little-endian, the path's length, the
    /// path, then what a link says or leads to. No JSON: the agent is small.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (letter, size, other): (u8, u64, &[u8]) = match &self.kind {
            EntryKind::File { size } => (b'f', *size, &[]),
            EntryKind::Directory => (b'd', 0, &[]),
            EntryKind::Symlink { target } => (b'l', 0, target),
            EntryKind::Again { of } => (b'a', 0, of),
        };
        let mut bytes = Vec::with_capacity(ENTRY + self.path.len() + other.len());
        bytes.push(letter);
        for number in [self.mode, self.uid, self.gid, self.mtime_nanos] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.mtime.to_le_bytes());
        bytes.extend_from_slice(&size.to_le_bytes());
        let length = u16::try_from(self.path.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.path);
        bytes.extend_from_slice(other);
        bytes
    }

    /// Reads a record's payload; `None` when it is no entry.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (letter, rest) = bytes.split_first()?;
        let (mode, rest) = rest.split_first_chunk::<4>()?;
        let (uid, rest) = rest.split_first_chunk::<4>()?;
        let (gid, rest) = rest.split_first_chunk::<4>()?;
        let (nanos, rest) = rest.split_first_chunk::<4>()?;
        let (mtime, rest) = rest.split_first_chunk::<8>()?;
        let (size, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (path, other) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        let kind = match letter {
            b'f' => EntryKind::File {
                size: u64::from_le_bytes(*size),
            },
            b'd' => EntryKind::Directory,
            b'l' => EntryKind::Symlink {
                target: other.to_vec(),
            },
            b'a' => EntryKind::Again { of: other.to_vec() },
            _ => return None,
        };
        Some(Self {
            path: path.to_vec(),
            kind,
            mode: u32::from_le_bytes(*mode),
            uid: u32::from_le_bytes(*uid),
            gid: u32::from_le_bytes(*gid),
            mtime: i64::from_le_bytes(*mtime),
            mtime_nanos: u32::from_le_bytes(*nanos),
        })
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// An [`Entry`].
    Entry,
    /// A piece of the last file.
    Data,
    /// One sentence about something that was not copied.
    Note,
    /// There is no more; the payload is empty.
    End,
}

/// Bytes of a record before its payload.
pub const HEADER: usize = 5;

impl RecordKind {
    const ALL: [(Self, u8); 4] = [
        (Self::Entry, b'E'),
        (Self::Data, b'D'),
        (Self::Note, b'N'),
        (Self::End, b'Z'),
    ];

    /// What stands before a payload of so many bytes, [`MAX_RECORD`] at most.
    #[must_use]
    pub fn header(self, length: usize) -> [u8; HEADER] {
        let letter = Self::ALL.iter().find(|(kind, _)| *kind == self);
        let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        [letter.map_or(0, |(_, letter)| *letter), a, b, c, d]
    }

    /// Kind and length of a record; `None` when it is none.
    #[must_use]
    pub fn read(header: [u8; HEADER]) -> Option<(Self, usize)> {
        let [letter, a, b, c, d] = header;
        let (kind, _) = Self::ALL.iter().find(|(_, own)| *own == letter)?;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        (length <= MAX_RECORD).then_some((*kind, length))
    }
}

/// Place and bytes of a data record's payload.
#[must_use]
pub fn data(payload: &[u8]) -> Option<(u64, &[u8])> {
    let (place, bytes) = payload.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*place), bytes))
}

/// The parts of a path of an entry; `None` when it could lead elsewhere than
/// below what is copied.
#[must_use]
pub fn parts(path: &[u8]) -> Option<Vec<&[u8]>> {
    if path.is_empty() {
        return Some(Vec::new());
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let is_plain = |part: &&[u8]| {
        !part.is_empty()
            && part.len() <= 255
            && ![&b"."[..], b".."].contains(part)
            && !part.contains(&0)
    };
    (path.len() <= 4096 && parts.iter().all(is_plain)).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_are_written() {
        for (kind, _) in RecordKind::ALL {
            assert_eq!(RecordKind::read(kind.header(77)), Some((kind, 77)));
        }
        assert_eq!(
            RecordKind::read(RecordKind::Data.header(MAX_RECORD + 1)),
            None
        );
        assert_eq!(RecordKind::read([b'?', 0, 0, 0, 0]), None);
        assert_eq!(data(&[1, 0, 0, 0, 0, 0, 0, 0, 9]), Some((1, &[9][..])));
        assert_eq!(data(&[1, 2, 3]), None);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_none() {
        assert_eq!(parts(b""), Some(Vec::new()));
        assert_eq!(parts(b"a/b c/\xff"), Some(vec![&b"a"[..], b"b c", b"\xff"]));
        for bad in [
            "/", "/etc", "..", "a/../b", "a//b", "a/", "./a", "a/.", "a\0b",
        ] {
            assert_eq!(parts(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parts(&vec![b'a'; 300]), None);
        assert_eq!(parts("a/".repeat(3000).as_bytes()), None);
    }

    #[test]
    fn entries_are_read_as_they_are_written() {
        let entry = |path: &[u8], kind| Entry {
            path: path.to_vec(),
            kind,
            mode: 0o4751,
            uid: 1000,
            gid: u32::MAX,
            mtime: -1,
            mtime_nanos: 999_999_999,
        };
        let longest = vec![b'x'; 4096];
        for entry in [
            entry(b"", EntryKind::Directory),
            entry(b"a/\xff", EntryKind::File { size: u64::MAX }),
            entry(
                &longest,
                EntryKind::Symlink {
                    target: longest.clone(),
                },
            ),
            entry(b"a", EntryKind::Again { of: b"b".to_vec() }),
        ] {
            let bytes = entry.encode();
            assert!(bytes.len() <= MAX_RECORD && MAX_DATA + 8 <= MAX_RECORD);
            assert_eq!(Entry::decode(&bytes), Some(entry));
        }
        let bytes = entry(b"name", EntryKind::Directory).encode();
        for length in 0..bytes.len() {
            assert_eq!(Entry::decode(&bytes[..length]), None, "{length}");
        }
        assert_eq!(Entry::decode(&[b'?'; 64]), None);
    }
}
