//! Tar as a stream: ustar, GNU and pax, under bounds.
//!
//! Not a crate, for three reasons that hostile layers give: the published readers hold extended
//! headers of any size in memory, they split pax records at newlines (a `security.capability`
//! value may contain one), and none lets the caller bound or see every header. What is accepted
//! follows Go's `archive/tar`, which docker and containerd use, so that a layer means here what
//! it means there.

mod error;
mod header;
mod pax;
mod sparse;

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

pub use error::TarError;
use header::{Block, RawHeader};
use pax::Pax;

/// The unit of a tar: headers take one block, contents are padded to one.
pub(crate) const BLOCK: usize = 512;

/// What kind of thing an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// A volume label: nothing to extract.
    Label,
    /// Anything else, with its type flag.
    Other(u8),
}

/// A point in time, with the nanoseconds counted upwards from the second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Time {
    pub seconds: i64,
    pub nanos: u32,
}

/// An extended attribute: name and value.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// A run of stored bytes within a file; what lies between the runs is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub offset: u64,
    pub length: u64,
}

/// One entry, all extended headers applied. Its contents are read from the [`Reader`].
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    pub xattrs: Vec<Xattr>,
    /// Length of the file, holes included.
    pub size: u64,
    /// Where the stored bytes belong, in ascending order; one run for an ordinary file.
    pub runs: Vec<Run>,
}

/// Reads a tar from a stream.
pub(crate) struct Reader<R> {
    source: R,
    /// Bytes consumed, for messages.
    offset: u64,
    /// Stored bytes of the current entry that were not read yet, and the padding after them.
    remaining: u64,
    padding: u64,
    /// The longest extended header that is taken into memory.
    max_header: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(source: R, max_header: u64) -> Self {
        Reader {
            source,
            offset: 0,
            remaining: 0,
            padding: 0,
            max_header,
            ended: false,
        }
    }

    /// The next entry; `None` at the end of the archive. Contents of the entry before that were
    /// not read are skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let (mut pax, mut long_path, mut long_link) = (Pax::default(), None, None);
        while !self.ended {
            self.skip_contents()?;
            if !self.skip_padding()? {
                break;
            }
            let at = self.offset;
            let Some(block) = self.header_block()? else {
                break;
            };
            let raw = RawHeader::parse(&block, at)?;
            self.expect_contents(raw.stored_size(), at)?;
            match raw.flag {
                b'x' => pax = Pax::parse(&self.extended_header()?, at)?,
                // Meant for every entry that follows; docker and containerd do not apply it.
                b'g' => drop(Pax::parse(&self.extended_header()?, at)?),
                b'L' => long_path = Some(text(self.extended_header()?)),
                b'K' => long_link = Some(text(self.extended_header()?)),
                _ => {
                    return self
                        .entry(&block, raw, pax.or(long_path, long_link), at)
                        .map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Reads stored bytes of the current entry; 0 at its end.
    pub(crate) fn read_contents(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let wanted = usize::try_from(self.remaining).map_or(buffer.len(), |r| r.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let read = retry(|| self.source.read(&mut buffer[..wanted]))?;
        if read == 0 {
            return Err(TarError::Truncated {
                offset: self.offset,
            });
        }
        self.offset += read as u64;
        self.remaining -= read as u64;
        Ok(read)
    }

    /// Reads what follows the archive in the stream, to its end.
    pub(crate) fn drain(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; 8192];
        while retry(|| self.source.read(&mut buffer))? != 0 {}
        Ok(())
    }

    /// Where in the stream the unread contents of the current entry begin.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    fn entry(
        &mut self,
        block: &Block,
        raw: RawHeader,
        pax: Pax,
        at: u64,
    ) -> Result<Entry, TarError> {
        let sparse_gnu = raw.flag == b'S';
        let size = pax
            .size
            .filter(|_| raw.has_contents())
            .unwrap_or(raw.stored_size());
        self.expect_contents(size, at)?;
        let sparse = match pax.sparse.as_ref() {
            _ if sparse_gnu => Some(sparse::gnu(self, block, at)?),
            Some(map) if raw.is_regular() => Some(sparse::pax(self, map, at)?),
            _ => None,
        };
        let (size, runs) = match sparse {
            None => (
                size,
                vec![Run {
                    offset: 0,
                    length: size,
                }],
            ),
            Some((size, runs)) => {
                sparse::check(size, &runs, self.remaining, at)?;
                (size, runs)
            }
        };
        let path = pax.path.unwrap_or(raw.path);
        let kind = kind(raw.flag, &path);
        Ok(Entry {
            path,
            link: pax.link.unwrap_or(raw.link),
            kind,
            mode: raw.mode,
            uid: pax.uid.map_or_else(|| header::id(raw.uid, "uid", at), Ok)?,
            gid: pax.gid.map_or_else(|| header::id(raw.gid, "gid", at), Ok)?,
            mtime: pax.mtime.unwrap_or(Time {
                seconds: raw.mtime,
                nanos: 0,
            }),
            device: raw.device,
            xattrs: pax.xattrs,
            size,
            runs,
        })
    }

    /// The next block, unless the archive ends: by two blocks of zeros, by one and the end of
    /// the stream, or by the end of the stream alone.
    fn header_block(&mut self) -> Result<Option<Block>, TarError> {
        let at = self.offset;
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        self.ended = true;
        match self.block()? {
            Some(second) if second != [0; BLOCK] => Err(TarError::LoneZeroBlock { offset: at }),
            _ => Ok(None),
        }
    }

    /// One block; `None` when the stream ends before its first byte.
    fn block(&mut self) -> Result<Option<Block>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match retry(|| self.source.read(&mut block[filled..]))? {
                0 if filled == 0 => return Ok(None),
                0 => {
                    return Err(TarError::Truncated {
                        offset: self.offset,
                    });
                }
                read => {
                    filled += read;
                    self.offset += read as u64;
                }
            }
        }
        Ok(Some(block))
    }

