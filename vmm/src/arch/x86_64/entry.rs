//! The state in which the first vCPU begins: PVH's 32-bit protected mode, or
//! the 64-bit entry of the Linux boot protocol. The others wait for the
//! INIT/SIPI that KVM's own APIC understands.

use super::{GDT, PAGE_TABLES, START_INFO, ZERO_PAGE};
use crate::memory::GuestMemory;
use kvm_bindings::{
    Msrs, kvm_fpu, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs,
};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Bit 1 of RFLAGS is always set.
const RFLAGS_RESERVED: u64 = 2;

const MSR_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRING: u64 = 1;
const MSR_MTRR_DEFAULT_TYPE: u32 = 0x2ff;
/// MTRRs on, everything write-back.
const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;

const LAPIC_LVT0: usize = 0x350;
const LAPIC_LVT1: usize = 0x360;
const LVT_EXTINT: u8 = 7;
const LVT_NMI: u8 = 4;

/// Where and how a kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// 32-bit, by the ELF note of `vmlinux`.
    Pvh {
        /// Physical address.
        address: u64,
    },
    /// 64-bit, of `vmlinux` or of a bzImage.
    Linux64 {
        /// Physical address.
        address: u64,
    },
}

/// Why a vCPU cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// KVM refused.
    #[error("KVM refused to set the vCPU's {what}")]
    Kvm {
        /// Which part.
        what: &'static str,
        /// Its reason.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// The tables do not lie in memory.
    #[error("the first page tables do not lie in guest memory")]
    Memory(#[from] GuestMemoryError),
}

fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> EntryError {
    move |source| EntryError::Kvm { what, source }
}

/// Sets what every vCPU begins with.
pub fn set_common(vcpu: &VcpuFd) -> Result<(), EntryError> {
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    let msrs = Msrs::from_entries(&[
        entry(MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
        entry(MSR_MTRR_DEFAULT_TYPE, MTRR_ENABLED_WRITE_BACK),
    ])
    .expect("two MSRs fit into a list");
    vcpu.set_msrs(&msrs).map_err(kvm("MSRs"))?;
    let fpu = kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..Default::default()
    };
    vcpu.set_fpu(&fpu).map_err(kvm("FPU"))?;
    let mut lapic = vcpu.get_lapic().map_err(kvm("local APIC"))?;
    set_delivery(&mut lapic, LAPIC_LVT0, LVT_EXTINT);
    set_delivery(&mut lapic, LAPIC_LVT1, LVT_NMI);
    vcpu.set_lapic(&lapic).map_err(kvm("local APIC"))
}

/// Sets the delivery mode of a local vector (bits 8 to 10).
fn set_delivery(lapic: &mut kvm_lapic_state, register: usize, mode: u8) {
    let byte = &mut lapic.regs[register + 1];
    *byte = (*byte as u8 & !7 | mode) as _;
}

/// Sets registers of the boot vCPU.
pub fn set_boot(vcpu: &VcpuFd, memory: &GuestMemory, entry: Entry) -> Result<(), EntryError> {
    let mut sregs = vcpu.get_sregs().map_err(kvm("special registers"))?;
    let mut regs = kvm_regs {
        rflags: RFLAGS_RESERVED,
        ..Default::default()
    };
    match entry {
        Entry::Pvh { address } => {
            regs.rip = address;
            regs.rbx = START_INFO;
            set_flat_segments(&mut sregs, false);
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.cr4 = 0;
            sregs.efer = 0;
        }
        Entry::Linux64 { address } => {
            regs.rip = address;
            regs.rsi = ZERO_PAGE;
            set_flat_segments(&mut sregs, true);
            write_tables(memory)?;
            sregs.gdt.base = GDT;
            sregs.gdt.limit = GDT_ENTRIES.len() as u16 * 8 - 1;
            sregs.cr3 = PAGE_TABLES;
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
        }
    }
    vcpu.set_sregs(&sregs).map_err(kvm("special registers"))?;
    vcpu.set_regs(&regs).map_err(kvm("registers"))
}

/// Selectors 0x10 (`__BOOT_CS`) and 0x18 (`__BOOT_DS`) of the boot protocol.
const GDT_ENTRIES: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

fn set_flat_segments(sregs: &mut kvm_sregs, long_mode: bool) {
    let flat = kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        present: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    sregs.cs = kvm_segment {
        selector: 0x10,
        type_: 0xb,
        l: u8::from(long_mode),
        db: u8::from(!long_mode),
        ..flat
    };
    let data = kvm_segment {
        selector: 0x18,
        type_: 3,
        db: 1,
        ..flat
    };
    (sregs.ds, sregs.es, sregs.ss) = (data, data, data);
    (sregs.fs, sregs.gs) = (data, data);
    sregs.tr = kvm_segment {
        selector: 0x20,
        limit: 0x67,
        type_: 0xb,
        present: 1,
        ..Default::default()
    };
}

/// GDT and an identity map of the first 4 GiB in pages of 2 MiB.
fn write_tables(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    for (at, entry) in GDT_ENTRIES.iter().enumerate() {
        memory.write_obj(*entry, GuestAddress(GDT + at as u64 * 8))?;
    }
    let pointers = PAGE_TABLES + 0x1000;
    memory.write_obj(pointers | PRESENT_WRITABLE, GuestAddress(PAGE_TABLES))?;
    for gib in 0..4_u64 {
        let directory = PAGE_TABLES + 0x2000 + gib * 0x1000;
        memory.write_obj(
            directory | PRESENT_WRITABLE,
            GuestAddress(pointers + gib * 8),
        )?;
        for page in 0..512_u64 {
            let address = gib << 30 | page << 21;
            memory.write_obj(
                address | PRESENT_WRITABLE | LARGE,
                GuestAddress(directory + page * 8),
            )?;
        }
    }
    Ok(())
}
