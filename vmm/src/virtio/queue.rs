//! One virtqueue: the split ring of `virtio-queue` with what every device does
//! around it.

use crate::memory::GuestMemory;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{Ordering, fence};
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

/// Offset of the first element in the device's ring, and in the driver's.
const USED_RING: u64 = 4;
const AVAILABLE_RING: u64 = 4;

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`.
const NO_INTERRUPT: u16 = 1;

/// One request of the driver: an iterator over its descriptors.
pub type Chain<'m> = DescriptorChain<&'m GuestMemory>;

/// A queue of a device.
///
/// A ring that makes no sense (an index that jumped, an address outside of
/// memory) breaks the queue: it yields nothing until the driver resets the
/// device.
#[derive(Debug)]
pub struct VirtQueue {
    queue: Queue,
    broken: bool,
    /// Position in the device's ring when the driver was last thought of.
    considered: u16,
}

/// A queue as a plain value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Size that the driver chose.
    pub size: u16,
    /// Whether the driver has enabled it.
    pub ready: bool,
    /// Guest address of the descriptor table.
    pub descriptors: u64,
    /// Guest address of the driver's ring.
    pub available: u64,
    /// Guest address of the device's ring.
    pub used: u64,
    /// Position in the driver's ring.
    pub next_available: u16,
    /// Position in the device's ring.
    pub next_used: u16,
    /// Whether `VIRTIO_RING_F_EVENT_IDX` was negotiated.
    pub event_idx: bool,
    /// See [`VirtQueue`].
    pub broken: bool,
}

impl VirtQueue {
    /// A queue of at most `max_size` entries, a power of two up to 32768.
    ///
    /// # Panics
    /// When it is not: sizes are constants of the devices.
    #[must_use]
    pub fn new(max_size: u16) -> Self {
        Self {
            queue: Queue::new(max_size).expect("a device's queue sizes are powers of two"),
            broken: false,
            considered: 0,
        }
    }

    /// The ring itself, for the transport's registers and for tests.
    pub fn ring(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// Largest size that the driver may choose.
    #[must_use]
    pub fn max_size(&self) -> u16 {
        self.queue.max_size()
    }

    /// Whether the driver has enabled the queue.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.queue.ready()
    }

    /// Whether the rings lie in memory.
    #[must_use]
    pub fn is_valid(&self, memory: &GuestMemory) -> bool {
        self.queue.is_valid(memory)
    }

    /// Back to the state after construction.
    pub fn reset(&mut self) {
        self.queue.reset();
        self.broken = false;
        self.considered = 0;
    }

    /// The next request, if the driver has made one available.
    ///
    /// At most a ring's worth of chains is there at a time, but a driver on
    /// another CPU can refill it for ever: a device that shares its thread
    /// bounds how many it takes in one call and rearms afterwards.
    pub fn pop<'m>(&mut self, memory: &'m GuestMemory) -> Option<Chain<'m>> {
        if self.broken {
            return None;
        }
        match self.queue.iter(memory) {
            Ok(mut chains) => chains.next(),
            Err(_) => {
                self.broken = true;
                None
            }
        }
    }

    /// Puts the chain that [`VirtQueue::pop`] gave last back: it will be the
    /// next one again.
    pub fn undo_pop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Gives a chain back to the driver, `written` bytes of it filled.
    pub fn add_used(&mut self, memory: &GuestMemory, head: u16, written: u32) {
        if self.queue.add_used(memory, head, written).is_err() {
            self.broken = true;
        }
    }

    /// Gives chains back that belong together: the driver sees all of them or
    /// none. A packet in several buffers needs that (VIRTIO 1.2, 5.1.6.4): a
    /// driver that polls takes the first for a packet with parts missing.
    pub fn add_used_together(&mut self, memory: &GuestMemory, used: &[(u16, u32)]) {
        let Some(((last_head, last_written), before)) = used.split_last() else {
            return;
        };
        let mut position = self.queue.next_used();
        for (head, written) in before {
            let slot = u64::from(position % self.queue.size());
            let mut element = [0u8; 8];
            element[..4].copy_from_slice(&u32::from(*head).to_le_bytes());
            element[4..].copy_from_slice(&written.to_le_bytes());
            let address = self.queue.used_ring().checked_add(USED_RING + 8 * slot);
            let put = address.map(|at| memory.write_slice(&element, GuestAddress(at)));
            if !matches!(put, Some(Ok(()))) {
                self.broken = true;
                return;
            }
            position = position.wrapping_add(1);
        }
        // The last one moves the index past all.
        self.queue.set_next_used(position);
        self.add_used(memory, *last_head, *last_written);
    }

    /// Asks the driver for a notification on its next buffer. `true`: buffers
    /// have come meanwhile, go on popping.
    #[must_use]
    pub fn rearm(&mut self, memory: &GuestMemory) -> bool {
        if self.broken {
            return false;
        }
        match self.queue.enable_notification(memory) {
            Ok(more) => more,
            Err(_) => {
                self.broken = true;
                false
            }
        }
    }

    /// Whether the driver wants an interrupt for what was used since the last
    /// call. Has a side effect: call once per batch.
    #[must_use]
    pub fn needs_signal(&mut self, memory: &GuestMemory) -> bool {
        if self.broken || !self.queue.ready() {
            return false;
        }
        let now = self.queue.next_used();
        let added = now.wrapping_sub(std::mem::replace(&mut self.considered, now));
        // Not the crate's own answer: it counts no chains of
        // `add_used_together`, and knows no flag.
        let ring = self.queue.avail_ring();
        let entries = 2 * u64::from(self.queue.size());
        let event_idx = self.queue.event_idx_enabled();
        let at = ring
            + if event_idx {
                AVAILABLE_RING + entries
            } else {
                0
            };
        // What was used must be seen before the driver's wish is read.
        fence(Ordering::SeqCst);
        let Ok(wish) = memory.load::<u16>(GuestAddress(at), Ordering::Relaxed) else {
            return false;
        };
        let wish = u16::from_le(wish);
        if event_idx {
            now.wrapping_sub(wish).wrapping_sub(1) < added
        } else {
            added > 0 && wish & NO_INTERRUPT == 0
        }
    }

    /// The queue as a plain value.
    #[must_use]
    pub fn save(&self) -> QueueState {
        let state = self.queue.state();
        QueueState {
            size: state.size,
            ready: state.ready,
            descriptors: state.desc_table,
            available: state.avail_ring,
            used: state.used_ring,
            next_available: state.next_avail,
            next_used: state.next_used,
            event_idx: state.event_idx_enabled,
            broken: self.broken,
        }
    }

    /// Takes up a saved value. `None` when no queue of this device can be so.
    pub fn restore(&mut self, state: &QueueState) -> Option<()> {
        let max_size = self.queue.max_size();
        self.queue = Queue::try_from(virtio_queue::QueueState {
            max_size,
            next_avail: state.next_available,
            next_used: state.next_used,
            event_idx_enabled: state.event_idx,
            size: state.size,
            ready: state.ready,
            desc_table: state.descriptors,
            avail_ring: state.available,
            used_ring: state.used,
        })
        .ok()?;
        self.broken = state.broken;
        self.considered = state.next_used;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::testing::Driver;

    fn ring() -> (GuestMemory, Driver, VirtQueue) {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 1 << 20)]).expect("memory");
        let (driver, queue) = Driver::new(&memory, 0x8000, 8);
        (memory, driver, queue)
    }

    #[test]
    fn chains_that_belong_together_come_back_together_across_the_end_of_the_ring() {
        let (memory, mut driver, mut queue) = ring();
        for round in 0..20u32 {
            let heads: Vec<u16> = (0..3)
                .map(|_| driver.offer(&[(0, 16, true)]).expect("room"))
                .collect();
            while queue.pop(&memory).is_some() {}
            let used: Vec<(u16, u32)> = heads.iter().map(|head| (*head, round)).collect();
            queue.add_used_together(&memory, &used);
            let seen: Vec<(u16, u32)> = std::iter::from_fn(|| driver.take_used()).collect();
            assert_eq!(seen, used);
        }
        queue.add_used_together(&memory, &[]);
        assert_eq!(driver.take_used(), None);
    }

    #[test]
    fn the_driver_is_signalled_when_its_wish_was_passed_and_once() {
        let (memory, mut driver, mut queue) = ring();
        let used_event = GuestAddress(0x8000 + 0x2000 + 4 + 2 * 8);
        memory.write_slice(&[2, 0], used_event).expect("inside");
        let mut give = |queue: &mut VirtQueue, count: usize| {
            let used: Vec<(u16, u32)> = (0..count)
                .map(|_| (driver.offer(&[(0, 16, true)]).expect("room"), 0))
                .collect();
            while queue.pop(&memory).is_some() {}
            queue.add_used_together(&memory, &used);
        };
        give(&mut queue, 2);
        assert!(
            !queue.needs_signal(&memory),
            "two of the three that it waits for"
        );
        give(&mut queue, 3);
        assert!(queue.needs_signal(&memory));
        assert!(!queue.needs_signal(&memory));
        queue.ring().set_event_idx(false);
        give(&mut queue, 1);
        assert!(queue.needs_signal(&memory));
        memory
            .write_slice(&[1, 0], GuestAddress(0x8000 + 0x2000))
            .expect("inside");
        give(&mut queue, 1);
        assert!(!queue.needs_signal(&memory), "it has asked for silence");
    }
}
