//! The MMIO transport (virtio 1.2, section 4.2): registers, status machine,
//! feature negotiation and queues of one device.
//!
//! ```text
//!        ┌──────────────────────── write 0 ─────────────────────────┐
//!        ▼                                                          │
//!  Reset ──► ACKNOWLEDGE ──► DRIVER ──► FEATURES_OK ──► DRIVER_OK ──┤
//!                              │ features      │ queues     │ device runs
//!                              └── bad ones: FEATURES_OK stays 0    │
//!        any ──► FAILED (driver)       DRIVER_OK ──► DEVICE_NEEDS_RESET
//! ```
//!
//! A write that the state does not allow is ignored, as is any other access
//! that makes no sense: a guest can only harm itself.
//!
//! Longer than other files on purpose: reading, writing and the status machine
//! are one register map.

use super::Outgoing;
use super::events::{EventRegistry, Interest, Token};
use super::{DeviceAnswer, DeviceCall, DeviceError, Interrupt, QueueState, Running};
use super::{VirtQueue, VirtioDevice};
use crate::memory::GuestMemory;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::QueueT as _;

/// Register whose write is a queue's notification.
pub const QUEUE_NOTIFY: u64 = 0x50;

const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// Vendor ID: "BLGA".
const VENDOR: u32 = 0x4147_4c42;
const CONFIG_SPACE: u64 = 0x100;

const ACKNOWLEDGE: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE;
const DRIVER: u32 = ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
const FEATURES_OK: u32 = DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
const DRIVER_OK: u32 = FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;

/// What every device offers.
const COMMON_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// One device at its place on the bus.
pub struct Transport {
    name: String,
    memory: GuestMemory,
    interrupt: Arc<Interrupt>,
    events: EventRegistry,
    state: Mutex<State>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("name", &self.name)
            .finish()
    }
}

struct State {
    registers: Registers,
    queues: Vec<VirtQueue>,
    device: Box<dyn VirtioDevice>,
    notifications: u64,
    /// While a saved value is taken, nothing moves.
    frozen: bool,
}

/// The transport's registers as a plain value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Registers {
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
}

/// A device with its transport as a plain value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransportState {
    name: String,
    registers: Registers,
    interrupt_status: u32,
    config_generation: u32,
    queues: Vec<QueueState>,
    device: serde_json::Value,
}

impl Transport {
    /// Carries `device` under `name`.
    #[must_use]
    pub fn new(
        name: String,
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        interrupt: Arc<Interrupt>,
        events: EventRegistry,
    ) -> Self {
        let queues = device
            .queue_max_sizes()
            .iter()
            .map(|size| VirtQueue::new(*size))
            .collect();
        Self {
            name,
            memory,
            interrupt,
            events,
            state: Mutex::new(State {
                registers: Registers::default(),
                queues,
                device,
                notifications: 0,
                frozen: false,
            }),
        }
    }

