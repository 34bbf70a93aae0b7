//! What KVM itself has counted of the machine's vCPUs: exits that never reach
//! the VMM, page faults, interrupts. Read only when somebody asks.

use crate::exit::KernelCounters;
use crate::sys::stats;
use kvm_ioctls::VcpuFd;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// The counters that are told, by KVM's names.
const TOLD: [&str; 12] = [
    "exits",
    "io_exits",
    "mmio_exits",
    "signal_exits",
    "irq_window_exits",
    "halt_exits",
    "irq_exits",
    "pf_taken",
    "pf_fixed",
    "insn_emulation",
    "irq_injections",
    "hypercalls",
];

/// Most descriptors and longest name that are believed.
const MAX_DESCRIPTORS: u32 = 512;
const MAX_NAME: u32 = 256;
const HEADER_BYTES: usize = 24;
const DESCRIPTOR_BYTES: usize = 16;

/// The statistics of all vCPUs.
#[derive(Debug)]
pub struct VcpuStats(Vec<File>);

/// Opens them; `None` where the host's KVM has none.
#[must_use]
pub fn open(vcpus: &[Arc<Mutex<VcpuFd>>]) -> Option<VcpuStats> {
    vcpus
        .iter()
        .map(|vcpu| stats::open(&*vcpu.lock().unwrap_or_else(PoisonError::into_inner)))
        .collect::<io::Result<_>>()
        .ok()
        .map(VcpuStats)
}

impl KernelCounters for VcpuStats {
    fn collect(&self, exits: &mut BTreeMap<String, u64>) {
        for file in &self.0 {
            // A counter that cannot be read is left out.
            for (name, value) in read(file).unwrap_or_default() {
                *exits.entry(format!("kvm_{name}")).or_default() += value;
            }
        }
    }
}

/// Reads the told counters of one vCPU: a header, descriptors of a fixed size
/// with a name behind each, then the values.
fn read(file: &File) -> io::Result<Vec<(&'static str, u64)>> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    let word = |at: usize| {
        let bytes: [u8; 4] = std::array::from_fn(|i| header[at + i]);
        u32::from_le_bytes(bytes)
    };
    let (name_size, count) = (word(4), word(8));
    let (descriptors, values) = (u64::from(word(16)), u64::from(word(20)));
    if name_size > MAX_NAME || count > MAX_DESCRIPTORS {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let size = DESCRIPTOR_BYTES + name_size as usize;
    let mut table = vec![0; size * count as usize];
    file.read_exact_at(&mut table, descriptors)?;
    let mut counters = Vec::new();
    for descriptor in table.chunks_exact(size) {
        let name = descriptor[DESCRIPTOR_BYTES..]
            .split(|byte| *byte == 0)
            .next();
        let Some(told) = TOLD.iter().find(|told| name == Some(told.as_bytes())) else {
            continue;
        };
        let offset: [u8; 4] = std::array::from_fn(|i| descriptor[8 + i]);
        let mut value = [0; 8];
        file.read_exact_at(&mut value, values + u64::from(u32::from_le_bytes(offset)))?;
        counters.push((*told, u64::from_le_bytes(value)));
    }
    Ok(counters)
}
