//! One virtqueue: the split ring of `virtio-queue` with what every device does
//! around it.

use crate::memory::GuestMemory;
use serde::{Deserialize, Serialize};
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};

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

    /// Tells the driver not to notify (without EVENT_IDX; with it, a driver
    /// is silent by itself between two [`VirtQueue::rearm`]).
    pub fn disarm(&mut self, memory: &GuestMemory) {
        if self.queue.disable_notification(memory).is_err() {
            self.broken = true;
        }
    }

    /// Whether the driver wants an interrupt for what was used since the last
    /// call. Has a side effect: call once per batch.
    #[must_use]
    pub fn needs_signal(&mut self, memory: &GuestMemory) -> bool {
        !self.broken && self.queue.ready() && self.queue.needs_notification(memory).unwrap_or(false)
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
        Some(())
    }
}
