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

/// The next buffer; those that no packet fits are given back empty.
pub fn pop_room<'m>(queue: &mut VirtQueue, memory: &'m GuestMemory) -> Option<Room<'m>> {
    loop {
        let chain = queue.pop(memory)?;
        let head = chain.head_index();
        match room(memory, chain) {
            Some(room) => return Some(room),
            None => queue.add_used(memory, head, 0),
        }
    }
}

/// The next buffer if a packet fits; otherwise it stays the next one.
pub fn next_room<'m>(queue: &mut VirtQueue, memory: &'m GuestMemory) -> Option<Room<'m>> {
    let chain = queue.pop(memory)?;
    let room = room(memory, chain);
    if room.is_none() {
        queue.undo_pop();
    }
    room
}

fn room<'m>(memory: &'m GuestMemory, chain: Chain<'m>) -> Option<Room<'m>> {
    let head = chain.head_index();
    let mut data = GuestBuffer::writable(memory, chain).ok()?;
    let header = data.take_front(HEADER_LEN);
    // Room for one byte of payload at least: a read into nothing would look
    // like the end of the stream.
    (!data.is_empty()).then_some(Room { head, header, data })
}
