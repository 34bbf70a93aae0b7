//! File contents, written as they stream by.

use std::io::{self, Read, Seek, Write};

use super::{BLOCK_SIZE, CHUNK_BLOCKS, EXTENDED_INODE, spool::Spool, xattr};
use crate::layer::{FileData, LayerError};
use crate::tarfile::{Reader, Run, TarError, Xattr};

/// Holes are found and kept in units of this many bytes.
const CHUNK: usize = CHUNK_BLOCKS as usize * BLOCK_SIZE;

/// Writes blocks one after the other, beginning after the block of the superblock.
pub(crate) struct DataWriter<O, S> {
    pub(super) out: O,
    pub(super) spool: Spool<S>,
    pub(super) next_block: u32,
    buffer: Box<[u8]>,
}

impl<O: Write + Seek, S: Read + Write + Seek> DataWriter<O, S> {
    /// Both must be empty.
    pub(crate) fn new(mut out: O, spool: S) -> Result<Self, LayerError> {
        out.write_all(&[0; BLOCK_SIZE]).map_err(LayerError::Write)?;
        let buffer = vec![0; CHUNK].into();
        Ok(DataWriter {
            out,
            spool: Spool::new(spool),
            next_block: 1,
            buffer,
        })
    }

    /// Stores the contents of the reader's current entry.
    pub(crate) fn file<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        size: u64,
        runs: &[Run],
        xattrs: &[Xattr],
    ) -> Result<FileData, LayerError> {
        let mut file = Contents {
            reader,
            runs,
            run_read: 0,
            position: 0,
        };
        let mut data = FileData {
            size,
            first_block: self.next_block,
            ..FileData::default()
        };
        let mut chunks: Option<Vec<u32>> = None;
        let mut written = 0u32;
        let mut left = size;
        while left > 0 {
            let length = left.min(CHUNK as u64) as usize;
            left -= length as u64;
            let in_hole = !file.fill(&mut self.buffer[..length])?;
            let zero = in_hole || is_zero(&self.buffer[..length]);
            if zero && (length == CHUNK || chunks.is_some()) {
                let first = data.first_block;
                let holes = chunks.get_or_insert_with(|| {
                    (0..written)
                        .map(|chunk| first + chunk * CHUNK_BLOCKS)
                        .collect()
                });
                holes.push(FileData::HOLE);
                continue;
            }
            if in_hole {
                self.buffer[..length].fill(0);
            }
            if let Some(chunks) = &mut chunks {
                chunks.push(self.next_block);
            }
            let tail = length % BLOCK_SIZE;
            let inline = tail != 0
                && chunks.is_none()
                && EXTENDED_INODE + xattr::size(xattrs) + tail <= BLOCK_SIZE;
            let whole = if inline { length - tail } else { length };
            self.blocks(whole)?;
            if inline {
                data.tail = Some(self.spool.write(&self.buffer[whole..length])?);
            }
            written += 1;
        }
        data.chunks = chunks.map(Vec::into_boxed_slice);
        Ok(data)
    }

    /// Writes the first `length` bytes of the buffer as blocks, the last padded with zeros.
    fn blocks(&mut self, length: usize) -> Result<(), LayerError> {
        let padded = length.next_multiple_of(BLOCK_SIZE);
        // A chunk is a whole number of blocks, so the padding is within the buffer.
        self.buffer[length..padded].fill(0);
        self.out
            .write_all(&self.buffer[..padded])
            .map_err(LayerError::Write)?;
        let blocks = (padded / BLOCK_SIZE) as u32;
        let next = self
            .next_block
            .checked_add(blocks)
            .filter(|next| *next != FileData::HOLE);
        self.next_block = next.ok_or_else(too_long)?;
        Ok(())
    }
}

/// Block addresses have 32 bits: 16 TiB.
pub(super) fn too_long() -> LayerError {
    LayerError::Write(io::Error::from(io::ErrorKind::FileTooLarge))
}

fn is_zero(bytes: &[u8]) -> bool {
    // In words of 64 bytes, which the compiler turns into vector instructions; most chunks end
    // the search in the first.
    bytes
        .chunks(64)
        .all(|word| word.iter().fold(0, |sum, byte| sum | byte) == 0)
}

/// The contents of one file, holes filled in.
struct Contents<'a, R> {
    reader: &'a mut Reader<R>,
    /// Runs not yet read to their end.
    runs: &'a [Run],
    /// Bytes of the first of them that were read.
    run_read: u64,
    position: u64,
}

impl<R: Read> Contents<'_, R> {
    /// Fills the buffer with the next bytes. False, and nothing is filled, when all of them lie
    /// in a hole.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, LayerError> {
        let end = self.position + buffer.len() as u64;
        if self
            .runs
            .first()
            .is_none_or(|run| run.offset + self.run_read >= end)
        {
            self.position = end;
            return Ok(false);
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let room = (buffer.len() - filled) as u64;
            let Some(run) = self.runs.first() else {
                buffer[filled..].fill(0);
                break;
            };
            let begin = run.offset + self.run_read;
            let wanted = if begin > self.position {
                (begin - self.position).min(room)
            } else {
                (run.length - self.run_read).min(room)
            };
            let part = &mut buffer[filled..filled + wanted as usize];
            let done = if begin > self.position {
                part.fill(0);
                part.len()
            } else {
                self.read(part)?
            };
            filled += done;
            self.position += done as u64;
        }
        self.position = end;
        Ok(true)
    }

    fn read(&mut self, part: &mut [u8]) -> Result<usize, LayerError> {
        let read = self.reader.read_contents(part)?;
        if read == 0 && !part.is_empty() {
            return Err(TarError::Truncated {
                offset: self.reader.offset(),
            }
            .into());
        }
        self.run_read += read as u64;
        // An exhausted run, also one of no length, makes place for the next.
        if self
            .runs
            .first()
            .is_some_and(|run| self.run_read >= run.length)
        {
            self.runs = &self.runs[1..];
            self.run_read = 0;
        }
        Ok(read)
    }
}
