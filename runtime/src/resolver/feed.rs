//! What the process that answers is told of the host's files, which it cannot open.
//!
//! ```text
//!  one that answers ──a byte: which file──► keeper
//!                   ◄──length, content───   or that it is what it was
//! ```
//! It asks before each answer, so that a pod that has just started is found at once. A
//! byte is all that the keeper, which is root, ever reads of it.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long the keeper is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// In the place of a length: nothing has changed since the last answer.
const SAME: u32 = u32::MAX;

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The network's leases.
    Leases,
    /// The host's name servers: JSON, a list of addresses with ports.
    Servers,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Leases => b'L',
            Self::Servers => b'S',
        }
    }
}

/// The end of the one that answers.
#[derive(Debug)]
pub struct Feed(UnixStream);

impl Feed {
    /// Errors where the socket cannot be made to wait for so long.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// What a file says, if that is not what it said the last time. A keeper that has
    /// gone takes this process with it: until then what is known stays.
    pub fn ask(&mut self, kind: Kind) -> Option<Vec<u8>> {
        self.0.write_all(&[kind.byte()]).ok()?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length).ok()?;
        let length = u32::from_le_bytes(length);
        if length == SAME {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.0.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// A file and what makes an answer of its content.
pub struct Source {
    path: PathBuf,
    convert: fn(Vec<u8>) -> Vec<u8>,
    /// `None` before the first answer.
    told: Option<Option<Stamp>>,
}

type Stamp = (SystemTime, u64, u64);

impl Source {
    /// A file that is there or not.
    pub fn new(path: PathBuf, convert: fn(Vec<u8>) -> Vec<u8>) -> Self {
        Self {
            path,
            convert,
            told: None,
        }
    }

    fn news(&mut self) -> Option<Vec<u8>> {
        // Read after the look: what comes in between is seen next time.
        let stamp = stamp(&self.path);
        let is_same = self.told == Some(stamp);
        self.told = Some(stamp);
        let read = || std::fs::read(&self.path).map(self.convert);
        (!is_same).then(|| read().unwrap_or_default())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.ino(), found.len()))
}

/// Answers one process until it has gone, or has asked for what there is not.
pub fn keep(mut stream: UnixStream, mut leases: Source, mut servers: Source) -> io::Result<()> {
    let mut byte = [0];
    loop {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        let source = match byte[0] {
            b'L' => &mut leases,
            b'S' => &mut servers,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let Some(bytes) = source.news() else {
            stream.write_all(&SAME.to_le_bytes())?;
            continue;
        };
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_le_bytes())?;
        stream.write_all(&bytes)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_told_once() {
        let random: [u8; 8] = crate::pod::random_bytes();
        let name = format!("beluga-feed-{:x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        let (own, other) = UnixStream::pair().unwrap();
        let upper = |bytes: Vec<u8>| bytes.to_ascii_uppercase();
        let sources = [path.clone(), "/nonexistent".into()].map(|path| Source::new(path, upper));
        let keeper = std::thread::spawn(move || {
            let [leases, servers] = sources;
            keep(other, leases, servers)
        });
        let mut feed = Feed::new(own).unwrap();
        assert_eq!(feed.ask(Kind::Leases), Some(Vec::new()), "not there yet");
        std::fs::write(&path, "a").unwrap();
        assert_eq!(feed.ask(Kind::Leases), Some(b"A".to_vec()));
        assert_eq!(feed.ask(Kind::Leases), None);
        assert_eq!(feed.ask(Kind::Servers), Some(Vec::new()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(feed.ask(Kind::Leases), Some(Vec::new()));
        drop(feed);
        keeper.join().unwrap().unwrap();
    }

    #[test]
    fn a_byte_that_asks_for_nothing_ends_it() {
        let (mut own, other) = UnixStream::pair().unwrap();
        own.write_all(b"/").unwrap();
        let none = || Source::new("/nonexistent".into(), |bytes| bytes);
        assert!(keep(other, none(), none()).is_err());
    }
}
