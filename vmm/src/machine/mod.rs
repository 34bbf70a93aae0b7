//! The machine: [`build`] is the boot order, from top to bottom; [`Machine::run`]
//! starts the threads and serves `main` for ever.

mod devices;
mod error;
mod saved;

pub use error::MachineError;
pub use saved::{MachineState, Saved};

use crate::arch::x86_64::{self as arch, boot, cpuid, entry, mptable};
use crate::config::Descriptors;
use crate::control::Control;
use crate::event_loop::{self, DeviceLoop, Mailbox};
use crate::exit::Journal;
use crate::jail::Confinement;
use crate::jail::calls::ThreadKind;
use crate::loader;
use crate::memory::{self, GuestMemory};
use crate::ports::Ports;
use crate::run_state::RunState;
use crate::vcpu::{self, Board};
use crate::virtio::bus::{self, FIRST_IRQ, MmioBus};
use crate::virtio::mmio::Transport;
use crate::virtio::{DeviceKind, EventRegistry};
use beluga_proto::{ExitCause, Stamp, VmConfig};
use devices::{attach, make_devices};
use error::{host, kvm};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use std::convert::Infallible;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use vmm_sys_util::epoll::Epoll;
use vmm_sys_util::eventfd::EventFd;

/// A machine that has not begun to run, or is paused.
#[derive(Debug)]
pub struct Machine {
    /// Guest memory.
    pub memory: GuestMemory,
    vm: VmFd,
    vcpus: Vec<Arc<Mutex<VcpuFd>>>,
    board: Arc<Board>,
    devices: Vec<(DeviceKind, Arc<Transport>)>,
    /// Kept open while there is a machine: KVM holds a reference of its own.
    #[expect(dead_code, reason = "held")]
    notifiers: Vec<Vec<EventFd>>,
    main: Arc<Epoll>,
    block: Arc<Epoll>,
    mailbox: Arc<Mailbox>,
    listener: Arc<OwnedFd>,
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
        listener: Arc::new(listener),
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
    boot::write_cmdline(memory, &bus::announce(&config.cmdline, devices))?;
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

impl Machine {
    /// The vCPUs' common board, for tests that look.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Starts the vCPU threads only: nobody serves a device.
    pub fn start_vcpus(&self) -> Result<(), MachineError> {
        self.spawn_vcpus(&Confinement::default())
    }

    fn spawn_vcpus(&self, confinement: &Confinement) -> Result<(), MachineError> {
        for (index, vcpu) in self.vcpus.iter().enumerate() {
            let (vcpu, board) = (Arc::clone(vcpu), Arc::clone(&self.board));
            vcpu::spawn(index as u8, vcpu, board, confinement.clone())?;
        }
        Ok(())
    }

    /// Starts the disks' thread, where there are any.
    fn serve_disks(
        &self,
        transports: Vec<Arc<Transport>>,
        confinement: &Confinement,
    ) -> Result<(), MachineError> {
        let is_disk = |(kind, _): &(DeviceKind, Arc<Transport>)| *kind == DeviceKind::Block;
        if !self.devices.iter().any(is_disk) {
            return Ok(());
        }
        let journal = Arc::clone(&self.board.journal);
        let (block, mailbox) = (Arc::clone(&self.block), Arc::clone(&self.mailbox));
        DeviceLoop::new(block, transports, mailbox)
            .spawn("block", confinement.clone(), move |error| {
                journal.end(
                    ExitCause::HostError,
                    format!("the disks' thread failed: {error}"),
                )
            })
            .map_err(host("start the disks' thread"))
    }

    /// Runs the machine until the process ends, on this thread and others, each
    /// confined before the guest's first instruction; it may be saved meanwhile.
    /// Gives back only an error.
    pub fn run(&self, confinement: &Confinement) -> Result<Infallible, MachineError> {
        let transports: Vec<Arc<Transport>> = self
            .devices
            .iter()
            .map(|(_, device)| Arc::clone(device))
            .collect();
        let journal = Arc::clone(&self.board.journal);
        if let Some(counters) = crate::kvm_stats::open(&self.vcpus) {
            journal.set_kernel_counters(Box::new(counters));
        }
        self.serve_disks(transports.clone(), confinement)?;
        let mut control = Control::new(
            Arc::clone(&self.listener),
            EventRegistry::new(Arc::clone(&self.main), event_loop::CONTROL),
            Arc::clone(&self.board),
            self.devices.clone(),
            Arc::clone(&self.mailbox),
        )
        .map_err(host("listen for a supervisor"))?;
        // A machine that is taken up waits for its supervisor's word.
        let begins_paused = self.board.run.is_paused();
        self.board.run.pause();
        self.spawn_vcpus(confinement)?;
        confinement.begin(ThreadKind::Main)?;
        journal.stamp(Stamp::KernelEntry);
        if !begins_paused {
            self.board.run.resume();
        }
        let main = Arc::clone(&self.main);
        let error = DeviceLoop::new(main, transports, Arc::clone(&self.mailbox))
            .run(|token, interest| control.ready(token, interest));
        Err(host("wait for events")(error))
    }
}
