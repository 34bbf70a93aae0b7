//! The machine: [`build`] is the boot order, from top to bottom; [`Machine::run`]
//! starts the threads and serves `main` for ever.
//!
//! Longer than other files on purpose: the boot order and what it calls are
//! read together.

use crate::arch::x86_64::{self as arch, boot, cpuid, entry, mptable, state};
use crate::config::{ConfigError, Descriptors};
use crate::control::Control;
use crate::event_loop::{self, DeviceLoop, Mailbox};
use crate::exit::Journal;
use crate::loader::{self, ImageError};
use crate::memory::{self, GuestMemory};
use crate::ports::{Ports, Registers};
use crate::run_state::RunState;
use crate::vcpu::{self, Board};
use crate::virtio::block::{Block, BlockConfig, FileExtent};
use crate::virtio::bus::{self, BUS_START, DEVICE_SPACE, FIRST_IRQ, MmioBus};
use crate::virtio::mmio::{QUEUE_NOTIFY, Transport, TransportState};
use crate::virtio::{DeviceError, DeviceKind, EventRegistry, Interrupt, VirtioDevice};
use crate::virtio::{balloon::Balloon, net::Net, rng::Rng, vsock::Vsock};
use beluga_proto::{ExitCause, Stamp, VmConfig};
use kvm_ioctls::{IoEventAddress, Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use vmm_sys_util::epoll::Epoll;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The configuration, or what it names.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// A device cannot be made as it is configured.
    #[error("cannot make device {name:?}")]
    Device {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: DeviceError,
    },
    /// Kernel or initramfs.
    #[error("the guest's images cannot be loaded")]
    Image(#[from] ImageError),
    /// What the kernel is told.
    #[error("the kernel cannot be told about its machine")]
    Boot(#[from] boot::BootError),
    /// The MP table.
    #[error("the machine cannot be described")]
    MpTable(#[from] mptable::MpTableError),
    /// Guest memory.
    #[error("there is no guest memory")]
    Memory(#[from] memory::MemoryError),
    /// vCPU state.
    #[error("a vCPU cannot be set up")]
    Vcpu(#[from] entry::EntryError),
    /// Saved state.
    #[error("the saved machine cannot be taken up")]
    State(#[from] state::StateError),
    /// KVM.
    #[error("KVM refused to {action}")]
    Kvm {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// Its reason.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// Anything else of the host's.
    #[error("the host refused to {action}")]
    Host {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A thread.
    #[error("the machine cannot start")]
    Spawn(#[from] vcpu::SpawnError),
}

impl MachineError {
    /// The cause that the exit record names.
    #[must_use]
    pub fn cause(&self) -> ExitCause {
        match self {
            Self::Config(_) | Self::Device { .. } | Self::Boot(_) => ExitCause::BadConfig,
            Self::Image(_) => ExitCause::BadImage,
            _ => ExitCause::HostError,
        }
    }
}

fn kvm(action: &'static str) -> impl Fn(kvm_ioctls::Error) -> MachineError {
    move |source| MachineError::Kvm { action, source }
}

fn host(action: &'static str) -> impl Fn(io::Error) -> MachineError {
    move |source| MachineError::Host { action, source }
}

/// A machine that has not begun to run, or is paused.
#[derive(Debug)]
pub struct Machine {
    /// Guest memory.
    pub memory: GuestMemory,
    vm: VmFd,
    vcpus: Vec<Arc<Mutex<VcpuFd>>>,
    board: Arc<Board>,
    devices: Vec<(DeviceKind, Arc<Transport>)>,
    notifiers: Vec<Vec<EventFd>>,
    main: Arc<Epoll>,
    block: Arc<Epoll>,
    mailbox: Arc<Mailbox>,
    listener: OwnedFd,
}

/// All of a machine but its memory and files, as a plain value.
#[derive(Debug, Serialize, Deserialize)]
pub struct MachineState {
    platform: state::PlatformState,
    vcpus: Vec<state::VcpuState>,
    ports: Registers,
    devices: Vec<TransportState>,
}

/// A saved machine: its value, and a copy of its memory.
#[derive(Debug)]
pub struct Saved {
    /// Everything but memory.
    pub state: MachineState,
    /// Guest memory.
    pub memory: GuestMemory,
}

/// Builds the machine of a configuration; from a saved one, it stands where
/// that was saved, otherwise at the entry of its kernel.
pub fn build(
    config: &VmConfig,
    saved: Option<Saved>,
    journal: Arc<Journal>,
) -> Result<Machine, MachineError> {
    let mut descriptors = Descriptors::default();
    let listener = descriptors.take_listener(config.control)?;
    let (memory, state) = match saved {
        Some(saved) => (saved.memory, Some(saved.state)),
        None => (memory::allocate(config.memory_mib)?, None),
    };

    let kvm_handle = Kvm::new().map_err(kvm("open /dev/kvm"))?;
    let vm = create_vm(&kvm_handle, &memory)?;

    let main = Arc::new(Epoll::new().map_err(host("make an epoll"))?);
    let block = Arc::new(Epoll::new().map_err(host("make an epoll"))?);
    let mailbox = Arc::new(Mailbox::new().map_err(host("make an eventfd"))?);
    let mut devices = Vec::new();
    let mut notifiers = Vec::new();
    for (name, device) in make_devices(config, &mut descriptors)? {
        let kind = device.kind();
        let epoll = if kind == DeviceKind::Block {
            &block
        } else {
            &main
        };
        let (transport, queues) = attach(&vm, &memory, epoll, devices.len(), name, device)?;
        devices.push((kind, transport));
        notifiers.push(queues);
    }

    let vcpus = create_vcpus(&kvm_handle, &vm, config.vcpus)?;
    match state {
        None => prepare_boot(config, &mut descriptors, &memory, devices.len(), &vcpus)?,
        Some(_) => descriptors.drop_images(config),
    }

    let transports = devices.iter().map(|(_, device)| Arc::clone(device));
    let board = Arc::new(Board {
        ports: Ports::new(Arc::clone(journal.console())),
        bus: MmioBus::new(transports.collect()),
        run: RunState::new(state.is_some()),
        journal,
    });
    let machine = Machine {
        memory,
        vm,
        vcpus: vcpus
            .into_iter()
            .map(|vcpu| Arc::new(Mutex::new(vcpu)))
            .collect(),
        board,
        devices,
        notifiers,
        main,
        block,
        mailbox,
        listener,
    };
    if let Some(state) = state {
        machine.restore(state)?;
    }
    Ok(machine)
}

/// The VM with its memory, interrupt controllers and KVM's own pages.
fn create_vm(kvm_handle: &Kvm, memory: &GuestMemory) -> Result<VmFd, MachineError> {
    let vm = kvm_handle.create_vm().map_err(kvm("create a VM"))?;
    vm.set_tss_address(arch::KVM_TSS)
        .map_err(kvm("set the TSS address"))?;
    vm.set_identity_map_address(arch::KVM_IDENTITY_MAP)
        .map_err(kvm("set the identity map"))?;
    memory::register(&vm, memory).map_err(kvm("take the guest's memory"))?;
    // No PIT: a guest keeps time by the TSC deadline and knows the frequency
    // from KVM's clock.
    vm.create_irq_chip()
        .map_err(kvm("create the interrupt controllers"))?;
    Ok(vm)
}

type Named = (String, Box<dyn VirtioDevice>);

/// All devices in the order in which they lie on the bus.
fn make_devices(
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
        devices.push((disk.id.clone(), Box::new(block)));
    }
    for net in &config.nets {
        let tap = descriptors.take("a tap", net.tap)?;
        let device = Net::new(tap, net.mac, net.mtu).map_err(wrap(&net.id))?;
        devices.push((net.id.clone(), Box::new(device)));
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
fn attach(
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

fn create_vcpus(kvm_handle: &Kvm, vm: &VmFd, count: u8) -> Result<Vec<VcpuFd>, MachineError> {
    let supported = cpuid::supported(kvm_handle).map_err(kvm("tell what CPUs it supports"))?;
    let tsc_deadline = cpuid::has_tsc_deadline(kvm_handle);
    (0..count)
        .map(|index| {
            let vcpu = vm
                .create_vcpu(u64::from(index))
                .map_err(kvm("create a vCPU"))?;
            let mut table = supported.clone();
            cpuid::for_vcpu(&mut table, index, count, tsc_deadline);
            vcpu.set_cpuid2(&table)
                .map_err(kvm("set a vCPU's features"))?;
            Ok(vcpu)
        })
        .collect()
}

/// Loads the images and puts the first vCPU at the kernel's entry.
fn prepare_boot(
    config: &VmConfig,
    descriptors: &mut Descriptors,
    memory: &GuestMemory,
    devices: usize,
    vcpus: &[VcpuFd],
) -> Result<(), MachineError> {
    let kernel = File::from(descriptors.take("kernel", config.kernel)?);
    let initramfs = File::from(descriptors.take("initramfs", config.initramfs)?);
    let (kernel, initramfs) = loader::load(memory, &kernel, &initramfs)?;
    let mut cmdline = config.cmdline.clone();
    cmdline.extend((0..devices).map(bus::cmdline));
    boot::write_cmdline(memory, cmdline.trim())?;
    match kernel.setup_header {
        None => boot::write_start_info(memory, &initramfs)?,
        Some(header) => boot::write_zero_page(memory, header, &initramfs)?,
    }
    let irqs: Vec<u8> = (0..devices as u8).map(|index| FIRST_IRQ + index).collect();
    mptable::write(memory, config.vcpus, &irqs)?;
    for vcpu in vcpus {
        entry::set_common(vcpu)?;
    }
    if let Some(boot) = vcpus.first() {
        entry::set_boot(boot, memory, kernel.entry)?;
    }
    Ok(())
}

fn start_vcpus(vcpus: &[Arc<Mutex<VcpuFd>>], board: &Arc<Board>) -> Result<(), MachineError> {
    for (index, vcpu) in vcpus.iter().enumerate() {
        vcpu::spawn(index as u8, Arc::clone(vcpu), Arc::clone(board))?;
    }
    Ok(())
}

impl Machine {
    /// The vCPUs' common board, for tests that look.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Starts the vCPU threads only: nobody serves a device.
    pub fn start_vcpus(&self) -> Result<(), MachineError> {
        start_vcpus(&self.vcpus, &self.board)
    }

    /// Runs the machine until the process ends. Gives back only an error.
    pub fn run(self) -> Result<std::convert::Infallible, MachineError> {
        let transports: Vec<Arc<Transport>> = self
            .devices
            .iter()
            .map(|(_, device)| Arc::clone(device))
            .collect();
        let journal = Arc::clone(&self.board.journal);
        if let Some(counters) = crate::kvm_stats::open(&self.vcpus) {
            journal.set_kernel_counters(Box::new(counters));
        }
        if self
            .devices
            .iter()
            .any(|(kind, _)| *kind == DeviceKind::Block)
        {
            let journal = Arc::clone(&journal);
            DeviceLoop::new(self.block, transports.clone(), Arc::clone(&self.mailbox))
                .spawn("block", move |error| {
                    journal.end(
                        ExitCause::HostError,
                        format!("the disks' thread failed: {error}"),
                    )
                })
                .map_err(host("start the disks' thread"))?;
        }
        let mut control = Control::new(
            self.listener,
            EventRegistry::new(Arc::clone(&self.main), event_loop::CONTROL),
            Arc::clone(&self.board),
            self.devices,
            Arc::clone(&self.mailbox),
        )
        .map_err(host("listen for a supervisor"))?;
        journal.stamp(Stamp::KernelEntry);
        start_vcpus(&self.vcpus, &self.board)?;
        // Kept open while the machine runs: KVM holds a reference of its own.
        let _notifiers = self.notifiers;
        let _vm = self.vm;
        let error = DeviceLoop::new(self.main, transports, self.mailbox)
            .run(|token, interest| control.ready(token, interest));
        Err(host("wait for events")(error))
    }

    /// Stops the machine and takes its value. Memory is the caller's to copy
    /// before it goes on.
    pub fn save(&self) -> Result<MachineState, MachineError> {
        self.board.run.pause();
        let devices = self
            .devices
            .iter()
            .map(|(_, device)| device.save())
            .collect();
        let mut vcpus = Vec::new();
        for vcpu in &self.vcpus {
            let vcpu = vcpu
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            vcpus.push(state::VcpuState::take(&vcpu)?);
        }
        Ok(MachineState {
            platform: state::PlatformState::take(&self.vm)?,
            vcpus,
            ports: self.board.ports.save(),
            devices,
        })
    }

    /// Goes on after a [`Machine::save`] or after it was built from a value.
    pub fn resume(&self) {
        for (_, device) in &self.devices {
            device.thaw();
        }
        self.board.run.resume();
    }

    fn restore(&self, saved: MachineState) -> Result<(), MachineError> {
        if saved.vcpus.len() != self.vcpus.len() || saved.devices.len() != self.devices.len() {
            return Err(state::StateError::Shape.into());
        }
        saved.platform.put(&self.vm)?;
        for (vcpu, saved) in self.vcpus.iter().zip(&saved.vcpus) {
            let vcpu = vcpu
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            saved.put(&vcpu)?;
        }
        self.board.ports.restore(saved.ports);
        for ((_, device), saved) in self.devices.iter().zip(saved.devices) {
            device
                .restore(saved)
                .map_err(|source| MachineError::Device {
                    name: device.name().to_owned(),
                    source,
                })?;
        }
        Ok(())
    }
}
