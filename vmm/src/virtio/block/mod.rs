//! virtio-blk (virtio 1.2, section 5.2) over pieces of files.
//!
//! Requests are done one after another on the `block` thread, straight between
//! the files and guest memory. A write for which the host has no space is not
//! answered: the disk waits, tells the supervisor, and tries again.

mod extents;
mod request;
#[cfg(test)]
mod tests;

pub use extents::{ExtentError, Extents, FileExtent};

use super::Outgoing;
use super::rate::Gate;
use super::{DeviceAnswer, DeviceCall, DeviceError, DeviceKind, EventRegistry, Interest};
use super::{Running, Token, VirtioDevice};
use crate::sys::process::Timer;
use beluga_proto::ControlMessage;
use beluga_proto::vm::Rate;
use request::{DISCARD_ALIGN, Outcome, RANGE_SECTORS_MAX, RANGES_MAX, Rights, SECTOR, SEG_MAX};
use serde::{Deserialize, Serialize};
use std::os::fd::AsRawFd;
use std::time::Duration;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_WRITE_ZEROES,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// How often a disk that waits for space tries again.
const RETRY: Duration = Duration::from_millis(100);

/// The timer of the retry.
const RETRY_TOKEN: Token = Token(0);

const QUEUE_SIZES: [u16; 1] = [128];

/// A turn ended with requests left over.
const AGAIN_TOKEN: Token = Token(1);

/// What was carried is paid for.
const PAID_TOKEN: Token = Token(2);

/// Requests of one turn; then other disks of the thread have theirs.
const TURN: usize = 64;

/// Bytes of the configuration space up to write-zeroes.
const CONFIG_BYTES: usize = 60;

/// What a disk is made from.
#[derive(Debug)]
pub struct BlockConfig {
    /// Name for the supervisor, and the serial.
    pub id: String,
    /// The guest may not write.
    pub read_only: bool,
    /// Offer discard and write-zeroes.
    pub discard: bool,
    /// Offer flush.
    pub flush: bool,
}

/// A disk.
#[derive(Debug)]
pub struct Block {
    id: String,
    extents: Extents,
    rights: Rights,
    /// While it is there, the first request of the queue waits for space.
    stalled: Option<Timer>,
    /// Wakes the disk for its next turn.
    again: EventFd,
    /// For the supervisor.
    messages: Vec<ControlMessage>,
    requests: u64,
    /// How much it may carry.
    gate: Option<Gate>,
}

/// A disk as a plain value: its files come from the configuration.
#[derive(Debug, Serialize, Deserialize)]
struct BlockState {
    size: u64,
}

impl Block {
    /// A disk without content.
    pub fn new(config: BlockConfig) -> Result<Self, DeviceError> {
        let again = EventFd::new(EFD_NONBLOCK).map_err(|source| DeviceError::Host {
            action: "make an eventfd",
            source,
        })?;
        let mut serial = [0; _];
        for (to, from) in serial.iter_mut().zip(config.id.bytes()) {
            *to = from;
        }
        Ok(Self {
            id: config.id,
            extents: Extents::default(),
            rights: Rights {
                read_only: config.read_only,
                discard: config.discard && !config.read_only,
                flush: config.flush && !config.read_only,
                serial,
            },
            stalled: None,
            again,
            messages: Vec::new(),
            requests: 0,
            gate: None,
        })
    }

    /// Appends pieces; all or, on an error, the ones before the bad one.
    pub fn append(&mut self, extents: Vec<FileExtent>) -> Result<(), ExtentError> {
        extents
            .into_iter()
            .try_for_each(|extent| self.extents.push(extent))
    }

    /// Limits what the disk carries.
    pub fn limit(&mut self, rate: &Rate) -> Result<(), DeviceError> {
        let gate = Gate::new(rate).map_err(|source| DeviceError::Host {
            action: "make a timer",
            source,
        })?;
        self.gate = Some(gate);
        Ok(())
    }

    fn serve_queue(&mut self, running: &mut Running<'_>) {
        for _ in 0..TURN {
            if self.gate.as_mut().is_some_and(Gate::holds) {
                return running.signal_used(0);
            }
            let Some(chain) = running.queues[0].pop(running.memory) else {
                if running.queues[0].rearm(running.memory) {
                    continue;
                }
                return running.signal_used(0);
            };
            let head = chain.head_index();
            match request::serve(running.memory, chain, &self.extents, &self.rights) {
                Outcome::Done { written, moved } => {
                    self.requests += 1;
                    if let Some(gate) = &mut self.gate {
                        gate.passed(moved);
                    }
                    running.queues[0].add_used(running.memory, head, written);
                }
                Outcome::NoSpace => {
                    running.queues[0].undo_pop();
                    self.stall(running.events);
                    return running.signal_used(0);
                }
            }
        }
        running.signal_used(0);
        // The queue is not rearmed: nothing else would wake this disk.
        let _ = self.again.write(1);
    }

    fn stall(&mut self, events: &EventRegistry) {
        let timer = Timer::new().and_then(|timer| {
            timer.set(RETRY)?;
            events.add(timer.as_raw_fd(), RETRY_TOKEN, Interest::IN)?;
            Ok(timer)
        });
        match timer {
            Ok(timer) => self.stalled = Some(timer),
            // Without a timer nothing would wake the disk but its guest's next
            // request: that must do.
            Err(error) => crate::log::line(format_args!(
                "disk {}: cannot set a timer: {error}",
                self.id
            )),
        }
        self.report(true);
    }

