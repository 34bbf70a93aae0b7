//! virtio 1.2 devices on the MMIO transport.
//!
//! ```text
//!  vCPU thread ── register access ──► mmio::Transport ──┐  one lock per device
//!  main/block thread ── epoll ──────► mmio::Transport ──┤
//!                                                       ▼
//!                       VirtioDevice::{activate, queue_notified, ready, control, …}
//!                                   with a Running { memory, queues, interrupt, events }
//! ```
//!
//! The transport owns registers, status machine, feature negotiation and the
//! queues; a [`VirtioDevice`] owns what makes the device that device. Every
//! call into a device is made with the device's lock held and borrows the
//! queues for its time, so that a device keeps no memory, queue or lock of its
//! own and a test needs nothing but plain memory and a [`Running`].
//!
//! A device runs on one of the two event threads (`main`: vsock, net, fs, rng,
//! balloon; `block`: all disks). `activate`, `reset` and `write_config` come
//! from a vCPU thread, `control` from `main`; the lock makes them one at a time.
//!
//! **Hostile guests.** Descriptor addresses and lengths are the guest's. The
//! queue walk bounds the number of descriptors of a chain by the queue's size
//! (or its indirect table's) and the total to 4 GiB; memory access through
//! `vm-memory` checks the range. What a device has still to do: never allocate
//! by a guest's number, read each descriptor once, and bound the work of one
//! call (see [`VirtQueue::pop`]).

pub mod again;
pub mod balloon;
pub mod block;
pub mod buffer;
pub mod bus;
pub mod events;
pub mod fs;
pub mod interrupt;
pub mod mmio;
pub mod net;
pub mod outgoing;
pub mod queue;
pub mod rate;
pub mod rng;
#[cfg(test)]
pub mod testing;
pub mod vsock;

pub use again::Again;
pub use events::{EventRegistry, Interest, Token};
pub use interrupt::Interrupt;
pub use outgoing::{Outgoing, Place, Places};
pub use queue::{Chain, QueueState, VirtQueue};

use crate::memory::GuestMemory;
use std::os::fd::OwnedFd;

/// What the devices of one VM have in common with the virtio specification's
/// device IDs (section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum DeviceKind {
    /// Network card.
    Net = 1,
    /// Block device.
    Block = 2,
    /// Entropy source.
    Rng = 4,
    /// Memory balloon.
    Balloon = 5,
    /// Sockets.
    Vsock = 19,
    /// Shared directory.
    Fs = 26,
}

impl DeviceKind {
    /// Name in messages, counters and thread lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Block => "block",
            Self::Rng => "rng",
            Self::Balloon => "balloon",
            Self::Vsock => "vsock",
            Self::Fs => "fs",
        }
    }
}

/// All that a device may touch while one of its methods runs.
#[derive(Debug)]
pub struct Running<'a> {
    /// The guest's memory.
    pub memory: &'a GuestMemory,
    /// The device's queues, by index. All have been validated against memory.
    pub queues: &'a mut [VirtQueue],
    /// Feature bits that the driver accepted.
    pub features: u64,
    /// The device's interrupt line.
    pub interrupt: &'a Interrupt,
    /// Where the device watches its own descriptors.
    pub events: &'a EventRegistry,
}

impl Running<'_> {
    /// Whether the driver accepted feature bit number `bit`.
    #[must_use]
    pub fn has_feature(&self, bit: u32) -> bool {
        self.features & (1 << bit) != 0
    }

    /// Interrupts the guest if queue `index` has used buffers that it wants to
    /// hear of. Call once after a batch.
    pub fn signal_used(&mut self, index: usize) {
        if let Some(queue) = self.queues.get_mut(index)
            && queue.needs_signal(self.memory)
        {
            self.interrupt.signal_used();
        }
    }
}

/// What a supervisor asks of a device while it runs.
#[derive(Debug)]
pub enum DeviceCall {
    /// Disk: append pieces of files; the files are open already.
    Grow(Vec<block::FileExtent>),
    /// vsock: a supervisor is there (again): guest connections may be opened.
    SupervisorArrived,
    /// vsock: the supervisor is gone: reset every stream.
    SupervisorGone,
    /// vsock: open a stream to a port of the guest. The answer is the
    /// supervisor's end, which may be used at once: what is written before the
    /// guest accepts is delivered then, and it reads end of file when the
    /// guest refuses.
    ConnectVsock {
        /// The guest's port.
        port: u32,
    },
}

