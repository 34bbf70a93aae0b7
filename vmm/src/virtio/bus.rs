//! The bus of all devices: where each one's registers lie, and its line.

use super::mmio::Transport;
use std::sync::Arc;

/// Bytes of register space per device.
pub const DEVICE_SPACE: u64 = 0x1000;

/// Where the first device's registers lie.
pub const BUS_START: u64 = 0xd000_0000;

/// Interrupt line of the first device.
pub const FIRST_IRQ: u8 = 5;

/// All devices by their place.
#[derive(Debug, Default)]
pub struct MmioBus {
    devices: Vec<Arc<Transport>>,
}

impl MmioBus {
    /// A bus with these devices, in order.
    #[must_use]
    pub fn new(devices: Vec<Arc<Transport>>) -> Self {
        Self { devices }
    }

    /// The devices in order.
    #[must_use]
    pub fn devices(&self) -> &[Arc<Transport>] {
        &self.devices
    }

    fn find(&self, address: u64) -> Option<(&Transport, u64)> {
        let offset = address.checked_sub(BUS_START)?;
        let device = self.devices.get((offset / DEVICE_SPACE) as usize)?;
        Some((device, offset % DEVICE_SPACE))
    }

    /// A vCPU reads. Where nothing is, all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// A vCPU writes.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.find(address) {
            device.write(offset, data);
        }
    }
}

/// What a device looks like on the kernel command line.
#[must_use]
pub fn cmdline(device: usize) -> String {
    format!(
        " virtio_mmio.device=4K@{:#x}:{}",
        BUS_START + device as u64 * DEVICE_SPACE,
        usize::from(FIRST_IRQ) + device
    )
}
