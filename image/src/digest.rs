//! Content digests. Only SHA-256 is accepted: it is what every registry and every layout in use
//! writes, and one algorithm means one file name per blob.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest as _;

/// The SHA-256 of some bytes, written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The algorithm is not `sha256`.
    #[error("digest {text:?} does not use sha256, the only algorithm that is supported")]
    Algorithm {
        /// The text as given.
        text: String,
    },
    /// The rest is not 64 lower-case hexadecimal digits.
    #[error("digest {text:?} is not sha256: and 64 lower-case hexadecimal digits")]
    Malformed {
        /// The text as given.
        text: String,
    },
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The 64 hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// The first twelve hexadecimal digits, as `docker images` shows an id.
    pub fn short(&self) -> String {
        let mut text = self.hex();
        text.truncate(12);
        text
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let hex = hex.as_bytes();
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        if hex.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Digest(bytes))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        // A hostile manifest may hold a digest of any length; the message shows its beginning.
        let shown = || text.chars().take(100).collect();
        let hex = text
            .strip_prefix("sha256:")
            .ok_or_else(|| DigestError::Algorithm { text: shown() })?;
        Digest::from_hex(hex).ok_or_else(|| DigestError::Malformed { text: shown() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A SHA-256 in the making.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Passes bytes from `source` to the reader, and on the way counts and hashes them, and copies
/// them to `copy` when there is one.
pub(crate) struct Tee<R, W> {
    source: R,
    copy: Option<W>,
    copy_error: Option<io::Error>,
    hasher: Hasher,
    count: u64,
}

impl<R: Read, W: Write> Tee<R, W> {
    pub(crate) fn new(source: R, copy: Option<W>) -> Self {
        Tee {
            source,
            copy,
            copy_error: None,
            hasher: Hasher::new(),
            count: 0,
        }
    }

    /// The digest and the number of the bytes read so far, and whether the copy is complete.
    pub(crate) fn finish(mut self) -> (Digest, u64, io::Result<()>) {
        let flushed = self.copy.as_mut().map_or(Ok(()), W::flush);
        let copied = self.copy_error.map_or(flushed, Err);
        (self.hasher.finish(), self.count, copied)
    }
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        if let Some(copy) = &mut self.copy
            && let Err(error) = copy.write_all(&buffer[..read])
        {
            // The reader cannot tell this from a failing source; `finish` can.
            let kind = error.kind();
            self.copy_error.get_or_insert(error);
            return Err(kind.into());
        }
        self.count += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_and_back() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>(), Ok(Digest::of(b"")));
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn refuses_what_could_become_a_path() {
        for text in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            "md5:00",
            &EMPTY.to_uppercase(),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(
            format!("sha256:{}", "g".repeat(64))
                .parse::<Digest>()
                .is_err()
        );
    }

    #[test]
    fn tee_copies_counts_and_hashes() {
        let mut copy = Vec::new();
        let mut tee = Tee::new(&b"hello"[..], Some(&mut copy));
        io::copy(&mut tee, &mut io::sink()).unwrap();
        let (digest, count, copied) = tee.finish();
        assert_eq!((digest, count), (Digest::of(b"hello"), 5));
        copied.unwrap();
        assert_eq!(copy, b"hello");
    }
}
