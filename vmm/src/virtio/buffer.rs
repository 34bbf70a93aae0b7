//! Pieces of guest memory that belong to one descriptor chain, or to several,
//! as one run of bytes.

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

/// Most descriptors of a chain that are looked at. No driver needs more for a
/// packet, and the guest chooses the length of an indirect table.
const MAX_DESCRIPTORS: usize = 64;

/// A descriptor chain cannot be used as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It has more than [`MAX_DESCRIPTORS`] descriptors.
    #[error("a descriptor chain has more than {MAX_DESCRIPTORS} descriptors")]
    TooLong,
    /// A descriptor points to where there is no guest memory.
    #[error("a descriptor points outside of guest memory")]
    OutsideMemory,
}

/// Pieces of guest memory, in order. What is in them can change at any time:
/// it is copied, or handed to the kernel, and never looked at twice.
#[derive(Debug, Default)]
pub struct GuestBuffer<'m> {
    pieces: Vec<VolatileSlice<'m>>,
    len: usize,
}

impl<'m> GuestBuffer<'m> {
    /// The parts of a chain that the device may read.
    pub fn readable(
        mem: &'m GuestMemoryMmap,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<Self, ChainError> {
        Self::collect(mem, chain, false)
    }

    /// The parts of a chain that the device may write.
    pub fn writable(
        mem: &'m GuestMemoryMmap,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<Self, ChainError> {
        Self::collect(mem, chain, true)
    }

    fn collect(
        mem: &'m GuestMemoryMmap,
        chain: DescriptorChain<&GuestMemoryMmap>,
        writable: bool,
    ) -> Result<Self, ChainError> {
        let access = if writable {
            Permissions::Write
        } else {
            Permissions::Read
        };
        let mut buffer = Self::default();
        for (at, descriptor) in chain.enumerate() {
            if at == MAX_DESCRIPTORS {
                return Err(ChainError::TooLong);
            }
            if descriptor.is_write_only() != writable || descriptor.len() == 0 {
                continue;
            }
            let slices = mem
                .get_slices(descriptor.addr(), descriptor.len() as usize, access)
                .map_err(|_| ChainError::OutsideMemory)?;
            for slice in slices {
                buffer.push(slice.map_err(|_| ChainError::OutsideMemory)?);
            }
        }
        Ok(buffer)
    }

    /// Adds a piece at the end.
    pub fn push(&mut self, piece: VolatileSlice<'m>) {
        self.len += piece.len();
        self.pieces.push(piece);
    }

    /// Adds all pieces of `other` at the end.
    pub fn append(&mut self, other: Self) {
        self.len += other.len;
        self.pieces.extend(other.pieces);
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is not one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> &[VolatileSlice<'m>] {
        &self.pieces
    }

    /// Cuts off and returns the first `count` bytes, or all there are.
    pub fn take_front(&mut self, count: usize) -> Self {
        let mut front = Self::default();
        let mut whole = 0;
        for piece in &mut self.pieces {
            let wanted = count - front.len;
            if wanted == 0 {
                break;
            }
            if piece.len() <= wanted {
                front.push(*piece);
                whole += 1;
            } else if let Ok((head, tail)) = piece.split_at(wanted) {
                front.push(head);
                *piece = tail;
            }
        }
        self.pieces.drain(..whole);
        self.len -= front.len;
        front
    }

    /// Drops all bytes but the first `count`.
    pub fn truncate(&mut self, count: usize) {
        if count < self.len {
            *self = self.take_front(count);
        }
    }

    /// Copies the first bytes out; returns how many that were.
    pub fn copy_to(&self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in &self.pieces {
            done += piece.copy_to(&mut bytes[done..]);
        }
        done
    }

    /// Copies bytes in at the front; returns how many had room.
    pub fn copy_from(&self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for piece in &self.pieces {
            done += piece.write(&bytes[done..], 0).unwrap_or(0);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_cut_and_copied_across_pieces() {
        let (mut a, mut b) = ([1u8, 2, 3], [4u8, 5]);
        let mut buffer = GuestBuffer::default();
        buffer.push(VolatileSlice::from(&mut a[..]));
        buffer.push(VolatileSlice::from(&mut b[..]));
        let front = buffer.take_front(4);
        assert_eq!((front.len(), buffer.len()), (4, 1));
        let mut bytes = [0u8; 8];
        assert_eq!(front.copy_to(&mut bytes), 4);
        assert_eq!(bytes[..4], [1, 2, 3, 4]);
        assert_eq!(buffer.copy_to(&mut bytes), 1);
        assert_eq!(bytes[0], 5);
        assert_eq!(front.copy_from(&[9; 8]), 4);
        assert_eq!((a, b), ([9, 9, 9], [9, 5]));
    }

    #[test]
    fn taking_more_than_there_is_takes_all() {
        let mut a = [1u8, 2, 3];
        let mut buffer = GuestBuffer::default();
        buffer.push(VolatileSlice::from(&mut a[..]));
        let front = buffer.take_front(100);
        assert_eq!((front.len(), buffer.len()), (3, 0));
        buffer.truncate(0);
        assert_eq!(buffer.pieces().len(), 0);
    }
}
