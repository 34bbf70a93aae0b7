//! One block request: read from its descriptors once, checked, done.

use super::extents::Extents;
use crate::memory::GuestMemory;
use crate::sys::file::{self, GuestSlice, MAX_PIECES, Release};
use crate::virtio::Chain;
use std::io;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::{Bytes, GuestMemoryBackend};

/// Bytes of a sector, the unit of the protocol.
pub const SECTOR: u64 = 512;

/// Most data descriptors of a request.
pub const SEG_MAX: u32 = 126;

/// Most ranges of one discard or write-zeroes request.
pub const RANGES_MAX: u32 = 32;

/// Unit of a discard in sectors: holes are made of pages.
pub const DISCARD_ALIGN: u32 = 8;

/// Most sectors of one range: 1 GiB.
pub const RANGE_SECTORS_MAX: u32 = 1 << 21;

/// Most bytes that one request moves: a supervisor's question about the disk
/// waits for the request under way.
pub const TRANSFER_MAX: u64 = 64 << 20;

const HEADER_BYTES: usize = 16;
const RANGE_BYTES: usize = 16;

/// What a disk lets its guest do.
#[derive(Debug, Clone)]
pub struct Rights {
    /// Writing is refused.
    pub read_only: bool,
    /// Discard and write-zeroes were offered.
    pub discard: bool,
    /// Flush was offered.
    pub flush: bool,
    /// What the disk calls itself.
    pub serial: [u8; VIRTIO_BLK_ID_BYTES as usize],
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Done {
        /// Bytes that were written to guest memory.
        written: u32,
        /// Bytes of content in either direction.
        moved: u64,
    },
    /// The host has no space: try the whole request again later.
    NoSpace,
}

/// How a request ended, before it is told.
enum Failure {
    Io,
    Unsupported,
    NoSpace,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::NoSpace,
            Some(libc::EOPNOTSUPP) => Self::Unsupported,
            _ => Self::Io,
        }
    }
}

/// Descriptors of a chain, each read once. The number is bounded: a longer
/// chain than was offered is refused.
#[derive(Debug, Default)]
struct Buffers<'m> {
    readable: Vec<GuestSlice<'m>>,
    writable: Vec<GuestSlice<'m>>,
}

impl<'m> Buffers<'m> {
    fn gather(memory: &'m GuestMemory, chain: Chain<'m>) -> Option<Self> {
        let mut buffers = Self::default();
        for descriptor in chain {
            let list = if descriptor.is_write_only() {
                &mut buffers.writable
            } else {
                &mut buffers.readable
            };
            if list.len() == MAX_PIECES {
                return None;
            }
            if descriptor.len() > 0 {
                list.push(
                    memory
                        .get_slice(descriptor.addr(), descriptor.len() as usize)
                        .ok()?,
                );
            }
        }
        Some(buffers)
    }

    /// Takes the header off the front of what the driver wrote.
    fn take_header(&mut self) -> Option<(u32, u64)> {
        let mut header = [0; HEADER_BYTES];
        let mut filled = 0;
        while filled < HEADER_BYTES {
            let slice = *self.readable.first()?;
            let count = slice.len().min(HEADER_BYTES - filled);
            slice
                .read_slice(&mut header[filled..filled + count], 0)
                .ok()?;
            filled += count;
            if count == slice.len() {
                self.readable.remove(0);
            } else {
                self.readable[0] = slice.offset(count).ok()?;
            }
        }
        let kind = u32::from_le_bytes(header[..4].try_into().ok()?);
        let sector = u64::from_le_bytes(header[8..].try_into().ok()?);
        Some((kind, sector))
    }

    /// Takes the status byte off the end of what the device writes.
    fn take_status(&mut self) -> Option<GuestSlice<'m>> {
        let slice = self.writable.pop()?;
        let last = slice.len() - 1;
        if last > 0 {
            self.writable.push(slice.subslice(0, last).ok()?);
        }
        slice.subslice(last, 1).ok()
    }
}

