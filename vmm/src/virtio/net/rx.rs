//! Receive: packets of the tap into buffers of the guest.

use super::HEADER_LEN;
use crate::memory::GuestMemory;
use crate::sys::net as sys;
use crate::virtio::VirtQueue;
use crate::virtio::buffer::GuestBuffer;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use virtio_queue::QueueT;

/// Offset of `num_buffers` in the header.
const NUM_BUFFERS: usize = 10;

/// Room on the host for what a guest's buffers do not hold. A packet that
/// needs it is dropped; it is only there to see that.
const SPILL: usize = 1 << 16;

/// What came of one read of the tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A packet of so many bytes, header included.
    Packet(usize),
    /// A packet that the guest's buffers did not hold.
    Dropped,
    /// The tap is empty.
    Empty,
    /// The guest has too little room.
    NoRoom,
}

struct Room<'m> {
    head: u16,
    buffer: GuestBuffer<'m>,
}

/// Buffers of the guest that have been taken and not yet used, for the time of
/// one batch: each is looked at once, however many packets come.
pub struct Batch<'m, 'q> {
    queue: &'q mut VirtQueue,
    memory: &'m GuestMemory,
    mergeable: bool,
    longest: usize,
    rooms: VecDeque<Room<'m>>,
    room: usize,
}

impl<'m, 'q> Batch<'m, 'q> {
    /// A batch for packets of at most `longest` bytes, header included;
    /// `mergeable` when a packet may fill several buffers.
    pub fn new(
        queue: &'q mut VirtQueue,
        memory: &'m GuestMemory,
        mergeable: bool,
        longest: usize,
    ) -> Self {
        Self {
            queue,
            memory,
            mergeable,
            longest,
            rooms: VecDeque::new(),
            room: 0,
        }
    }

    /// Moves one packet.
    pub fn receive(&mut self, tap: BorrowedFd<'_>) -> io::Result<Received> {
        if !self.gather() {
            return Ok(Received::NoRoom);
        }
        let merged = if self.mergeable { self.rooms.len() } else { 1 };
        let mut pieces = Vec::with_capacity(merged);
        let mut room = 0;
        for taken in self.rooms.iter().take(merged) {
            pieces.extend_from_slice(taken.buffer.pieces());
            room += taken.buffer.len();
        }
        let mut spill = if room < self.longest {
            vec![0u8; SPILL]
        } else {
            Vec::new()
        };
        match sys::read_packet(tap, &pieces, &mut spill) {
            Ok(len) if len > room => Ok(Received::Dropped),
            Ok(len) => {
                self.hand_over(len);
                Ok(Received::Packet(len))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Empty),
            Err(error) => Err(error),
        }
    }

    /// Takes buffers until the longest packet fits. `false`: there are too few.
    fn gather(&mut self) -> bool {
        // A driver that keeps fewer or smaller buffers than the longest packet
        // needs still gets the others.
        let many = usize::from(self.queue.ring().size() / 2).max(1);
        loop {
            let enough = if self.mergeable {
                self.room >= self.longest || self.rooms.len() >= many
            } else {
                !self.rooms.is_empty()
            };
            if enough {
                return true;
            }
            if !self.take_one() {
                return false;
            }
        }
    }

    fn take_one(&mut self) -> bool {
        let Some(chain) = self.queue.pop(self.memory) else {
            return false;
        };
        let head = chain.head_index();
        match GuestBuffer::writable(self.memory, chain) {
            Ok(buffer) if buffer.len() >= HEADER_LEN => {
                self.room += buffer.len();
                self.rooms.push_back(Room { head, buffer });
                true
            }
            // One useless buffer for one turn: a driver that makes nothing else
            // available does not keep the thread.
            _ if self.rooms.is_empty() => {
                self.queue.add_used(self.memory, head, 0);
                false
            }
            // It keeps its place, and its packet gets no part of it.
            _ => {
                let buffer = GuestBuffer::default();
                self.rooms.push_back(Room { head, buffer });
                true
            }
        }
    }

    /// Gives the buffers that `len` bytes fill to the guest.
    fn hand_over(&mut self, len: usize) {
        let mut rest = len;
        let mut used = Vec::new();
        let mut header = None;
        while rest > 0 {
            let Some(mut room) = self.rooms.pop_front() else {
                break;
            };
            self.room -= room.buffer.len();
            let part = rest.min(room.buffer.len());
            rest -= part;
            used.push((room.head, u32::try_from(part).unwrap_or(u32::MAX)));
            if header.is_none() {
                room.buffer.take_front(NUM_BUFFERS);
                header = Some(room.buffer);
            }
        }
        if let Some(header) = header {
            // It lies in the first buffer as a whole: none is shorter.
            header.copy_from(&u16::try_from(used.len()).unwrap_or(u16::MAX).to_le_bytes());
        }
        self.queue.add_used_together(self.memory, &used);
    }

    /// Asks to be told of new buffers. `true`: there are some already.
    pub fn rearm(&mut self) -> bool {
        self.put_back();
        self.queue.rearm(self.memory)
    }

    /// Gives unused buffers back to the queue, in order.
    fn put_back(&mut self) {
        while self.rooms.pop_back().is_some() {
            self.queue.undo_pop();
        }
        self.room = 0;
    }
}

impl Drop for Batch<'_, '_> {
    fn drop(&mut self) {
        self.put_back();
    }
}
