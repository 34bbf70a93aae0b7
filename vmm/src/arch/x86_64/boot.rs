//! What the kernel is told at its entry: memory map, command line, initramfs;
//! as PVH's `hvm_start_info` or as the zero page of the Linux boot protocol.

use super::{CMDLINE, CMDLINE_MAX, HIGH_MEMORY, MP_TABLE, START_INFO, ZERO_PAGE};
use crate::memory::GuestMemory;
use linux_loader::loader::bootparam::setup_header;
use std::ops::Range;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion};

/// Type of usable memory, the same number in e820 and in PVH's map.
const MEMORY_RAM: u32 = 1;

/// `hvm_start_info.magic`.
const START_MAGIC: u32 = 0x336e_c578;
const START_INFO_BYTES: u64 = 56;
const MODULE_BYTES: u64 = 32;

/// Offsets in the zero page (`arch/x86/include/uapi/asm/bootparam.h`).
const ZERO_PAGE_E820_COUNT: usize = 0x1e8;
const ZERO_PAGE_HEADER: usize = 0x1f1;
const ZERO_PAGE_E820: usize = 0x2d0;
const LOADER_UNDEFINED: u8 = 0xff;

/// Why the kernel cannot be told what it must know.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The command line does not fit.
    #[error(
        "the kernel command line with the devices has {bytes} bytes and may have {}",
        CMDLINE_MAX - 1
    )]
    CmdlineTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The command line has a zero byte.
    #[error("the kernel command line has a zero byte")]
    CmdlineZero,
    /// The place is no memory.
    #[error("the start information does not lie in guest memory")]
    Memory(#[source] GuestMemoryError),
}

/// Ranges of usable memory: everything but the MP table and the PC's hole.
#[must_use]
pub fn memory_map(memory: &GuestMemory) -> Vec<Range<u64>> {
    let low = 0..MP_TABLE;
    let regions = memory.iter().map(|region| {
        let start = region.start_addr().0;
        start.max(HIGH_MEMORY)..start + region.len()
    });
    std::iter::once(low).chain(regions).collect()
}

/// Puts the command line into memory.
pub fn write_cmdline(memory: &GuestMemory, cmdline: &str) -> Result<(), BootError> {
    if cmdline.len() >= CMDLINE_MAX {
        return Err(BootError::CmdlineTooLong {
            bytes: cmdline.len(),
        });
    }
    if cmdline.bytes().any(|byte| byte == 0) {
        return Err(BootError::CmdlineZero);
    }
    write(memory, CMDLINE, cmdline.as_bytes())?;
    write(memory, CMDLINE + cmdline.len() as u64, &[0])
}

/// Writes PVH's start information (Xen's `start_info.h`, version 1).
pub fn write_start_info(memory: &GuestMemory, initramfs: &Range<u64>) -> Result<(), BootError> {
    let map = memory_map(memory);
    let modules = START_INFO + START_INFO_BYTES;
    let entries = modules + MODULE_BYTES;
    let mut bytes = Vec::with_capacity(256);
    let has_module = !initramfs.is_empty();
    for word in [START_MAGIC, 1, 0, u32::from(has_module)] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for address in [modules, CMDLINE, 0, entries] {
        bytes.extend_from_slice(&address.to_le_bytes());
    }
    for word in [map.len() as u32, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for value in [initramfs.start, initramfs.end - initramfs.start, 0, 0] {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    for range in map {
        bytes.extend_from_slice(&range.start.to_le_bytes());
        bytes.extend_from_slice(&(range.end - range.start).to_le_bytes());
        bytes.extend_from_slice(&MEMORY_RAM.to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
    }
    write(memory, START_INFO, &bytes)
}

/// Writes the zero page of a kernel whose setup header is `header`.
pub fn write_zero_page(
    memory: &GuestMemory,
    mut header: setup_header,
    initramfs: &Range<u64>,
) -> Result<(), BootError> {
    header.type_of_loader = LOADER_UNDEFINED;
    header.cmd_line_ptr = CMDLINE as u32;
    header.ramdisk_image = initramfs.start as u32;
    header.ramdisk_size = (initramfs.end - initramfs.start) as u32;
    let mut page = vec![0; 4096];
    let bytes = vm_memory::ByteValued::as_slice(&header);
    page[ZERO_PAGE_HEADER..ZERO_PAGE_HEADER + bytes.len()].copy_from_slice(bytes);
    let map = memory_map(memory);
    page[ZERO_PAGE_E820_COUNT] = map.len() as u8;
    let mut at = ZERO_PAGE_E820;
    for range in map {
        page[at..at + 8].copy_from_slice(&range.start.to_le_bytes());
        page[at + 8..at + 16].copy_from_slice(&(range.end - range.start).to_le_bytes());
        page[at + 16..at + 20].copy_from_slice(&MEMORY_RAM.to_le_bytes());
        at += 20;
    }
    write(memory, ZERO_PAGE, &page)
}

fn write(memory: &GuestMemory, at: u64, bytes: &[u8]) -> Result<(), BootError> {
    memory
        .write_slice(bytes, GuestAddress(at))
        .map_err(BootError::Memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{GAP_END, GAP_START, allocate};

    #[test]
    fn the_map_leaves_out_the_mp_table_and_the_hole() {
        let memory = allocate(64).unwrap();
        assert_eq!(memory_map(&memory), [0..MP_TABLE, HIGH_MEMORY..64 << 20]);
        let memory = allocate(4096).unwrap();
        assert_eq!(
            memory_map(&memory),
            [
                0..MP_TABLE,
                HIGH_MEMORY..GAP_START,
                GAP_END..GAP_END + (1 << 30)
            ]
        );
    }

    #[test]
    fn the_start_information_names_the_initramfs_and_the_map() {
        let memory = allocate(64).unwrap();
        write_start_info(&memory, &(0x200_0000..0x200_1000)).unwrap();
        let word = |at: u64| {
            memory
                .read_obj::<u32>(GuestAddress(START_INFO + at))
                .unwrap()
        };
        let long = |at: u64| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
        assert_eq!(word(0), START_MAGIC);
        assert_eq!(word(12), 1);
        let module = long(START_INFO + 16);
        assert_eq!((long(module), long(module + 8)), (0x200_0000, 0x1000));
        assert_eq!(word(48), 2);
        assert_eq!(long(long(START_INFO + 40) + 24), HIGH_MEMORY);
    }

    #[test]
    fn a_command_line_that_is_too_long_is_refused() {
        let memory = allocate(32).unwrap();
        assert!(matches!(
            write_cmdline(&memory, &"x".repeat(2048)),
            Err(BootError::CmdlineTooLong { bytes: 2048 })
        ));
        assert!(write_cmdline(&memory, &"x".repeat(2047)).is_ok());
    }
}
