//! virtio-balloon (virtio 1.2, section 5.5) with free-page reporting: what the
//! guest does not use goes back to the host.

#[cfg(test)]
mod tests;

use super::{
    Again, Chain, DeviceError, DeviceKind, EventRegistry, Interest, Running, Token, VirtioDevice,
};
use crate::memory::GuestMemory;
use crate::sys::balloon::{PAGE, discard};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

/// The driver may take pages back when it runs out (`DEFLATE_ON_OOM`).
const F_DEFLATE_ON_OOM: u32 = 2;

/// Free-page reporting (`REPORTING`).
const F_REPORTING: u32 = 5;

/// Queues. Drivers leave out those of features that are not offered, so that
/// the reporting queue, the fifth of the specification, is the third here.
const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const REPORTING: usize = 2;
const QUEUE_SIZES: [u16; 3] = [16, 16, 32];

/// Most page numbers that are read of one request; the Linux driver sends 256.
const MAX_PAGES: usize = 1024;

/// Most descriptors looked at in one report; the Linux driver sends 32.
const MAX_REPORTED: usize = 64;

/// Most requests served in one call; then the thread turns to other devices.
const MAX_BATCH: usize = 8;

/// The balloon.
#[derive(Debug, Default)]
pub struct Balloon {
    /// `actual` of the configuration space: pages that the driver says it gave.
    actual: u32,
    inflated: u64,
    reported: u64,
    again: Again,
}

impl Balloon {
    /// A balloon that wants no page; only reporting gives memory back.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives back the pages whose numbers a request lists.
    fn inflate(&mut self, memory: &GuestMemory, chain: Chain<'_>) {
        let mut left = MAX_PAGES;
        for descriptor in chain.filter(|descriptor| !descriptor.is_write_only()) {
            let count = (descriptor.len() as usize / 4).min(left);
            left -= count;
            let mut numbers = [0u8; 4 * MAX_PAGES];
            let numbers = &mut numbers[..4 * count];
            if memory.read_slice(numbers, descriptor.addr()).is_err() {
                return;
            }
            for number in numbers.as_chunks::<4>().0 {
                let page = u64::from(u32::from_le_bytes(*number)) * PAGE as u64;
                self.inflated += give_back(memory, GuestAddress(page), PAGE);
            }
        }
    }

    /// Gives back the ranges that a report consists of.
    fn report(&mut self, memory: &GuestMemory, chain: Chain<'_>) {
        for descriptor in chain
            .take(MAX_REPORTED)
            .filter(|descriptor| descriptor.is_write_only())
        {
            self.reported += give_back(memory, descriptor.addr(), descriptor.len() as usize);
        }
    }
}

/// Discards a range of guest memory; what lies outside is passed over.
fn give_back(memory: &GuestMemory, at: GuestAddress, length: usize) -> u64 {
    let pieces = memory.get_slices(at, length);
    let given = pieces
        .map_while(Result::ok)
        .map(|piece| discard(&piece).unwrap_or(0));
    given.sum::<usize>() as u64
}

impl VirtioDevice for Balloon {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Balloon
    }

    fn features(&self) -> u64 {
        1 << F_DEFLATE_ON_OOM | 1 << F_REPORTING
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    /// `num_pages` (always 0), `actual`, and two words of features not offered.
    fn read_config(&self, offset: usize, data: &mut [u8]) {
        let mut space = [0u8; 16];
        space[4..8].copy_from_slice(&self.actual.to_le_bytes());
        for (at, byte) in data.iter_mut().enumerate() {
            *byte = offset
                .checked_add(at)
                .and_then(|at| space.get(at))
                .copied()
                .unwrap_or(0);
        }
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        if let (4, Ok(bytes)) = (offset, data.try_into()) {
            self.actual = u32::from_le_bytes(bytes);
        }
    }

    fn activate(&mut self, _running: &mut Running<'_>) -> Result<(), DeviceError> {
        Ok(())
    }

    fn queue_notified(&mut self, running: &mut Running<'_>, index: usize) {
        for _ in 0..MAX_BATCH {
            let Some(queue) = running.queues.get_mut(index) else {
                return;
            };
            let Some(chain) = queue.pop(running.memory) else {
                if queue.rearm(running.memory) {
                    continue;
                }
                return running.signal_used(index);
            };
            let head = chain.head_index();
            match index {
                INFLATE => self.inflate(running.memory, chain),
                REPORTING => self.report(running.memory, chain),
                // A page taken back comes as zeroes when it is touched.
                _ => debug_assert_eq!(index, DEFLATE),
            }
            running.queues[index].add_used(running.memory, head, 0);
        }
        running.signal_used(index);
        self.again.ask(running.events);
    }

    fn ready(&mut self, running: &mut Running<'_>, _token: Token, _interest: Interest) {
        for index in [INFLATE, DEFLATE, REPORTING] {
            self.queue_notified(running, index);
        }
    }

    fn reset(&mut self, events: &EventRegistry) {
        self.again.reset(events);
        self.actual = 0;
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("inflated_bytes", self.inflated),
            ("reported_bytes", self.reported),
        ]
    }

    fn save(&self) -> serde_json::Value {
        self.actual.into()
    }

    fn restore(
        &mut self,
        running: &mut Running<'_>,
        state: serde_json::Value,
    ) -> Result<(), DeviceError> {
        self.actual = serde_json::from_value(state).map_err(|error| DeviceError::State {
            reason: error.to_string(),
        })?;
        self.activate(running)
    }
}