fn total(slices: &[GuestSlice<'_>]) -> u64 {
    slices.iter().map(|slice| slice.len() as u64).sum()
}

/// Does the request in `chain`. A chain without room for a status is given
/// back with nothing written: there is no other way to answer it.
pub fn serve(memory: &GuestMemory, chain: Chain<'_>, disk: &Extents, rights: &Rights) -> Outcome {
    const NOTHING: Outcome = Outcome::Done {
        written: 0,
        moved: 0,
    };
    let Some(mut buffers) = Buffers::gather(memory, chain) else {
        return NOTHING;
    };
    let Some(status) = buffers.take_status() else {
        return NOTHING;
    };
    let done = match buffers.take_header() {
        Some((kind, sector)) => perform(kind, sector, &buffers, disk, rights),
        None => Err(Failure::Io),
    };
    let (code, written) = match done {
        Ok(written) => (VIRTIO_BLK_S_OK, written),
        Err(Failure::Io) => (VIRTIO_BLK_S_IOERR, 0),
        Err(Failure::Unsupported) => (VIRTIO_BLK_S_UNSUPP, 0),
        Err(Failure::NoSpace) => return Outcome::NoSpace,
    };
    match status.write_obj(code as u8, 0) {
        Ok(()) => Outcome::Done {
            written: written + 1,
            moved: total(&buffers.readable) + total(&buffers.writable),
        },
        Err(_) => NOTHING,
    }
}

fn perform(
    kind: u32,
    sector: u64,
    buffers: &Buffers<'_>,
    disk: &Extents,
    rights: &Rights,
) -> Result<u32, Failure> {
    match kind {
        VIRTIO_BLK_T_IN => {
            let length = transfer(disk, sector, &buffers.writable, file::read_at)?;
            Ok(length as u32)
        }
        VIRTIO_BLK_T_OUT if !rights.read_only => {
            transfer(disk, sector, &buffers.readable, file::write_at)?;
            Ok(0)
        }
        VIRTIO_BLK_T_OUT => Err(Failure::Io),
        VIRTIO_BLK_T_FLUSH if rights.flush => flush(disk),
        VIRTIO_BLK_T_GET_ID => answer_id(&buffers.writable, &rights.serial),
        VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES if rights.discard => {
            if rights.read_only {
                return Err(Failure::Io);
            }
            release(kind, &buffers.readable, disk)
        }
        _ => Err(Failure::Unsupported),
    }
}

type VectoredIo = fn(&std::fs::File, &[GuestSlice<'_>], u64) -> io::Result<usize>;

/// Moves a whole request between the disk and guest memory.
fn transfer(
    disk: &Extents,
    sector: u64,
    slices: &[GuestSlice<'_>],
    io: VectoredIo,
) -> Result<u64, Failure> {
    let length = total(slices);
    let start = sector.checked_mul(SECTOR).ok_or(Failure::Io)?;
    if !length.is_multiple_of(SECTOR) || length > TRANSFER_MAX || !disk.contains(start, length) {
        return Err(Failure::Io);
    }
    let mut rest = slices.to_vec();
    for part in disk.parts(start, length) {
        let mut done = 0;
        while done < part.length {
            let (now, after) = split(&rest, part.length - done)?;
            match io(part.file, &now, part.offset + done)? {
                // The file is shorter than its extent.
                0 => return Err(Failure::Io),
                bytes => {
                    done += bytes as u64;
                    rest = skip(&now, bytes)?;
                    rest.extend(after);
                }
            }
        }
    }
    Ok(length)
}

/// The first `length` bytes of the slices, and the others.
fn split<'m>(
    slices: &[GuestSlice<'m>],
    length: u64,
) -> Result<(Vec<GuestSlice<'m>>, Vec<GuestSlice<'m>>), Failure> {
    if total(slices) <= length {
        return Ok((slices.to_vec(), Vec::new()));
    }
    let mut first = Vec::with_capacity(slices.len());
    let mut left = length as usize;
    for (at, slice) in slices.iter().enumerate() {
        if slice.len() > left {
            if left > 0 {
                first.push(slice.subslice(0, left).map_err(|_| Failure::Io)?);
            }
            let mut after = Vec::with_capacity(slices.len() - at);
            after.push(slice.offset(left).map_err(|_| Failure::Io)?);
            after.extend_from_slice(&slices[at + 1..]);
            return Ok((first, after));
        }
        left -= slice.len();
        first.push(*slice);
    }
    Ok((first, Vec::new()))
}

/// The slices without their first `count` bytes.
fn skip<'m>(slices: &[GuestSlice<'m>], count: usize) -> Result<Vec<GuestSlice<'m>>, Failure> {
    split(slices, count as u64).map(|(_, after)| after)
}

/// Honest: what the guest was told is written is on the medium afterwards.
fn flush(disk: &Extents) -> Result<u32, Failure> {
    for file in disk.files() {
        file.sync_data()?;
    }
    Ok(0)
}

fn answer_id(slices: &[GuestSlice<'_>], serial: &[u8]) -> Result<u32, Failure> {
    let slice = slices.first().ok_or(Failure::Io)?;
    let count = slice.len().min(serial.len());
    slice
        .write_slice(&serial[..count], 0)
        .map_err(|_| Failure::Io)?;
    Ok(count as u32)
}

/// Discard or write-zeroes: both read as zeroes afterwards.
fn release(kind: u32, slices: &[GuestSlice<'_>], disk: &Extents) -> Result<u32, Failure> {
    let mut bytes = [0; RANGES_MAX as usize * RANGE_BYTES];
    let length = total(slices) as usize;
    if length == 0 || length > bytes.len() || !length.is_multiple_of(RANGE_BYTES) {
        return Err(Failure::Io);
    }
    let mut at = 0;
    for slice in slices {
        slice
            .read_slice(&mut bytes[at..at + slice.len()], 0)
            .map_err(|_| Failure::Io)?;
        at += slice.len();
    }
    for range in bytes[..length].as_chunks::<RANGE_BYTES>().0 {
        release_range(kind, range, disk)?;
    }
    Ok(0)
}

fn release_range(kind: u32, range: &[u8; RANGE_BYTES], disk: &Extents) -> Result<(), Failure> {
    let word = |at: usize| {
        let bytes: [u8; 4] = std::array::from_fn(|i| range[at + i]);
        u32::from_le_bytes(bytes)
    };
    let sector = u64::from(word(0)) | u64::from(word(4)) << 32;
    let (sectors, flags) = (word(8), word(12));
    let unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0;
    let is_discard = kind == VIRTIO_BLK_T_DISCARD;
    // Section 5.2.6.2: a flag that is not known, and `unmap` on a discard.
    if flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 || is_discard && unmap {
        return Err(Failure::Unsupported);
    }
    let align = u64::from(DISCARD_ALIGN);
    let aligned = sector.is_multiple_of(align) && u64::from(sectors).is_multiple_of(align);
    if sectors > RANGE_SECTORS_MAX || is_discard && !aligned {
        return Err(Failure::Io);
    }
    let start = sector.checked_mul(SECTOR).ok_or(Failure::Io)?;
    let length = u64::from(sectors) * SECTOR;
    if !disk.contains(start, length) {
        return Err(Failure::Io);
    }
    let how = if is_discard || unmap {
        Release::PunchHole
    } else {
        Release::ZeroRange
    };
    for part in disk.parts(start, length) {
        file::release(part.file, how, part.offset, part.length)?;
    }
    Ok(())
}
