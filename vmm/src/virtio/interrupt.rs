//! A device's interrupt line: the status register of the MMIO transport and
//! the eventfd that KVM turns into an edge on the IOAPIC.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vmm_sys_util::eventfd::EventFd;

/// `InterruptStatus` bit: the device has used buffers.
pub const USED_RING: u32 = 1;

/// `InterruptStatus` bit: the configuration has changed.
pub const CONFIG_CHANGE: u32 = 2;

/// The line of one device. Read and acknowledged by vCPU threads without the
/// device's lock.
#[derive(Debug)]
pub struct Interrupt {
    line: EventFd,
    status: AtomicU32,
    config_generation: AtomicU32,
    count: AtomicU64,
}

impl Interrupt {
    /// A line that fires `line`.
    #[must_use]
    pub fn new(line: EventFd) -> Self {
        Self {
            line,
            status: AtomicU32::new(0),
            config_generation: AtomicU32::new(0),
            count: AtomicU64::new(0),
        }
    }

    /// The eventfd, to be registered as an irqfd (or read by a test).
    #[must_use]
    pub fn line(&self) -> &EventFd {
        &self.line
    }

    /// Tells the driver that buffers were used. Devices call
    /// [`super::Running::signal_used`], which asks first whether it wants it.
    pub fn signal_used(&self) {
        self.signal(USED_RING);
    }

    /// Tells the driver that the configuration space has changed.
    pub fn signal_config(&self) {
        self.config_generation.fetch_add(1, Ordering::AcqRel);
        self.signal(CONFIG_CHANGE);
    }

    fn signal(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::AcqRel);
        self.count.fetch_add(1, Ordering::Relaxed);
        // Fails only when the counter would overflow, and KVM drains it.
        let _ = self.line.write(1);
    }

    /// The `InterruptStatus` register.
    #[must_use]
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    /// The `InterruptACK` register.
    pub fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::AcqRel);
    }

    /// The `ConfigGeneration` register.
    #[must_use]
    pub fn config_generation(&self) -> u32 {
        self.config_generation.load(Ordering::Acquire)
    }

    /// Interrupts raised so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes up the registers of a saved machine. Fires the line again when
    /// something was pending: an edge that the guest has seen already costs it
    /// one look, a lost one hangs it.
    pub fn restore(&self, status: u32, config_generation: u32) {
        self.status.store(status, Ordering::Release);
        self.config_generation
            .store(config_generation, Ordering::Release);
        if status != 0 {
            let _ = self.line.write(1);
        }
    }
}
