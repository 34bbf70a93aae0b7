//! Sparse files: where the stored bytes belong.

use std::io::Read;

use super::header::{self, Block};
use super::pax::{SparseMap, decimal};
use super::{BLOCK, Reader, Run, TarError};

/// A file's full length and its stored runs.
type Map = (u64, Vec<Run>);

/// The old GNU format: four runs in the header, 21 in each block that follows.
pub(super) fn gnu<R: Read>(
    reader: &mut Reader<R>,
    header: &Block,
    at: u64,
) -> Result<Map, TarError> {
    let malformed = || TarError::Sparse { offset: at };
    let number = |field: &[u8]| {
        header::number(field)
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(malformed)
    };
    let mut runs = Vec::new();
    let mut push = |fields: &[u8]| {
        for pair in fields.chunks_exact(24) {
            if pair[0] == 0 {
                break;
            }
            runs.push(Run {
                offset: number(&pair[..12])?,
                length: number(&pair[12..])?,
            });
        }
        Ok(())
    };
    push(&header[386..482])?;
    let size = number(&header[483..495])?;
    let mut more = header[482] != 0;
    let mut read = 0;
    while more {
        read += BLOCK as u64;
        if read > reader.max_header {
            let (size, limit) = (read, reader.max_header);
            return Err(TarError::HeaderTooLong {
                offset: at,
                size,
                limit,
            });
        }
        // These blocks come before the contents and are not part of their size.
        let block = reader.block()?.ok_or(TarError::Truncated {
            offset: reader.offset,
        })?;
        push(&block[..504])?;
        more = block[504] != 0;
    }
    Ok((size, runs))
}

/// The pax formats.
pub(super) fn pax<R: Read>(
    reader: &mut Reader<R>,
    map: &SparseMap,
    at: u64,
) -> Result<Map, TarError> {
    if !map.in_contents {
        return Ok((map.size, map.runs.clone()));
    }
    let mut numbers = Numbers {
        block: [0; BLOCK],
        next: BLOCK,
        read: 0,
        at,
    };
    let count = numbers.next(reader)?;
    let mut runs = Vec::new();
    for _ in 0..count {
        let (offset, length) = (numbers.next(reader)?, numbers.next(reader)?);
        runs.push(Run { offset, length });
    }
    Ok((map.size, runs))
}

/// Decimal lines in whole blocks at the beginning of the contents.
struct Numbers {
    block: Block,
    next: usize,
    read: u64,
    at: u64,
}

impl Numbers {
    fn next<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<u64, TarError> {
        let malformed = TarError::Sparse { offset: self.at };
        let mut digits = Vec::new();
        loop {
            if self.next == BLOCK {
                self.fill(reader)?;
            }
            let byte = self.block[self.next];
            self.next += 1;
            match byte {
                b'\n' => return decimal(&digits).ok_or(malformed),
                _ if digits.len() >= 20 => return Err(malformed),
                _ => digits.push(byte),
            }
        }
    }

    fn fill<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<(), TarError> {
        self.read += BLOCK as u64;
        if self.read > reader.max_header {
            let (size, limit) = (self.read, reader.max_header);
            return Err(TarError::HeaderTooLong {
                offset: self.at,
                size,
                limit,
            });
        }
        let mut filled = 0;
        while filled < BLOCK {
            match reader.read_contents(&mut self.block[filled..])? {
                0 => return Err(TarError::Sparse { offset: self.at }),
                read => filled += read,
            }
        }
        self.next = 0;
        Ok(())
    }
}

/// Runs ascend, do not overlap, stay within the file, and together are what is stored.
pub(super) fn check(size: u64, runs: &[Run], stored: u64, at: u64) -> Result<(), TarError> {
    let (mut end, mut sum) = (0u64, 0u64);
    for run in runs {
        let run_end = run
            .offset
            .checked_add(run.length)
            .filter(|end| *end <= size);
        if run.offset < end || run_end.is_none() {
            return Err(TarError::Sparse { offset: at });
        }
        end = run.offset + run.length;
        sum += run.length;
    }
    if sum == stored && size <= i64::MAX as u64 {
        Ok(())
    } else {
        Err(TarError::Sparse { offset: at })
    }
}
