//! Guest memory: private anonymous mappings, never shared, cloneable.
//!
//! ```text
//! 0 ─────────── RAM ─────────── 3 GiB ── devices ── 4 GiB ── rest of RAM ──►
//!                               0xD000_0000 virtio-mmio
//!                               0xFEC0_0000 IOAPIC, 0xFEE0_0000 LAPIC
//! ```

use crate::footprint::SPARSE_BLOCKS;
use std::ops::Range;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

/// The guest's memory as every part of the VMM sees it.
pub type GuestMemory = GuestMemoryMmap<()>;

/// First byte above the RAM below the devices.
pub const GAP_START: u64 = 0xC000_0000;

/// First byte after the devices.
pub const GAP_END: u64 = 1 << 32;

/// Why there is no guest memory.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The host refused.
    #[error("cannot reserve {mib} MiB of guest memory")]
    Reserve {
        /// How much was asked for.
        mib: u32,
        /// The system's reason.
        #[source]
        source: vm_memory::mmap::FromRangesError,
    },
}

/// The regions of a guest of `bytes` bytes.
#[must_use]
pub fn layout(bytes: u64) -> Vec<(GuestAddress, usize)> {
    let low = bytes.min(GAP_START);
    let mut regions = vec![(GuestAddress(0), low as usize)];
    if bytes > low {
        regions.push((GuestAddress(GAP_END), (bytes - low) as usize));
    }
    regions
}

/// Reserves guest memory. The pages come when they are touched, as huge pages
/// where the host has them, but for what would be left nearly empty.
pub fn allocate(mib: u32) -> Result<GuestMemory, MemoryError> {
    let regions = layout(u64::from(mib) << 20);
    // Private, anonymous, without swap reservation: vm-memory's default.
    let memory = GuestMemory::from_ranges(&regions)
        .map_err(|source| MemoryError::Reserve { mib, source })?;
    for region in memory.iter() {
        advise_huge_pages(region);
    }
    for block in SPARSE_BLOCKS {
        small_pages(&memory, block);
    }
    Ok(memory)
}

/// Gives the memory to a VM, one slot per region.
pub fn register(vm: &kvm_ioctls::VmFd, memory: &GuestMemory) -> Result<(), kvm_ioctls::Error> {
    for (slot, region) in memory.iter().enumerate() {
        let region = kvm_bindings::kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the range is a mapping of this process that lives as long as
        // `memory`, of which the machine keeps a clone beside the VM; regions
        // do not overlap (vm-memory refuses that) and each has its own slot.
        unsafe { vm.set_user_memory_region(region) }?;
    }
    Ok(())
}

/// Huge pages for all of it. Leaving out the first 2 MiB saves the clearing of
/// one, and costs 300 page faults at boot.
fn advise_huge_pages(region: &GuestRegionMmap<()>) {
    advise(region.as_ptr(), region.len() as usize, libc::MADV_HUGEPAGE);
}

/// Small pages for a range of which little will be touched. A range that is not
/// all memory is left as it is.
pub fn small_pages(memory: &GuestMemory, range: Range<u64>) {
    let length = range.end.saturating_sub(range.start) as usize;
    if let Ok(slice) = memory.get_slice(GuestAddress(range.start), length) {
        let guard = slice.ptr_guard_mut();
        advise(guard.as_ptr(), length, libc::MADV_NOHUGEPAGE);
    }
}

fn advise(start: *mut u8, length: usize, advice: libc::c_int) {
    // SAFETY: both callers give a range of a region's own mapping; the advice
    // changes no content.
    let result = unsafe { libc::madvise(start.cast(), length, advice) };
    // A host kernel without huge pages refuses; the guest runs all the same.
    let _ = result;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_split_around_the_devices() {
        assert_eq!(layout(64 << 20), vec![(GuestAddress(0), 64 << 20)]);
        assert_eq!(
            layout(4 << 30),
            vec![
                (GuestAddress(0), GAP_START as usize),
                (GuestAddress(GAP_END), 1 << 30)
            ]
        );
    }
}