    /// Name in messages and counters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interrupt line.
    #[must_use]
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// How many queues the device has.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.lock().queues.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Splits the state into the device and what it may touch.
    fn with_device<T>(
        &self,
        state: &mut State,
        call: impl FnOnce(&mut dyn VirtioDevice, &mut Running<'_>) -> T,
    ) -> T {
        let mut running = Running {
            memory: &self.memory,
            queues: &mut state.queues,
            features: state.registers.driver_features,
            interrupt: &self.interrupt,
            events: &self.events,
        };
        call(&mut *state.device, &mut running)
    }

    /// The driver reads a register or the configuration space.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if offset >= CONFIG_SPACE {
            let offset = (offset - CONFIG_SPACE) as usize;
            self.lock().device.read_config(offset, data);
        } else if offset.is_multiple_of(4)
            && let Ok(word) = <&mut [u8; 4]>::try_from(data)
        {
            *word = self.read_register(offset).to_le_bytes();
        }
    }

    fn read_register(&self, offset: u64) -> u32 {
        // Asked at every interrupt: without the device's lock.
        match offset {
            0x60 => return self.interrupt.status(),
            0xfc => return self.interrupt.config_generation(),
            _ => {}
        }
        let state = self.lock();
        let registers = &state.registers;
        let queue = state.queues.get(registers.queue_select as usize);
        match offset {
            0x00 => MAGIC,
            0x04 => VERSION,
            0x08 => state.device.kind() as u32,
            0x0c => VENDOR,
            0x10 => {
                let offered = state.device.features() | COMMON_FEATURES;
                match registers.device_features_select {
                    0 => offered as u32,
                    1 => (offered >> 32) as u32,
                    _ => 0,
                }
            }
            0x34 => queue.map_or(0, |queue| u32::from(queue.max_size())),
            0x44 => queue.map_or(0, |queue| u32::from(queue.is_ready())),
            0x70 => registers.status,
            // No shared memory: its length reads as all ones.
            0xb0 | 0xb4 => u32::MAX,
            _ => 0,
        }
    }

    /// The driver writes a register or the configuration space.
    pub fn write(&self, offset: u64, data: &[u8]) {
        if offset >= CONFIG_SPACE {
            let offset = (offset - CONFIG_SPACE) as usize;
            self.lock().device.write_config(offset, data);
        } else if offset.is_multiple_of(4)
            && let Ok(word) = <[u8; 4]>::try_from(data)
        {
            self.write_register(offset, u32::from_le_bytes(word));
        }
    }

    fn write_register(&self, offset: u64, value: u32) {
        match offset {
            0x64 => return self.interrupt.acknowledge(value),
            // KVM takes these as an eventfd; here they come without one.
            QUEUE_NOTIFY => return self.queue_notified(value as usize),
            _ => {}
        }
        let mut state = self.lock();
        match offset {
            0x14 => state.registers.device_features_select = value,
            0x20 if state.registers.status == DRIVER => state.registers.set_features(value),
            0x24 => state.registers.driver_features_select = value,
            0x30 => state.registers.queue_select = value,
            0x70 => self.set_status(&mut state, value),
            _ if state.registers.status == FEATURES_OK => self.set_queue(&mut state, offset, value),
            _ => {}
        }
    }

    fn set_queue(&self, state: &mut State, offset: u64, value: u32) {
        let event_idx = state.registers.driver_features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let select = state.registers.queue_select as usize;
        let Some(queue) = state.queues.get_mut(select) else {
            return;
        };
        let ring = queue.ring();
        match offset {
            0x44 => {
                ring.set_event_idx(event_idx);
                ring.set_ready(value == 1);
                if value == 1 && !queue.is_valid(&self.memory) {
                    queue.ring().set_ready(false);
                }
            }
            // Addresses and size are fixed while the queue is ready.
            _ if ring.ready() => {}
            0x38 => ring.set_size(u16::try_from(value).unwrap_or(0)),
            0x80 => ring.set_desc_table_address(Some(value), None),
            0x84 => ring.set_desc_table_address(None, Some(value)),
            0x90 => ring.set_avail_ring_address(Some(value), None),
            0x94 => ring.set_avail_ring_address(None, Some(value)),
            0xa0 => ring.set_used_ring_address(Some(value), None),
            0xa4 => ring.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    fn set_status(&self, state: &mut State, value: u32) {
        let status = state.registers.status;
        match value {
            0 => self.reset(state),
            _ if value & VIRTIO_CONFIG_S_FAILED != 0 => {
                state.registers.status |= VIRTIO_CONFIG_S_FAILED;
            }
            ACKNOWLEDGE if status == 0 => state.registers.status = value,
            DRIVER if status == ACKNOWLEDGE => state.registers.status = value,
            FEATURES_OK if status == DRIVER => {
                let wanted = state.registers.driver_features;
                let offered = state.device.features() | COMMON_FEATURES;
                if wanted & !offered == 0 && wanted & 1 << VIRTIO_F_VERSION_1 != 0 {
                    state.registers.status = value;
                }
            }
            DRIVER_OK if status == FEATURES_OK => {
                state.registers.status = value;
                if let Err(error) =
                    self.with_device(state, |device, running| device.activate(running))
                {
                    self.fail(state, &error);
                }
            }
            _ => {}
        }
    }

    fn fail(&self, state: &mut State, error: &DeviceError) {
        crate::log::line(format_args!(
            "device {}: {}",
            self.name,
            crate::exit::chain(error)
        ));
        state.registers.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
        self.interrupt.signal_config();
    }

    fn reset(&self, state: &mut State) {
        if state.registers.status & VIRTIO_CONFIG_S_DRIVER_OK != 0 {
            state.device.reset(&self.events);
        }
        state.registers = Registers::default();
        state.queues.iter_mut().for_each(VirtQueue::reset);
        self.interrupt.acknowledge(u32::MAX);
    }

    /// The driver has notified queue `index`.
    pub fn queue_notified(&self, index: usize) {
        let mut state = self.lock();
        if state.may_move() && state.queues.get(index).is_some_and(VirtQueue::is_ready) {
            state.notifications += 1;
            self.with_device(&mut state, |device, running| {
                device.queue_notified(running, index);
            });
        }
    }

    /// A descriptor that the device watches is ready.
    pub fn ready(&self, token: Token, interest: Interest) {
        let mut state = self.lock();
        if state.may_move() {
            self.with_device(&mut state, |device, running| {
                device.ready(running, token, interest);
            });
        }
    }

    /// A supervisor's wish. A device that the guest has not brought up can be
    /// grown, and told of supervisors; the device decides.
    pub fn control(&self, call: DeviceCall) -> Result<DeviceAnswer, DeviceError> {
        let mut state = self.lock();
        self.with_device(&mut state, |device, running| device.control(running, call))
    }

    /// Whether the guest's driver runs the device.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.lock().registers.is_running()
    }

    /// What the device has to tell the supervisor.
    pub fn take_messages(&self) -> Vec<Outgoing> {
        self.lock().device.take_messages()
    }

    /// Counters of the device and of its transport.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let state = self.lock();
        let mut counters: BTreeMap<String, u64> = state
            .device
            .counters()
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        counters.insert("interrupts".to_owned(), self.interrupt.count());
        counters.insert("notifications".to_owned(), state.notifications);
        let ready = state.queues.iter().filter(|queue| queue.is_ready());
        counters.insert("queues".to_owned(), ready.count() as u64);
        counters
    }

    /// Stops the device where it stands and takes its value. The machine is
    /// paused. [`Transport::thaw`] lets it go on.
    #[must_use]
    pub fn save(&self) -> TransportState {
        let mut state = self.lock();
        state.frozen = true;
        TransportState {
            name: self.name.clone(),
            registers: state.registers,
            interrupt_status: self.interrupt.status(),
            config_generation: self.interrupt.config_generation(),
            queues: state.queues.iter().map(VirtQueue::save).collect(),
            device: state.device.save(),
        }
    }

    /// Goes on after [`Transport::save`].
    pub fn thaw(&self) {
        let mut state = self.lock();
        state.frozen = false;
        self.kick(&mut state);
    }

    /// Takes up a saved value on a device as it was made. The vCPUs do not
    /// run yet.
    pub fn restore(&self, saved: TransportState) -> Result<(), DeviceError> {
        let misfit = |reason: &str| DeviceError::State {
            reason: format!(
                "{reason} (saved of {}, restored as {})",
                saved.name, self.name
            ),
        };
        let mut state = self.lock();
        let offered = state.device.features() | COMMON_FEATURES;
        if saved.name != self.name || saved.queues.len() != state.queues.len() {
            return Err(misfit("another device"));
        }
        if saved.registers.driver_features & !offered != 0 {
            return Err(misfit("features that are not offered"));
        }
        for (queue, saved_queue) in state.queues.iter_mut().zip(&saved.queues) {
            let restored = queue.restore(saved_queue).is_some();
            if !restored || queue.is_ready() && !queue.is_valid(&self.memory) {
                return Err(misfit("a queue outside of memory"));
            }
        }
        state.registers = saved.registers;
        if state.registers.is_running() {
            self.with_device(&mut state, |device, running| {
                device.restore(running, saved.device)
            })?;
        }
        self.interrupt
            .restore(saved.interrupt_status, saved.config_generation);
        self.kick(&mut state);
        Ok(())
    }

    /// A notification may have come while nobody listened: looks at all queues.
    fn kick(&self, state: &mut State) {
        if !state.may_move() {
            return;
        }
        for index in 0..state.queues.len() {
            if state.queues[index].is_ready() {
                self.with_device(state, |device, running| {
                    device.queue_notified(running, index);
                });
            }
        }
    }
}

impl State {
    fn may_move(&self) -> bool {
        !self.frozen && self.registers.is_running()
    }
}

impl Registers {
    fn is_running(&self) -> bool {
        self.status == DRIVER_OK
    }

    fn set_features(&mut self, value: u32) {
        let value = u64::from(value);
        match self.driver_features_select {
            0 => self.driver_features = self.driver_features & !0xffff_ffff | value,
            1 => self.driver_features = self.driver_features & 0xffff_ffff | value << 32,
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "mmio_tests.rs"]
mod tests;
