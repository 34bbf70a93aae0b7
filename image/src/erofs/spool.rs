//! Tails of files, put aside until their inodes have a place.

use std::io::{Read, Seek, SeekFrom, Write};

use super::BLOCK_SIZE;
use crate::layer::LayerError;

/// Bytes moved to and from the file at a time.
const BUFFER: usize = 256 << 10;

/// An append-only file that is read when it is complete. Reads mostly ascend.
pub(super) struct Spool<S> {
    file: S,
    /// While writing: what is not in the file yet. While reading: a window of the file.
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    base: u64,
    reading: bool,
}

impl<S: Read + Write + Seek> Spool<S> {
    pub(super) fn new(file: S) -> Self {
        Spool {
            file,
            buffer: Vec::new(),
            base: 0,
            reading: false,
        }
    }

    /// Appends bytes; where they are.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<u64, LayerError> {
        let at = self.base + self.buffer.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.file
                .write_all(&self.buffer)
                .map_err(LayerError::Write)?;
            self.base += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(at)
    }

    /// Reads bytes written earlier, less than a block of them. Nothing is written afterwards.
    pub(super) fn read(&mut self, at: u64, length: usize) -> Result<&[u8], LayerError> {
        debug_assert!(length < BLOCK_SIZE);
        let inside = |base: u64, len: usize| at >= base && at + length as u64 <= base + len as u64;
        if !inside(self.base, self.buffer.len()) {
            self.refill(at).map_err(LayerError::Write)?;
        }
        let begin = (at - self.base) as usize;
        let bytes = self.buffer.get(begin..begin + length);
        bytes.ok_or_else(|| LayerError::Write(std::io::ErrorKind::UnexpectedEof.into()))
    }

    fn refill(&mut self, at: u64) -> std::io::Result<()> {
        if !self.reading {
            self.file.write_all(&self.buffer)?;
            self.reading = true;
        }
        // A little before, for tails that were packed out of order.
        self.base = at.saturating_sub(BUFFER as u64 / 4);
        self.buffer.clear();
        self.file.seek(SeekFrom::Start(self.base))?;
        (&mut self.file)
            .take(BUFFER as u64)
            .read_to_end(&mut self.buffer)?;
        Ok(())
    }
}
