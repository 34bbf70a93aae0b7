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

/// A kernel command line with so many devices announced on it: before the word
/// `--`, behind which everything is the init program's.
#[must_use]
pub fn announce(cmdline: &str, devices: usize) -> String {
    let (kernel, init) = cmdline.split_at(kernel_part(cmdline));
    let mut line = kernel.trim().to_owned();
    line.extend((0..devices).map(|device| {
        format!(
            " virtio_mmio.device=4K@{:#x}:{}",
            BUS_START + device as u64 * DEVICE_SPACE,
            usize::from(FIRST_IRQ) + device
        )
    }));
    if !init.is_empty() {
        line.push(' ');
        line.push_str(init.trim_end());
    }
    line.trim_start().to_owned()
}

/// Where the word `--` begins, or the line's length: words end at white space
/// outside of double quotes (kernel: `next_arg` in lib/cmdline.c).
fn kernel_part(cmdline: &str) -> usize {
    let (mut quoted, mut start) = (false, 0);
    for (at, byte) in cmdline.bytes().chain([b' ']).enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            _ if byte.is_ascii_whitespace() && !quoted => {
                if &cmdline[start..at] == "--" {
                    return start;
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    cmdline.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_announced_to_the_kernel_and_not_to_init() {
        let one = "virtio_mmio.device=4K@0xd0000000:5";
        let two = format!("{one} virtio_mmio.device=4K@0xd0001000:6");
        for (cmdline, devices, wanted) in [
            ("", 1, one.to_owned()),
            (" quiet ", 2, format!("quiet {two}")),
            ("quiet -- -v", 2, format!("quiet {two} -- -v")),
            ("quiet --", 1, format!("quiet {one} --")),
            ("-- a -- b ", 1, format!("{one} -- a -- b")),
            ("a=\"x -- y\" b", 1, format!("a=\"x -- y\" b {one}")),
            ("--a b--", 1, format!("--a b-- {one}")),
            ("quiet", 0, "quiet".to_owned()),
        ] {
            assert_eq!(announce(cmdline, devices), wanted, "{cmdline:?}");
        }
    }
}