    /// The contents of an extended header.
    fn extended_header(&mut self) -> Result<Vec<u8>, TarError> {
        if self.remaining > self.max_header {
            let (offset, size, limit) = (self.offset, self.remaining, self.max_header);
            return Err(TarError::HeaderTooLong {
                offset,
                size,
                limit,
            });
        }
        let mut contents = vec![0; self.remaining as usize];
        let mut filled = 0;
        while filled < contents.len() {
            filled += self.read_contents(&mut contents[filled..])?;
        }
        Ok(contents)
    }

    fn expect_contents(&mut self, size: u64, at: u64) -> Result<(), TarError> {
        // Room for the padding and for sums of offsets: no real file is that long.
        if size > i64::MAX as u64 {
            return Err(TarError::Number {
                field: "size",
                offset: at,
            });
        }
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn skip_contents(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; 8192];
        while self.read_contents(&mut buffer)? != 0 {}
        Ok(())
    }

    /// Whether there is more. An archive may end where the last contents end: `umoci insert`
    /// writes no padding after them, and Go's reader does not miss it.
    fn skip_padding(&mut self) -> Result<bool, TarError> {
        let mut buffer = [0; BLOCK];
        let mut left = std::mem::take(&mut self.padding) as usize;
        while left > 0 {
            let read = retry(|| self.source.read(&mut buffer[..left]))?;
            if read == 0 {
                self.ended = true;
                return Ok(false);
            }
            self.offset += read as u64;
            left -= read;
        }
        Ok(true)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Skips the contents of the current entry without reading them.
    pub(crate) fn seek_past_contents(&mut self) -> Result<(), TarError> {
        let target = self.offset + self.remaining + self.padding;
        self.source
            .seek(SeekFrom::Start(target))
            .map_err(TarError::Io)?;
        (self.offset, self.remaining, self.padding) = (target, 0, 0);
        Ok(())
    }
}

fn kind(flag: u8, path: &[u8]) -> Kind {
    match flag {
        // Before ustar, a directory was a file whose name ends in a slash.
        0 | b'0' if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::Regular,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'V' => Kind::Label,
        flag => Kind::Other(flag),
    }
}

/// Long names end at the first zero byte.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn retry(mut read: impl FnMut() -> io::Result<usize>) -> Result<usize, TarError> {
    loop {
        match read() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other.map_err(TarError::Io),
        }
    }
}

#[cfg(test)]
mod tests;
