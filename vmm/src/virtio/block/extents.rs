//! Where a disk's bytes lie: pieces of files, one after another.

use beluga_proto::vm::EXTENT_ALIGN;
use std::fs::File;
use std::sync::Arc;

/// A piece of an open file.
#[derive(Debug, Clone)]
pub struct FileExtent {
    /// The file.
    pub file: Arc<File>,
    /// First byte in the file, a multiple of [`EXTENT_ALIGN`].
    pub offset: u64,
    /// Bytes, a multiple of [`EXTENT_ALIGN`].
    pub length: u64,
}

/// Why an extent cannot be part of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtentError {
    /// Not a multiple of the unit.
    #[error(
        "an extent at {offset} of {length} bytes is empty or not aligned to {EXTENT_ALIGN} bytes"
    )]
    Unaligned {
        /// Its place in the file.
        offset: u64,
        /// Its length.
        length: u64,
    },
    /// The disk or a file would be larger than an `off_t` can say.
    #[error("an extent at {offset} of {length} bytes ends beyond what a file can be")]
    TooLarge {
        /// Its place in the file.
        offset: u64,
        /// Its length.
        length: u64,
    },
}

/// The pieces with the place of each on the disk.
#[derive(Debug, Default)]
pub struct Extents {
    /// First byte on the disk, ascending, and the piece.
    pieces: Vec<(u64, FileExtent)>,
    size: u64,
}

/// A part of one piece.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The file.
    pub file: &'a File,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

impl Extents {
    /// Bytes of the disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a piece.
    pub fn push(&mut self, extent: FileExtent) -> Result<(), ExtentError> {
        let FileExtent { offset, length, .. } = extent;
        if length == 0 || !(offset | length).is_multiple_of(EXTENT_ALIGN) {
            return Err(ExtentError::Unaligned { offset, length });
        }
        let limit = i64::MAX as u64;
        let in_file = offset.checked_add(length).filter(|end| *end <= limit);
        let on_disk = self.size.checked_add(length).filter(|end| *end <= limit);
        let (Some(_), Some(size)) = (in_file, on_disk) else {
            return Err(ExtentError::TooLarge { offset, length });
        };
        self.pieces.push((self.size, extent));
        self.size = size;
        Ok(())
    }

    /// Whether the range lies on the disk.
    #[must_use]
    pub fn contains(&self, start: u64, length: u64) -> bool {
        start
            .checked_add(length)
            .is_some_and(|end| end <= self.size)
    }

    /// The parts of files that make up a range, in order; what lies beyond the
    /// end of the disk is left out.
    pub fn parts(&self, start: u64, length: u64) -> impl Iterator<Item = Part<'_>> {
        let end = start.saturating_add(length);
        let first = self
            .pieces
            .partition_point(|(at, piece)| at + piece.length <= start);
        self.pieces[first..]
            .iter()
            .take_while(move |(at, _)| *at < end)
            .map(move |(at, piece)| {
                let from = start.max(*at);
                let to = end.min(at + piece.length);
                Part {
                    file: &piece.file,
                    offset: piece.offset + (from - at),
                    length: to - from,
                }
            })
    }

    /// The files, each once.
    pub fn files(&self) -> impl Iterator<Item = &Arc<File>> {
        self.pieces
            .iter()
            .enumerate()
            .filter_map(|(at, (_, piece))| {
                let seen = self.pieces[..at]
                    .iter()
                    .any(|(_, before)| Arc::ptr_eq(&before.file, &piece.file));
                (!seen).then_some(&piece.file)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(pieces: &[(u64, u64)]) -> Extents {
        let file = Arc::new(File::open("/dev/null").unwrap());
        let mut extents = Extents::default();
        for &(offset, length) in pieces {
            let file = Arc::clone(&file);
            extents
                .push(FileExtent {
                    file,
                    offset,
                    length,
                })
                .unwrap();
        }
        extents
    }

    fn parts(extents: &Extents, start: u64, length: u64) -> Vec<(u64, u64)> {
        extents
            .parts(start, length)
            .map(|part| (part.offset, part.length))
            .collect()
    }

    #[test]
    fn a_range_is_cut_at_the_pieces() {
        let disk = extents(&[(0, 4096), (8192, 8192), (4096, 4096)]);
        assert_eq!(disk.size(), 16384);
        assert_eq!(parts(&disk, 0, 512), [(0, 512)]);
        assert_eq!(parts(&disk, 4096, 512), [(8192, 512)]);
        assert_eq!(
            parts(&disk, 3584, 9728),
            [(3584, 512), (8192, 8192), (4096, 1024)]
        );
        assert_eq!(parts(&disk, 16384, 512), []);
        assert!(disk.contains(16384, 0) && !disk.contains(16384, 1));
        assert!(!disk.contains(u64::MAX, 2));
    }

    /// Every byte of every range comes from where a walk byte by byte finds it.
    #[test]
    fn parts_agree_with_a_walk_over_all_units() {
        let disk = extents(&[(4096, 8192), (0, 4096), (65536, 12288)]);
        let units: Vec<u64> = [(4096, 16), (0, 8), (65536, 24)]
            .into_iter()
            .flat_map(|(from, sectors)| (0..sectors).map(move |s| from + s * 512))
            .collect();
        for start in 0..units.len() {
            for end in start + 1..=units.len() {
                let (from, length) = (start as u64 * 512, (end - start) as u64 * 512);
                let walked: Vec<u64> = disk
                    .parts(from, length)
                    .flat_map(|part| (0..part.length / 512).map(move |s| part.offset + s * 512))
                    .collect();
                assert_eq!(walked, units[start..end]);
            }
        }
    }

    #[test]
    fn odd_pieces_are_refused() {
        let file = Arc::new(File::open("/dev/null").unwrap());
        let mut disk = Extents::default();
        for (offset, length) in [(0, 0), (512, 4096), (0, 100)] {
            let file = Arc::clone(&file);
            let result = disk.push(FileExtent {
                file,
                offset,
                length,
            });
            assert_eq!(result, Err(ExtentError::Unaligned { offset, length }));
        }
        let (offset, length) = (1 << 63, 4096);
        let result = disk.push(FileExtent {
            file,
            offset,
            length,
        });
        assert_eq!(result, Err(ExtentError::TooLarge { offset, length }));
    }
}
