//! The devices of a configuration, and their places on the bus.

use super::MachineError;
use super::error::{host, kvm};
use crate::config::{ConfigError, Descriptors};
use crate::event_loop;
use crate::memory::GuestMemory;
use crate::virtio::block::{Block, BlockConfig, FileExtent};
use crate::virtio::bus::{BUS_START, DEVICE_SPACE, FIRST_IRQ};
use crate::virtio::mmio::{QUEUE_NOTIFY, Transport};
use crate::virtio::{DeviceError, EventRegistry, Interrupt, VirtioDevice};
use crate::virtio::{balloon::Balloon, fs::Fs, net::Net, rng::Rng, vsock::Vsock};
use beluga_proto::VmConfig;
use kvm_ioctls::{IoEventAddress, VmFd};
use std::sync::Arc;
use vmm_sys_util::epoll::Epoll;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// A device and its name.
pub(super) type Named = (String, Box<dyn VirtioDevice>);

/// All devices in the order in which they lie on the bus.
pub(super) fn make_devices(
    config: &VmConfig,
    descriptors: &mut Descriptors,
) -> Result<Vec<Named>, MachineError> {
    let wrap = |name: &str| {
        let name = name.to_owned();
        move |source| MachineError::Device { name, source }
    };
    let mut devices: Vec<Named> = Vec::new();
    for disk in &config.disks {
        let mut block = Block::new(BlockConfig {
            id: disk.id.clone(),
            read_only: disk.read_only,
            discard: disk.discard,
            flush: disk.flush,
        })
        .map_err(wrap(&disk.id))?;
        let extents = disk
            .extents
            .iter()
            .map(|extent| {
                Ok(FileExtent {
                    file: descriptors.shared(disk, extent.fd)?,
                    offset: extent.offset,
                    length: extent.length,
                })
            })
            .collect::<Result<_, ConfigError>>()?;
        block.append(extents).map_err(|error| {
            wrap(&disk.id)(DeviceError::Invalid {
                reason: error.to_string(),
            })
        })?;
        if let Some(rate) = &disk.rate {
            block.limit(rate).map_err(wrap(&disk.id))?;
        }
        devices.push((disk.id.clone(), Box::new(block)));
    }
    for net in &config.nets {
        let tap = descriptors.take("a tap", net.tap)?;
        let mut device = Net::new(tap, net.mac, net.mtu).map_err(wrap(&net.id))?;
        if let Some(limits) = &net.limits {
            device.limit(limits).map_err(wrap(&net.id))?;
        }
        devices.push((net.id.clone(), Box::new(device)));
    }
    for share in &config.shares {
        let server = descriptors.take("a share's server", share.server)?;
        let device = Fs::new(&share.tag, server).map_err(wrap(&share.tag))?;
        devices.push((share.tag.clone(), Box::new(device)));
    }
    if let Some(vsock) = &config.vsock {
        let device = Vsock::new(u64::from(vsock.guest_cid)).map_err(wrap("vsock"))?;
        devices.push(("vsock".to_owned(), Box::new(device)));
    }
    if config.rng {
        devices.push(("rng".to_owned(), Box::new(Rng::new())));
    }
    if config.balloon {
        devices.push(("balloon".to_owned(), Box::new(Balloon::new())));
    }
    Ok(devices)
}

/// Puts a device on the bus: registers, interrupt line, queue notifications.
pub(super) fn attach(
    vm: &VmFd,
    memory: &GuestMemory,
    epoll: &Arc<Epoll>,
    index: usize,
    name: String,
    device: Box<dyn VirtioDevice>,
) -> Result<(Arc<Transport>, Vec<EventFd>), MachineError> {
    let eventfd = || EventFd::new(EFD_NONBLOCK).map_err(host("make an eventfd"));
    let interrupt = Arc::new(Interrupt::new(eventfd()?));
    vm.register_irqfd(interrupt.line(), u32::from(FIRST_IRQ) + index as u32)
        .map_err(kvm("connect an interrupt line"))?;
    let address = BUS_START + index as u64 * DEVICE_SPACE + QUEUE_NOTIFY;
    let mut notifiers = Vec::new();
    for queue in 0..device.queue_max_sizes().len() {
        let notifier = eventfd()?;
        vm.register_ioevent(&notifier, &IoEventAddress::Mmio(address), queue as u32)
            .map_err(kvm("connect a queue's notification"))?;
        notifiers.push(notifier);
    }
    event_loop::watch_queues(epoll, index as u32, &notifiers)
        .map_err(host("watch a queue's notification"))?;
    let registry = EventRegistry::new(Arc::clone(epoll), index as u32);
    let transport = Transport::new(name, device, memory.clone(), interrupt, registry);
    Ok((Arc::new(transport), notifiers))
}
