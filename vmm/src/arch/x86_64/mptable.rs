//! The MP table (Intel MultiProcessor Specification 1.4): CPUs, the ISA bus,
//! the IOAPIC and one entry per interrupt line in use. There is no ACPI; a
//! wrong table silently boots one CPU.

use super::{IOAPIC, LAPIC, MP_TABLE};
use crate::memory::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

const FLOATING_POINTER_BYTES: usize = 16;
const HEADER_BYTES: usize = 44;
/// What the table may use: up to 640 KiB.
const SPACE: usize = 1024;

const ENTRY_CPU: u8 = 0;
const ENTRY_BUS: u8 = 1;
const ENTRY_IOAPIC: u8 = 2;
const ENTRY_INTERRUPT: u8 = 3;
const ENTRY_LOCAL_INTERRUPT: u8 = 4;

const CPU_ENABLED: u8 = 1;
const CPU_BOOT: u8 = 2;
/// Version of an integrated APIC.
const APIC_VERSION: u8 = 0x14;
const IOAPIC_VERSION: u8 = 0x11;
const INTERRUPT_VECTORED: u8 = 0;
const INTERRUPT_NMI: u8 = 1;
const INTERRUPT_EXTERNAL: u8 = 3;
/// Polarity active-high, trigger edge: an irqfd raises an edge.
const ACTIVE_HIGH_EDGE: u16 = 0b0101;
const ISA_BUS: u8 = 0;
const ALL_LAPICS: u8 = 0xff;

/// Why there is no MP table.
#[derive(Debug, thiserror::Error)]
pub enum MpTableError {
    /// The table does not fit into its place.
    #[error("an MP table of {bytes} bytes for {vcpus} CPUs does not fit into {SPACE}")]
    Space {
        /// What it would take.
        bytes: usize,
        /// How many CPUs.
        vcpus: u8,
    },
    /// The place is no memory.
    #[error("the MP table does not lie in guest memory")]
    Memory(#[source] vm_memory::GuestMemoryError),
}

/// Writes the table of a machine with `vcpus` CPUs whose devices use the
/// interrupt lines `irqs`.
pub fn write(memory: &GuestMemory, vcpus: u8, irqs: &[u8]) -> Result<(), MpTableError> {
    let table = build(MP_TABLE as u32, vcpus, irqs);
    if table.len() > SPACE {
        return Err(MpTableError::Space {
            bytes: table.len(),
            vcpus,
        });
    }
    memory
        .write_slice(&table, GuestAddress(MP_TABLE))
        .map_err(MpTableError::Memory)
}

/// The bytes of the table when it lies at `address`.
#[must_use]
pub fn build(address: u32, vcpus: u8, irqs: &[u8]) -> Vec<u8> {
    let mut entries = Vec::with_capacity(SPACE);
    let mut count: u16 = 0;
    let mut add = |bytes: &[u8]| {
        entries.extend_from_slice(bytes);
        count += 1;
    };
    for cpu in 0..vcpus {
        let flags = CPU_ENABLED | if cpu == 0 { CPU_BOOT } else { 0 };
        let mut entry = [0; 20];
        entry[..4].copy_from_slice(&[ENTRY_CPU, cpu, APIC_VERSION, flags]);
        // Family 6 with an FPU and an APIC: a signature that nobody reads.
        entry[4..8].copy_from_slice(&0x600_u32.to_le_bytes());
        entry[8..12].copy_from_slice(&0x201_u32.to_le_bytes());
        add(&entry);
    }
    let ioapic_id = vcpus;
    add(&[ENTRY_BUS, ISA_BUS, b'I', b'S', b'A', b' ', b' ', b' ']);
    let mut ioapic = [ENTRY_IOAPIC, ioapic_id, IOAPIC_VERSION, 1, 0, 0, 0, 0];
    ioapic[4..].copy_from_slice(&IOAPIC.to_le_bytes());
    add(&ioapic);
    for &irq in irqs {
        let [low, high] = ACTIVE_HIGH_EDGE.to_le_bytes();
        add(&[
            ENTRY_INTERRUPT,
            INTERRUPT_VECTORED,
            low,
            high,
            ISA_BUS,
            irq,
            ioapic_id,
            irq,
        ]);
    }
    for (kind, pin) in [(INTERRUPT_EXTERNAL, 0), (INTERRUPT_NMI, 1)] {
        add(&[
            ENTRY_LOCAL_INTERRUPT,
            kind,
            0,
            0,
            ISA_BUS,
            0,
            ALL_LAPICS,
            pin,
        ]);
    }
    let mut table = floating_pointer(address + FLOATING_POINTER_BYTES as u32).to_vec();
    table.extend_from_slice(&header(&entries, count));
    table.extend_from_slice(&entries);
    table
}

fn floating_pointer(table: u32) -> [u8; FLOATING_POINTER_BYTES] {
    let mut pointer = [0; FLOATING_POINTER_BYTES];
    pointer[..4].copy_from_slice(b"_MP_");
    pointer[4..8].copy_from_slice(&table.to_le_bytes());
    // Length in 16-byte units, then the revision 1.4.
    pointer[8..10].copy_from_slice(&[1, 4]);
    pointer[10] = checksum(&[&pointer]);
    pointer
}

fn header(entries: &[u8], count: u16) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(b"PCMP");
    header[4..6].copy_from_slice(&((HEADER_BYTES + entries.len()) as u16).to_le_bytes());
    header[6] = 4;
    header[8..16].copy_from_slice(b"BELUGA  ");
    header[16..28].copy_from_slice(b"MICROVM     ");
    header[34..36].copy_from_slice(&count.to_le_bytes());
    header[36..40].copy_from_slice(&LAPIC.to_le_bytes());
    header[7] = checksum(&[&header, entries]);
    header
}

