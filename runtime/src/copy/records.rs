//! Records over a blocking stream.

use super::CopyError;
use beluga_proto::copy::{HEADER, RecordKind};
use std::io::{self, Read, Write};

/// Reads records into one buffer.
pub struct Reader<R> {
    from: R,
    payload: Vec<u8>,
}

impl<R: Read> Reader<R> {
    pub fn new(from: R) -> Self {
        Self {
            from,
            payload: Vec::new(),
        }
    }

    /// The next record; its payload is there until the one after it.
    pub fn next(&mut self) -> Result<(RecordKind, &[u8]), CopyError> {
        let mut header = [0; HEADER];
        self.from.read_exact(&mut header)?;
        let (kind, length) = RecordKind::read(header).ok_or(CopyError::Nonsense {
            what: "a record of an unknown kind or too long",
        })?;
        self.payload.resize(length, 0);
        self.from.read_exact(&mut self.payload)?;
        Ok((kind, &self.payload))
    }
}

/// Writes a record.
pub fn write(to: &mut impl Write, kind: RecordKind, payload: &[u8]) -> io::Result<()> {
    to.write_all(&kind.header(payload.len()))?;
    to.write_all(payload)
}

/// Reads what the other side has to say until its end; whether it was anything.
pub fn notes(from: impl Read, mut note: impl FnMut(String)) -> Result<bool, CopyError> {
    let mut reader = Reader::new(from);
    let mut any = false;
    loop {
        match reader.next()? {
            (RecordKind::Note, text) => {
                any = true;
                note(String::from_utf8_lossy(text).into_owned());
            }
            (RecordKind::End, _) => return Ok(any),
            (RecordKind::Entry | RecordKind::Data, _) => {}
        }
    }
}
