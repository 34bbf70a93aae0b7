//! virtio-rng (virtio 1.2, section 5.4): the host's random numbers.

#[cfg(test)]
mod tests;

use super::{
    Again, DeviceError, DeviceKind, EventRegistry, Interest, Running, Token, VirtioDevice,
};
use crate::sys::random;
use vm_memory::{Bytes, GuestAddress};

/// Entries of the one queue.
const QUEUE_SIZE: u16 = 16;

/// Most bytes for one request, whatever its buffers could hold. The guest asks
/// again; a length of its choice never becomes an allocation of ours.
const MAX_REQUEST: usize = 512;

/// Most requests served in one call; then the thread turns to other devices.
const MAX_BATCH: usize = QUEUE_SIZE as usize / 2;

/// The entropy device.
#[derive(Debug, Default)]
pub struct Rng {
    bytes_in: u64,
    again: Again,
}

impl Rng {
    /// A device that has given nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills the writable parts of the next request.
    fn serve(&mut self, running: &mut Running<'_>) -> bool {
        let queue = &mut running.queues[0];
        let Some(chain) = queue.pop(running.memory) else {
            return false;
        };
        let head = chain.head_index();
        let mut written = 0;
        for descriptor in chain.filter(|descriptor| descriptor.is_write_only()) {
            let room = (descriptor.len() as usize).min(MAX_REQUEST - written);
            if room == 0 || !fill(running, descriptor.addr(), room) {
                break;
            }
            written += room;
        }
        self.bytes_in += written as u64;
        running.queues[0].add_used(running.memory, head, written as u32);
        true
    }
}

/// Writes `count` random bytes, at most [`MAX_REQUEST`], to guest memory.
fn fill(running: &Running<'_>, at: GuestAddress, count: usize) -> bool {
    let mut bytes = [0u8; MAX_REQUEST];
    random::fill(&mut bytes[..count]).is_ok()
        && running.memory.write_slice(&bytes[..count], at).is_ok()
}

impl VirtioDevice for Rng {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, _offset: usize, _data: &mut [u8]) {}

    fn activate(&mut self, _running: &mut Running<'_>) -> Result<(), DeviceError> {
        Ok(())
    }

    fn queue_notified(&mut self, running: &mut Running<'_>, index: usize) {
        if index != 0 {
            return;
        }
        for _ in 0..MAX_BATCH {
            if !self.serve(running) && !running.queues[0].rearm(running.memory) {
                return running.signal_used(0);
            }
        }
        running.signal_used(0);
        self.again.ask(running.events);
    }

    fn ready(&mut self, running: &mut Running<'_>, _token: Token, _interest: Interest) {
        self.queue_notified(running, 0);
    }

    fn reset(&mut self, events: &EventRegistry) {
        self.again.reset(events);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("bytes_in", self.bytes_in)]
    }
}
