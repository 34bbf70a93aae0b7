//! What CPUID tells the guest: what KVM supports on this host, with the
//! topology of the machine, and without what a pod's guest does not get.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

const LEAF_FEATURES: u32 = 1;
const LEAF_CACHES: u32 = 4;
const LEAF_PERFORMANCE: u32 = 0xa;
const LEAF_TOPOLOGY: u32 = 0xb;
const LEAF_TOPOLOGY_V2: u32 = 0x1f;
const LEAF_AMD_FEATURES: u32 = 0x8000_0001;
const LEAF_AMD_SIZES: u32 = 0x8000_0008;
const LEAF_AMD_SVM: u32 = 0x8000_000a;
const LEAF_AMD_TOPOLOGY: u32 = 0x8000_001e;
const LEAF_AMD_PERFORMANCE: u32 = 0x8000_0022;

const ECX_VMX: u32 = 1 << 5;
const ECX_PDCM: u32 = 1 << 15;
const ECX_X2APIC: u32 = 1 << 21;
const ECX_TSC_DEADLINE: u32 = 1 << 24;
const ECX_HYPERVISOR: u32 = 1 << 31;
const EDX_HTT: u32 = 1 << 28;
const AMD_ECX_SVM: u32 = 1 << 2;
/// Performance counters of AMD's core, north bridge and last-level cache.
const AMD_ECX_COUNTERS: u32 = 1 << 23 | 1 << 24 | 1 << 28;
const AMD_ECX_TOPOLOGY: u32 = 1 << 22;

const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// The table that all vCPUs have in common.
pub fn supported(kvm: &Kvm) -> Result<CpuId, kvm_ioctls::Error> {
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
}

/// Whether KVM keeps the timer by TSC deadline, which CPUID does not tell.
#[must_use]
pub fn has_tsc_deadline(kvm: &Kvm) -> bool {
    kvm.check_extension(Cap::TscDeadlineTimer)
}

/// The table of one vCPU: one thread per core, all cores in one package.
pub fn for_vcpu(table: &mut CpuId, vcpu: u8, vcpus: u8, tsc_deadline: bool) {
    for entry in table.as_mut_slice() {
        match entry.function {
            LEAF_FEATURES => set_features(entry, vcpu, vcpus, tsc_deadline),
            LEAF_CACHES => set_caches(entry, vcpus),
            // No performance counters: they cost exits at every boot, and a
            // pod has no use for the host's.
            LEAF_PERFORMANCE | LEAF_AMD_PERFORMANCE | LEAF_AMD_SVM => clear(entry),
            LEAF_TOPOLOGY | LEAF_TOPOLOGY_V2 => set_topology(entry, vcpu, vcpus),
            LEAF_AMD_FEATURES => {
                entry.ecx &= !(AMD_ECX_SVM | AMD_ECX_COUNTERS | AMD_ECX_TOPOLOGY);
            }
            LEAF_AMD_SIZES => {
                // Threads in the package less one; bits of the APIC ID.
                let bits = id_bits(vcpus);
                entry.ecx = entry.ecx & !0xf0ff | bits << 12 | u32::from(vcpus - 1);
            }
            LEAF_AMD_TOPOLOGY => {
                (entry.eax, entry.ebx, entry.ecx) = (u32::from(vcpu), u32::from(vcpu), 0);
            }
            _ => {}
        }
    }
}

fn clear(entry: &mut kvm_cpuid_entry2) {
    (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
}

fn set_features(entry: &mut kvm_cpuid_entry2, vcpu: u8, vcpus: u8, tsc_deadline: bool) {
    entry.ebx = entry.ebx & 0xffff | u32::from(vcpus) << 16 | u32::from(vcpu) << 24;
    entry.ecx &= !(ECX_VMX | ECX_PDCM);
    entry.ecx |= ECX_HYPERVISOR | ECX_X2APIC;
    if tsc_deadline {
        entry.ecx |= ECX_TSC_DEADLINE;
    }
    if vcpus > 1 {
        entry.edx |= EDX_HTT;
    } else {
        entry.edx &= !EDX_HTT;
    }
}

/// Bits of the APIC ID that number the vCPUs.
fn id_bits(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two().trailing_zeros()
}

/// Intel's cache leaf: the outermost cache is the package's, others a core's.
fn set_caches(entry: &mut kvm_cpuid_entry2, vcpus: u8) {
    let level = entry.eax >> 5 & 7;
    if entry.eax & 0x1f == 0 {
        return;
    }
    let ids = (1 << id_bits(vcpus)) - 1;
    let sharing = if level >= 3 { ids } else { 0 };
    entry.eax = entry.eax & 0x3fff | sharing << 14 | ids << 26;
}

fn set_topology(entry: &mut kvm_cpuid_entry2, vcpu: u8, vcpus: u8) {
    let (shift, count, level) = match entry.index {
        0 => (0, 1, LEVEL_THREAD),
        1 => (id_bits(vcpus), u32::from(vcpus), LEVEL_CORE),
        _ => (0, 0, 0),
    };
    entry.eax = shift;
    entry.ebx = count;
    entry.ecx = entry.index | level << 8;
    entry.edx = u32::from(vcpu);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, index: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            index,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..Default::default()
        }
    }

    #[test]
    fn every_vcpu_has_its_own_id_and_all_have_one_package() {
        for (vcpu, vcpus) in [(0, 1), (1, 2), (3, 4), (4, 6)] {
            let mut table = CpuId::from_entries(&[leaf(1, 0), leaf(0xb, 0), leaf(0xb, 1)]).unwrap();
            for_vcpu(&mut table, vcpu, vcpus, true);
            let [features, threads, cores] = table.as_slice() else {
                panic!("three leaves")
            };
            assert_eq!(features.ebx >> 24, u32::from(vcpu));
            assert_eq!(features.edx & EDX_HTT != 0, vcpus > 1);
            assert_eq!(features.ecx & ECX_VMX, 0);
            assert_eq!((threads.eax, threads.ebx), (0, 1));
            assert_eq!(cores.ebx, u32::from(vcpus));
            assert!(1_u32 << cores.eax >= u32::from(vcpus));
            assert_eq!(cores.edx, u32::from(vcpu));
        }
    }

    #[test]
    fn nested_virtualisation_and_counters_are_not_offered() {
        let mut table = CpuId::from_entries(&[leaf(0x8000_0001, 0), leaf(0xa, 0)]).unwrap();
        for_vcpu(&mut table, 0, 1, false);
        assert_eq!(table.as_slice()[0].ecx & AMD_ECX_SVM, 0);
        assert_eq!(table.as_slice()[1].eax, 0);
    }
}
