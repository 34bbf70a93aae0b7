//! vCPU and platform as plain values: taken from a paused machine, put into a
//! fresh one of the same configuration.

use kvm_bindings::{
    KVM_CLOCK_TSC_STABLE, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, Msrs,
    kvm_clock_data, kvm_debugregs, kvm_irqchip, kvm_lapic_state, kvm_mp_state, kvm_msr_entry,
    kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

/// Why a state cannot be taken or put.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// KVM refused.
    #[error("KVM refused to {action} the {what}")]
    Kvm {
        /// `read` or `set`.
        action: &'static str,
        /// Which part.
        what: &'static str,
        /// Its reason.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// Other numbers of vCPUs or devices.
    #[error("the saved machine has other numbers of vCPUs or devices")]
    Shape,
    /// KVM took only some MSRs.
    #[error("KVM did not take MSR {index:#x}")]
    Msr {
        /// The first that it did not take.
        index: u32,
    },
}

fn read(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> StateError {
    move |source| StateError::Kvm {
        action: "read",
        what,
        source,
    }
}

fn set(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> StateError {
    move |source| StateError::Kvm {
        action: "set",
        what,
        source,
    }
}

/// MSRs that a guest sets and must find again. One that this host does not
/// have is left out when the state is taken.
const MSRS: [u32; 33] = [
    0x10,        // TSC; first, since the deadline is relative to it
    0x3b,        // TSC_ADJUST
    0x48,        // SPEC_CTRL
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0x1a0,       // MISC_ENABLE
    0x277,       // PAT
    0x2ff,       // MTRR default type
    0xda0,       // XSS
    0x4b56_4d00, // KVM wall clock
    0x4b56_4d01, // KVM system time
    0x4b56_4d02, // KVM asynchronous page faults
    0x4b56_4d03, // KVM steal time
    0x4b56_4d04, // KVM end of interrupt
    0x4b56_4d05, // KVM poll control
    0x4b56_4d06, // KVM asynchronous page fault vector
    0xc000_0080, // EFER
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SYSCALL mask
    0xc000_0100, // FS base
    0xc000_0101, // GS base
    0xc000_0102, // kernel GS base
    0xc000_0103, // TSC_AUX
    0xc001_0015, // HWCR
    0xc001_011f, // VIRT_SPEC_CTRL
    0xc001_1029, // DE_CFG
    0x1d9,       // DEBUGCTL
    0x122,       // TSX_CTRL
    0x140,       // MISC_FEATURES_ENABLES
    0x6e0,       // TSC deadline; last, after the local APIC's timer mode
];

/// One vCPU.
#[derive(Debug, Serialize, Deserialize)]
pub struct VcpuState {
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: kvm_xsave,
    xcrs: kvm_xcrs,
    debug_registers: kvm_debugregs,
    local_apic: kvm_lapic_state,
    msrs: Vec<(u32, u64)>,
    events: kvm_vcpu_events,
    mp_state: kvm_mp_state,
    tsc_khz: Option<u32>,
}

impl VcpuState {
    /// Of a vCPU that does not run and has no register access under way. The
    /// order is the one that KVM's documentation asks for: pending events and
    /// MP state before what reading them may change.
    pub fn take(vcpu: &VcpuFd) -> Result<Self, StateError> {
        let mp_state = vcpu.get_mp_state().map_err(read("MP state"))?;
        let events = vcpu.get_vcpu_events().map_err(read("events"))?;
        Ok(Self {
            regs: vcpu.get_regs().map_err(read("registers"))?,
            sregs: vcpu.get_sregs().map_err(read("special registers"))?,
            xsave: vcpu.get_xsave().map_err(read("extended state"))?,
            xcrs: vcpu
                .get_xcrs()
                .map_err(read("extended control registers"))?,
            debug_registers: vcpu.get_debug_regs().map_err(read("debug registers"))?,
            local_apic: vcpu.get_lapic().map_err(read("local APIC"))?,
            msrs: take_msrs(vcpu)?,
            tsc_khz: vcpu.get_tsc_khz().ok(),
            events,
            mp_state,
        })
    }

    /// Into a fresh vCPU that has its CPUID already.
    pub fn put(&self, vcpu: &VcpuFd) -> Result<(), StateError> {
        if let Some(khz) = self.tsc_khz
            && vcpu.get_tsc_khz().is_ok_and(|now| now != khz)
        {
            vcpu.set_tsc_khz(khz).map_err(set("TSC frequency"))?;
        }
        vcpu.set_mp_state(self.mp_state).map_err(set("MP state"))?;
        vcpu.set_regs(&self.regs).map_err(set("registers"))?;
        vcpu.set_sregs(&self.sregs)
            .map_err(set("special registers"))?;
        // A host without XSAVE gives none, and refuses even to set none.
        if self.xcrs.nr_xcrs > 0 {
            vcpu.set_xcrs(&self.xcrs)
                .map_err(set("extended control registers"))?;
        }
        // SAFETY: KVM reads as many bytes as the structure has: nothing here
        // asks for the larger state of features that a process must enable.
        unsafe { vcpu.set_xsave(&self.xsave) }.map_err(set("extended state"))?;
        vcpu.set_debug_regs(&self.debug_registers)
            .map_err(set("debug registers"))?;
        vcpu.set_lapic(&self.local_apic)
            .map_err(set("local APIC"))?;
        put_msrs(vcpu, &self.msrs)?;
        vcpu.set_vcpu_events(&self.events).map_err(set("events"))?;
        // A guest that watches KVM's clock must not take the pause for a
        // lock-up; one that does not watch makes KVM refuse.
        let _ = vcpu.kvmclock_ctrl();
        Ok(())
    }
}

/// One by one: `KVM_GET_MSRS` stops at the first that the host does not have.
fn take_msrs(vcpu: &VcpuFd) -> Result<Vec<(u32, u64)>, StateError> {
    let mut taken = Vec::new();
    for index in MSRS {
        let mut list = Msrs::from_entries(&[kvm_msr_entry {
            index,
            ..Default::default()
        }])
        .expect("one MSR fits into a list");
        if vcpu.get_msrs(&mut list).map_err(read("MSRs"))? == 1 {
            taken.push((index, list.as_slice()[0].data));
        }
    }
    Ok(taken)
}

fn put_msrs(vcpu: &VcpuFd, msrs: &[(u32, u64)]) -> Result<(), StateError> {
    for &(index, data) in msrs {
        let list = Msrs::from_entries(&[kvm_msr_entry {
            index,
            data,
            ..Default::default()
        }])
        .expect("one MSR fits into a list");
        // A host may list an MSR for reading that takes no value but its own.
        if vcpu.set_msrs(&list).map_err(set("MSRs"))? != 1 && data != 0 {
            return Err(StateError::Msr { index });
        }
    }
    Ok(())
}

/// What belongs to no vCPU: interrupt controllers and the clock.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlatformState {
    chips: Vec<kvm_irqchip>,
    clock: kvm_clock_data,
}

impl PlatformState {
    /// Of a paused VM.
    pub fn take(vm: &VmFd) -> Result<Self, StateError> {
        let mut chips = Vec::new();
        for id in [
            KVM_IRQCHIP_PIC_MASTER,
            KVM_IRQCHIP_PIC_SLAVE,
            KVM_IRQCHIP_IOAPIC,
        ] {
            let mut chip = kvm_irqchip {
                chip_id: id,
                ..Default::default()
            };
            vm.get_irqchip(&mut chip)
                .map_err(read("interrupt controllers"))?;
            chips.push(chip);
        }
        let mut clock = vm.get_clock().map_err(read("clock"))?;
        // Told by KVM, not to be set.
        clock.flags &= !KVM_CLOCK_TSC_STABLE;
        Ok(Self { chips, clock })
    }

    /// Into a fresh VM.
    pub fn put(&self, vm: &VmFd) -> Result<(), StateError> {
        for chip in &self.chips {
            vm.set_irqchip(chip).map_err(set("interrupt controllers"))?;
        }
        let clock = kvm_clock_data {
            clock: self.clock.clock,
            ..Default::default()
        };
        vm.set_clock(&clock).map_err(set("clock"))
    }
}