    fn end_stall(&mut self, events: &EventRegistry) -> bool {
        match self.stalled.take() {
            Some(timer) => {
                events.remove(timer.as_raw_fd());
                true
            }
            None => false,
        }
    }

    fn report(&mut self, stalled: bool) {
        self.messages.push(ControlMessage::DiskStalled {
            disk: self.id.clone(),
            stalled,
        });
    }

    fn config(&self) -> [u8; CONFIG_BYTES] {
        let mut config = [0; CONFIG_BYTES];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(self.extents.size() / SECTOR).to_le_bytes());
        put(12, &SEG_MAX.to_le_bytes());
        if self.rights.discard {
            put(36, &RANGE_SECTORS_MAX.to_le_bytes());
            put(40, &RANGES_MAX.to_le_bytes());
            put(44, &DISCARD_ALIGN.to_le_bytes());
            put(48, &RANGE_SECTORS_MAX.to_le_bytes());
            put(52, &RANGES_MAX.to_le_bytes());
            // Write-zeroes may unmap.
            put(56, &[1]);
        }
        config
    }
}

impl VirtioDevice for Block {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Block
    }

    fn features(&self) -> u64 {
        let bit = |on: bool, bit: u32| u64::from(on) << bit;
        bit(true, VIRTIO_BLK_F_SEG_MAX)
            | bit(self.rights.read_only, VIRTIO_BLK_F_RO)
            | bit(self.rights.flush, VIRTIO_BLK_F_FLUSH)
            | bit(self.rights.discard, VIRTIO_BLK_F_DISCARD)
            | bit(self.rights.discard, VIRTIO_BLK_F_WRITE_ZEROES)
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        let config = self.config();
        let from = config.get(offset..).unwrap_or(&[]);
        for (to, from) in data.iter_mut().zip(from) {
            *to = *from;
        }
    }

    fn activate(&mut self, running: &mut Running<'_>) -> Result<(), DeviceError> {
        if let Some(gate) = &self.gate {
            let added = running
                .events
                .add(gate.as_raw_fd(), PAID_TOKEN, Interest::IN);
            added.map_err(|source| DeviceError::Host {
                action: "watch a timer",
                source,
            })?;
        }
        running
            .events
            .add(
                self.again.as_raw_fd(),
                AGAIN_TOKEN,
                Interest::IN | Interest::EDGE_TRIGGERED,
            )
            .map_err(|source| DeviceError::Host {
                action: "watch an eventfd",
                source,
            })
    }

    fn queue_notified(&mut self, running: &mut Running<'_>, _index: usize) {
        if self.stalled.is_none() {
            self.serve_queue(running);
        }
    }

    fn ready(&mut self, running: &mut Running<'_>, token: Token, _interest: Interest) {
        if token == PAID_TOKEN
            && let Some(gate) = &self.gate
        {
            gate.ask_again();
        }
        if matches!(token, AGAIN_TOKEN | PAID_TOKEN) && self.stalled.is_none() {
            self.serve_queue(running);
        }
        if token == RETRY_TOKEN && self.end_stall(running.events) {
            let before = self.messages.len();
            self.serve_queue(running);
            if self.stalled.is_some() {
                // Still no space: that has been told already.
                self.messages.truncate(before);
            } else {
                self.report(false);
            }
        }
    }

    fn control(
        &mut self,
        running: &mut Running<'_>,
        call: DeviceCall,
    ) -> Result<DeviceAnswer, DeviceError> {
        let DeviceCall::Grow(extents) = call else {
            return Err(DeviceError::NotThisKind(DeviceKind::Block));
        };
        self.append(extents).map_err(|error| DeviceError::Invalid {
            reason: error.to_string(),
        })?;
        running.interrupt.signal_config();
        Ok(DeviceAnswer::Done)
    }

    fn reset(&mut self, events: &EventRegistry) {
        events.remove(self.again.as_raw_fd());
        if let Some(gate) = &self.gate {
            events.remove(gate.as_raw_fd());
        }
        if self.end_stall(events) {
            self.report(false);
        }
    }

    fn take_messages(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.messages)
            .into_iter()
            .map(Outgoing::from)
            .collect()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            // A supervisor that takes over learns from it what has been appended.
            ("size", self.extents.size()),
            ("requests", self.requests),
            ("stalled", u64::from(self.stalled.is_some())),
        ]
    }

    fn save(&self) -> serde_json::Value {
        serde_json::json!(BlockState {
            size: self.extents.size()
        })
    }

    fn restore(
        &mut self,
        running: &mut Running<'_>,
        state: serde_json::Value,
    ) -> Result<(), DeviceError> {
        let reason = match serde_json::from_value::<BlockState>(state) {
            Ok(state) if state.size <= self.extents.size() => return self.activate(running),
            Ok(state) => format!(
                "it had {} bytes and its files have {}",
                state.size,
                self.extents.size()
            ),
            Err(error) => error.to_string(),
        };
        Err(DeviceError::State { reason })
    }
}
