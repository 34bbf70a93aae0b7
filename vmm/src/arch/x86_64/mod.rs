//! x86-64: how a vCPU looks to the guest, and in which state it begins.
//!
//! ```text
//! 0x0000_6000  hvm_start_info, module list, memory map   (PVH)
//! 0x0000_7000  zero page                                 (64-bit entry)
//! 0x0000_9000  page tables                               (64-bit entry)
//! 0x0000_f000  GDT                                       (64-bit entry)
//! 0x0002_0000  kernel command line
//! 0x0009_fc00  MP table, to the end of low memory
//! 0x0010_0000  kernel (where its headers say)
//! top of low RAM, downwards: initramfs
//! ```

pub mod boot;
pub mod cpuid;
pub mod entry;
pub mod mptable;
pub mod state;

/// Where the PVH start information lies.
pub const START_INFO: u64 = 0x6000;

/// Where the zero page lies.
pub const ZERO_PAGE: u64 = 0x7000;

/// Where the first page tables lie: six pages.
pub const PAGE_TABLES: u64 = 0x9000;

/// Where the GDT lies.
pub const GDT: u64 = 0xf000;

/// Where the kernel command line lies.
pub const CMDLINE: u64 = 0x2_0000;

/// Longest command line with its final zero (`COMMAND_LINE_SIZE` of Linux).
pub const CMDLINE_MAX: usize = 2048;

/// End of usable low memory, and the MP table: the last KiB below 640 KiB is
/// one of the places where Linux looks.
pub const MP_TABLE: u64 = 0x9_fc00;

/// Where the hole of the PC's low megabyte ends.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// Physical address of the IOAPIC.
pub const IOAPIC: u32 = 0xfec0_0000;

/// Physical address of each CPU's local APIC.
pub const LAPIC: u32 = 0xfee0_0000;

/// Three pages that KVM needs on Intel for real mode; nobody looks there.
pub const KVM_TSS: usize = 0xfffb_d000;

/// One page that KVM needs on Intel for real mode.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
