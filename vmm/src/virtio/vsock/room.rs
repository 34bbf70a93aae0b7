//! Buffers of the guest for packets to it.

use super::packet::{HEADER_LEN, Header, MAX_PAYLOAD};
use crate::memory::GuestMemory;
use crate::virtio::buffer::GuestBuffer;
use crate::virtio::{Chain, VirtQueue};

/// A buffer of the guest for one packet.
pub struct Room<'m> {
    head: u16,
    header: GuestBuffer<'m>,
    data: GuestBuffer<'m>,
}

impl<'m> Room<'m> {
    /// The buffer that a chain is. `None`: no packet fits.
    pub fn new(memory: &'m GuestMemory, chain: Chain<'m>) -> Option<Self> {
        let head = chain.head_index();
        let mut data = GuestBuffer::writable(memory, chain).ok()?;
        let header = data.take_front(HEADER_LEN);
        // Room for one byte of payload at least: a read into nothing would look
        // like the end of the stream.
        (!data.is_empty()).then_some(Self { head, header, data })
    }

    /// The next buffer if a packet fits; otherwise it stays the next one.
    pub fn next(queue: &mut VirtQueue, memory: &'m GuestMemory) -> Option<Self> {
        let room = Self::new(memory, queue.pop(memory)?);
        if room.is_none() {
            queue.undo_pop();
        }
        room
    }

    /// Puts the place for payload at the end of `all`; returns its size too.
    pub fn share(mut self, all: &mut GuestBuffer<'m>) -> (Self, u32) {
        let mut data = std::mem::take(&mut self.data);
        data.truncate(MAX_PAYLOAD as usize);
        let capacity = u32::try_from(data.len()).unwrap_or(MAX_PAYLOAD);
        all.append(data);
        (self, capacity)
    }

    /// Writes the header and gives the buffer back.
    pub fn fill(&self, queue: &mut VirtQueue, memory: &GuestMemory, header: &Header) {
        let written = self.header.copy_from(&header.encode());
        let written = u32::try_from(written)
            .unwrap_or(0)
            .saturating_add(header.len);
        queue.add_used(memory, self.head, written);
    }
}
