//! One request on its way: what is known of it here, as plain values.

use crate::memory::GuestMemory;
use crate::virtio::Chain;
use crate::virtio::buffer::{ChainError, GuestBuffer};
use serde::{Deserialize, Serialize};
use vm_memory::{GuestAddress, GuestMemoryBackend as _};

/// `struct fuse_in_header`.
pub const IN_HEADER: usize = 40;

/// `struct fuse_out_header`: length, error, number.
pub const OUT_HEADER: usize = 16;

/// Most pieces of room that are kept of one request; the Linux driver has 36.
const MAX_PIECES: usize = 64;

/// The number that a request's header gives it.
#[must_use]
pub fn unique(header: &[u8; IN_HEADER]) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *header.first_chunk::<16>().unwrap_or(&[0; 16]);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// An answer's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutHeader {
    /// Bytes of the whole answer.
    pub length: u32,
    /// 0, or an error number below it.
    pub error: i32,
    /// Of the request.
    pub unique: u64,
}

impl OutHeader {
    /// From bytes.
    #[must_use]
    pub fn parse(bytes: [u8; OUT_HEADER]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        Self {
            length: u32::from_le_bytes([a, b, c, d]),
            error: i32::from_le_bytes([e, f, g, h]),
            unique: u64::from_le_bytes(rest),
        }
    }

    /// Whether an answer of `length` bytes can begin with this header and fits
    /// into `room` bytes: what the guest's driver takes for granted.
    #[must_use]
    pub fn is_sound(&self, length: usize, room: usize) -> bool {
        self.length as usize == length
            && length <= room
            && (self.error == 0 || (-511..0).contains(&self.error) && length == OUT_HEADER)
    }

    fn bytes(self) -> [u8; OUT_HEADER] {
        let mut bytes = [0; OUT_HEADER];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.error.to_le_bytes());
        bytes[8..].copy_from_slice(&self.unique.to_le_bytes());
        bytes
    }
}

/// A request that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// The queue that it came from.
    pub queue: usize,
    /// Its chain.
    pub head: u16,
    /// Where in guest memory the answer goes: addresses and lengths.
    pub room: Vec<(u64, u32)>,
}

impl Pending {
    /// The parts of a chain that the device may write. Errors on a chain that
    /// no driver makes, or that does not lie in memory.
    pub fn new(
        queue: usize,
        chain: Chain<'_>,
        memory: &GuestMemory,
    ) -> Result<(Self, usize), ChainError> {
        let head = chain.head_index();
        let mut room = Vec::new();
        for descriptor in chain.filter(|descriptor| descriptor.is_write_only()) {
            if room.len() == MAX_PIECES {
                return Err(ChainError::TooLong);
            }
            room.push((descriptor.addr().0, descriptor.len()));
        }
        let pending = Self { queue, head, room };
        let length = pending.buffer(memory)?.len();
        Ok((pending, length))
    }

    /// The same as memory.
    pub fn buffer<'m>(&self, memory: &'m GuestMemory) -> Result<GuestBuffer<'m>, ChainError> {
        let mut buffer = GuestBuffer::default();
        for (address, length) in &self.room {
            for piece in memory.get_slices(GuestAddress(*address), *length as usize) {
                buffer.push(piece.map_err(|_| ChainError::OutsideMemory)?);
            }
        }
        Ok(buffer)
    }

    /// Answers with an error; how many bytes that takes.
    #[must_use]
    pub fn refuse(&self, memory: &GuestMemory, unique: u64, errno: i32) -> u32 {
        let header = OutHeader {
            length: OUT_HEADER as u32,
            error: -errno,
            unique,
        };
        match self.buffer(memory) {
            Ok(buffer) if buffer.len() >= OUT_HEADER => buffer.copy_from(&header.bytes()) as u32,
            _ => 0,
        }
    }
}