/// What comes of a [`DeviceCall`].
#[derive(Debug)]
pub enum DeviceAnswer {
    /// Done.
    Done,
    /// The supervisor's end of a new stream.
    Stream(OwnedFd),
}

/// Why a device could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The call is for another kind of device.
    #[error("a {kind} device does not understand this call", kind = .0.name())]
    NotThisKind(DeviceKind),
    /// The guest's driver does not run the device (yet).
    #[error("the guest does not run this {kind} device", kind = .0.name())]
    NotActive(DeviceKind),
    /// A limit of the device is reached.
    #[error("the device has reached its limit: {limit}")]
    Limit {
        /// Which, with the number.
        limit: String,
    },
    /// What was asked makes no sense.
    #[error("{reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
    /// The host refused a system call.
    #[error("the host refused to {action}")]
    Host {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A saved state does not fit this device.
    #[error("the saved state does not fit this device: {reason}")]
    State {
        /// Why.
        reason: String,
    },
}

/// A device that a [`mmio::Transport`] carries.
///
/// Life: `new → activate → (queue_notified | ready | control | write_config)* →
/// reset → activate …`. `queue_notified` and `ready` come only between
/// `activate` and `reset`; `control` and the rest may come at any time: a
/// device that cannot serve a call before it is active answers
/// [`DeviceError::NotActive`].
pub trait VirtioDevice: Send {
    /// Which device it is.
    fn kind(&self) -> DeviceKind;

    /// Feature bits of the device itself that it offers. The transport adds
    /// `VIRTIO_F_VERSION_1`, `VIRTIO_RING_F_EVENT_IDX` and
    /// `VIRTIO_RING_F_INDIRECT_DESC`, and refuses a driver without the first.
    fn features(&self) -> u64;

    /// Largest size of each queue, a power of two; the length is the number
    /// of queues.
    fn queue_max_sizes(&self) -> &[u16];

    /// Reads the device's configuration space. Bytes beyond its end read as 0;
    /// `data` is zeroed before.
    fn read_config(&self, offset: usize, data: &mut [u8]);

    /// Writes the device's configuration space. Most devices ignore it.
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        let _ = (offset, data);
    }

    /// The driver has set DRIVER_OK: queues are valid, features final. Register
    /// own descriptors here. On an error the transport sets DEVICE_NEEDS_RESET.
    fn activate(&mut self, running: &mut Running<'_>) -> Result<(), DeviceError>;

    /// The driver has made buffers of queue `index` available. Process until
    /// [`VirtQueue::rearm`] says that there is nothing more, then
    /// [`Running::signal_used`].
    fn queue_notified(&mut self, running: &mut Running<'_>, index: usize);

    /// A descriptor registered under `token` is ready.
    fn ready(&mut self, running: &mut Running<'_>, token: Token, interest: Interest) {
        let _ = (running, token, interest);
    }

    /// A supervisor's wish.
    fn control(
        &mut self,
        running: &mut Running<'_>,
        call: DeviceCall,
    ) -> Result<DeviceAnswer, DeviceError> {
        let _ = (running, call);
        Err(DeviceError::NotThisKind(self.kind()))
    }

    /// The driver wrote 0 to the status register: forget everything of the
    /// guest's and unregister descriptors. Requests under way are finished or
    /// dropped before it returns; guest memory is not touched afterwards.
    fn reset(&mut self, events: &EventRegistry);

    /// Messages for the supervisor that came up since the last call (a stream
    /// the guest opened, a stalled disk), each with the descriptor that goes
    /// with it. Asked after every batch of events of the thread.
    fn take_messages(&mut self) -> Vec<Outgoing> {
        Vec::new()
    }

    /// Counters for the status reply (`bytes_in`, `bytes_out`, …). The
    /// transport adds `interrupts` and `notifications`.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// The device's own state as a plain value; registers and queues are the
    /// transport's. Called while vCPUs are paused and no event is processed.
    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Takes up a state that [`VirtioDevice::save`] gave on a device made from
    /// the same configuration. Comes in place of `activate` when the device
    /// was active (`running.queues` are ready then) and otherwise not at all.
    fn restore(
        &mut self,
        running: &mut Running<'_>,
        state: serde_json::Value,
    ) -> Result<(), DeviceError> {
        let _ = state;
        self.activate(running)
    }
}
