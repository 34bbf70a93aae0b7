//! Which huge pages a kernel would leave nearly empty.
//!
//! A linked kernel is padded: page-table isolation alone puts three pages of
//! entry code into a huge page of their own. And its page allocator keeps pages
//! that can be moved, reclaimed, or neither in blocks apart, and begins each kind
//! with a block of low memory. A huge page costs the clearing of 2 MiB and keeps
//! 2 MiB, so such a frame gets small pages.

use std::ops::Range;

const HUGE_PAGE: u64 = 2 << 20;

/// A frame with at most so much content gets small pages: their faults cost as
/// much as clearing a huge page where it is half full.
const LITTLE: u64 = HUGE_PAGE / 2;

/// The allocator's first blocks for reclaimable and for movable pages, below a
/// kernel that is loaded at 16 MiB. Up to "agent ready" the guest touches 50
/// pages of the one and 3 of the other; what lies between is full of others.
pub const SPARSE_BLOCKS: [Range<u64>; 2] = [4 << 20..8 << 20, 12 << 20..16 << 20];

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PT_LOAD: u32 = 1;
const PF_W: u32 = 2;

/// The huge page frames, as guest addresses, in which an ELF kernel has some
/// content, and little. A file that is none has no such frames: what it is,
/// the loader says.
#[must_use]
pub fn sparse_frames(image: &[u8]) -> Vec<Range<u64>> {
    let segments = segments(image).unwrap_or_default();
    let start = segments.iter().map(|segment| segment.start).min();
    let end = segments.iter().map(|segment| segment.end).max();
    let (Some(start), Some(end)) = (start, end) else {
        return Vec::new();
    };
    // What follows the kernel in its last frame is free memory, which is used.
    (start / HUGE_PAGE..end / HUGE_PAGE)
        .map(|number| number * HUGE_PAGE..(number + 1) * HUGE_PAGE)
        .filter(|frame| (1..=LITTLE).contains(&content(frame, &segments)))
        .collect()
}

fn content(frame: &Range<u64>, segments: &[Range<u64>]) -> u64 {
    let inside = segments.iter().map(|segment| {
        let end = segment.end.min(frame.end);
        end.saturating_sub(segment.start.max(frame.start))
    });
    inside.sum()
}

/// What a kernel will have at its physical addresses. Behind the content of a
/// segment that is never written lies filling; behind others, zeroed variables.
fn segments(image: &[u8]) -> Option<Vec<Range<u64>>> {
    let header = image.get(..HEADER_BYTES)?;
    let table = usize::try_from(u64_at(header, 32)?).ok()?;
    let count = usize::from(u16::from_le_bytes(header.get(56..58)?.try_into().ok()?));
    let bytes = count.checked_mul(PROGRAM_HEADER_BYTES)?;
    let table = image.get(table..table.checked_add(bytes)?)?;
    let mut segments = Vec::new();
    for entry in table.chunks_exact(PROGRAM_HEADER_BYTES) {
        let kind = u32::from_le_bytes(entry.get(0..4)?.try_into().ok()?);
        let flags = u32::from_le_bytes(entry.get(4..8)?.try_into().ok()?);
        let length = u64_at(entry, if flags & PF_W == 0 { 32 } else { 40 })?;
        let start = u64_at(entry, 24)?;
        if kind == PT_LOAD && length > 0 {
            segments.push(start..start.checked_add(length)?);
        }
    }
    // A table that no kernel has is the loader's to refuse.
    let far = segments
        .iter()
        .any(|segment| segment.end > u64::from(u32::MAX));
    (!far).then_some(segments)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(segments: &[(u32, u64, u64, u64)]) -> Vec<u8> {
        let mut image = vec![0; HEADER_BYTES];
        image[32] = HEADER_BYTES as u8;
        image[56] = segments.len() as u8;
        for (flags, start, in_file, in_memory) in segments {
            image.extend(PT_LOAD.to_le_bytes());
            image.extend(flags.to_le_bytes());
            for word in [0, 0, *start, *in_file, *in_memory, 0] {
                image.extend(word.to_le_bytes());
            }
        }
        image
    }

    #[test]
    fn a_frame_of_filling_gets_small_pages() {
        let image = elf(&[
            (5, 16 << 20, 7 << 20, 8 << 20),
            (5, 24 << 20, 0x2000, 0x10_4000),
            (5, 25 << 20, 0x1000, 0xfc000),
            (4, 26 << 20, 0x20_1000, 0x20_1000),
        ]);
        let frames = [22 << 20..24 << 20, 24 << 20..26 << 20];
        assert_eq!(sparse_frames(&image), frames);
    }

    #[test]
    fn zeroed_variables_are_content_and_empty_frames_are_left_alone() {
        let image = elf(&[
            (6, 16 << 20, 0x1000, 2 << 20),
            (5, 20 << 20, 2 << 20, 2 << 20),
        ]);
        assert_eq!(sparse_frames(&image), vec![]);
    }

    #[test]
    fn what_is_no_elf_has_no_frames() {
        assert_eq!(sparse_frames(b""), vec![]);
        assert_eq!(sparse_frames(&[0xff; 200]), vec![]);
        assert_eq!(sparse_frames(&elf(&[(5, u64::MAX - 8, 8, 8)])), vec![]);
    }
}