/// The byte that makes all bytes sum up to 0.
fn checksum(parts: &[&[u8]]) -> u8 {
    parts
        .iter()
        .flat_map(|part| part.iter())
        .fold(0u8, |sum, byte| sum.wrapping_add(*byte))
        .wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn both_checksums_are_right_and_the_length_is_the_tables() {
        for vcpus in [1, 2, 4, 32] {
            let table = build(MP_TABLE as u32, vcpus, &[5, 6, 7]);
            let (pointer, rest) = table.split_at(FLOATING_POINTER_BYTES);
            assert_eq!(sum(pointer), 0);
            assert_eq!(sum(rest), 0);
            assert_eq!(
                usize::from(u16::from_le_bytes([rest[4], rest[5]])),
                rest.len()
            );
            assert_eq!(&pointer[..4], b"_MP_");
            assert_eq!(
                u32::from_le_bytes(pointer[4..8].try_into().unwrap()),
                MP_TABLE as u32 + 16
            );
        }
    }

    /// Walks the entries as a kernel does: by the size of each kind.
    #[test]
    fn every_cpu_and_every_interrupt_has_an_entry() {
        let table = build(MP_TABLE as u32, 4, &[5, 9, 20]);
        let header = &table[FLOATING_POINTER_BYTES..];
        let count = u16::from_le_bytes([header[34], header[35]]);
        let mut at = HEADER_BYTES;
        let (mut cpus, mut pins) = (Vec::new(), Vec::new());
        for _ in 0..count {
            match header[at] {
                ENTRY_CPU => {
                    cpus.push((header[at + 1], header[at + 3]));
                    at += 20;
                }
                ENTRY_INTERRUPT => {
                    assert_eq!(header[at + 5], header[at + 7]);
                    assert_eq!(header[at + 6], 4, "the IOAPIC's ID is no CPU's");
                    pins.push(header[at + 7]);
                    at += 8;
                }
                _ => at += 8,
            }
        }
        assert_eq!(at, header.len());
        assert_eq!(cpus, [(0, 3), (1, 1), (2, 1), (3, 1)]);
        assert_eq!(pins, [5, 9, 20]);
    }

    #[test]
    fn the_largest_machine_fits() {
        let irqs: Vec<u8> = (5..21).collect();
        assert!(build(MP_TABLE as u32, 32, &irqs).len() <= SPACE);
    }
}
