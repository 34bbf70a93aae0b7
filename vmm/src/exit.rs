//! The end of the machine: one exit record, then the process is gone.
//!
//! Any thread may meet the end; the first one writes the record from what the
//! [`Journal`] has gathered and exits the process. Nothing is torn down: the
//! kernel does that faster and never forgets anything.

use crate::config::MAX_VCPUS;
use crate::console::{CAPACITY, Console};
use crate::sys::process;
use beluga_proto::exit::StampedAt;
use beluga_proto::{ExitCause, ExitRecord, Stamp};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// Most stamps that are kept: a guest may send them for ever.
const MAX_STAMPS: usize = 64;

/// Kinds of exits from `KVM_RUN` to the VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum ExitKind {
    /// A port was read.
    IoIn,
    /// A port was written.
    IoOut,
    /// A device register was read.
    MmioRead,
    /// A device register was written.
    MmioWrite,
    /// A signal of ours came.
    Interrupted,
    /// Anything else.
    Other,
}

const KINDS: [(&str, ExitKind); 6] = [
    ("io_in", ExitKind::IoIn),
    ("io_out", ExitKind::IoOut),
    ("mmio_read", ExitKind::MmioRead),
    ("mmio_write", ExitKind::MmioWrite),
    ("interrupted", ExitKind::Interrupted),
    ("other", ExitKind::Other),
];

/// Exits by kind; each vCPU has its own, so that none waits for another.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ExitCounters([AtomicU64; KINDS.len()]);

impl ExitCounters {
    /// Counts one.
    pub fn count(&self, kind: ExitKind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self, kind: ExitKind) -> u64 {
        self.0[kind as usize].load(Ordering::Relaxed)
    }
}

/// What the machine has seen so far.
#[derive(Debug)]
pub struct Journal {
    started: Instant,
    console: Arc<Console>,
    stamps: Mutex<Vec<StampedAt>>,
    exits: Vec<Arc<ExitCounters>>,
    record: Mutex<Option<File>>,
    ending: AtomicBool,
    kernel_counters: OnceLock<Box<dyn KernelCounters>>,
}

/// Counters that the kernel keeps of the machine, read at need.
pub trait KernelCounters: Send + Sync + std::fmt::Debug {
    /// Adds them to `exits`.
    fn collect(&self, exits: &mut BTreeMap<String, u64>);
}

impl Journal {
    /// A journal that ends in `record`.
    #[must_use]
    pub fn new(started: Instant, record: File) -> Self {
        Self {
            started,
            console: Arc::default(),
            stamps: Mutex::default(),
            exits: (0..MAX_VCPUS).map(|_| Arc::default()).collect(),
            record: Mutex::new(Some(record)),
            ending: AtomicBool::new(false),
            kernel_counters: OnceLock::new(),
        }
    }

    /// The early console.
    #[must_use]
    pub fn console(&self) -> &Arc<Console> {
        &self.console
    }

    /// The counters of a vCPU.
    #[must_use]
    pub fn exit_counters(&self, vcpu: u8) -> Arc<ExitCounters> {
        Arc::clone(&self.exits[usize::from(vcpu)])
    }

    /// Where the kernel's own counters come from. The first one given stays.
    pub fn set_kernel_counters(&self, counters: Box<dyn KernelCounters>) {
        let _ = self.kernel_counters.set(counters);
    }

    /// Notes a boot stamp.
    pub fn stamp(&self, stamp: Stamp) {
        let at = StampedAt {
            stamp,
            nanos: self.started.elapsed().as_nanos() as u64,
            cpu_nanos: process::cpu_time().as_nanos() as u64,
            exits: KINDS.iter().map(|(_, kind)| self.total(*kind)).sum(),
        };
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps.len() == MAX_STAMPS {
            // The first ones time the boot; the last one tells the end.
            stamps.pop();
        }
        stamps.push(at);
    }

    /// Stamps so far.
    #[must_use]
    pub fn stamps(&self) -> Vec<StampedAt> {
        self.stamps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn total(&self, kind: ExitKind) -> u64 {
        self.exits.iter().map(|counters| counters.get(kind)).sum()
    }

    /// Exits by kind; with a `kvm_` prefix what KVM itself has counted.
    #[must_use]
    pub fn exits(&self) -> BTreeMap<String, u64> {
        let mut exits: BTreeMap<String, u64> = KINDS
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), self.total(*kind)))
            .filter(|(_, count)| *count > 0)
            .collect();
        if let Some(counters) = self.kernel_counters.get() {
            counters.collect(&mut exits);
        }
        exits
    }

    /// The guest has reset itself, by the reset line or (Linux does with
    /// `reboot=t`) by a triple fault: says why and ends the process.
    pub fn end_by_reset(&self, triple_fault: bool) -> ! {
        let end = self.end_stamp();
        if let Some(stamp) = end {
            self.end(
                ExitCause::GuestEnded,
                format!("the guest ended itself: {}", end_text(stamp)),
            );
        }
        match self.console.panic_line() {
            Some(line) => self.end(ExitCause::KernelPanic, line),
            None if triple_fault => self.end(
                ExitCause::TripleFault,
                "a vCPU shut down after a triple fault".to_owned(),
            ),
            None => self.end(
                ExitCause::GuestCrashed,
                "the guest reset itself without saying why".to_owned(),
            ),
        }
    }

    fn end_stamp(&self) -> Option<Stamp> {
        let stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        stamps.iter().rev().map(|at| at.stamp).find(|s| s.is_end())
    }

    /// Writes the record and ends the process. When two threads meet the end,
    /// the first one's cause counts and the other waits for the process to go.
    pub fn end(&self, cause: ExitCause, detail: String) -> ! {
        let mut slot = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        self.ending.store(true, Ordering::Release);
        if let Some(file) = slot.take() {
            let record = ExitRecord {
                cause,
                detail,
                end: self.end_stamp(),
                stamps: self.stamps(),
                exits: self.exits(),
                console: self.console.tail(CAPACITY),
            };
            write_record(file, &record);
        }
        // The lock is still held: nobody writes a second record.
        let good = matches!(cause, ExitCause::GuestEnded | ExitCause::Stopped);
        std::process::exit(i32::from(!good))
    }
}

/// Writes a record; where that fails, standard error has it.
pub fn write_record(mut file: File, record: &ExitRecord) {
    let bytes = serde_json::to_vec(record).unwrap_or_default();
    if let Err(error) = file.write_all(&bytes) {
        crate::log::line(format_args!(
            "cannot write the exit record: {error}; it said {:?}: {}",
            record.cause, record.detail
        ));
    }
}

fn end_text(stamp: Stamp) -> &'static str {
    match stamp {
        Stamp::EndShutdown => "shut down as it was asked to",
        Stamp::EndAgentFault => "its agent met an error that it cannot live with",
        Stamp::EndOrphaned => "no supervisor came in time",
        _ => "it gave no reason",
    }
}

/// An error with its causes, joined by `: `.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Makes a panic of any of our threads end the process with a record.
pub fn catch_panics(journal: Arc<Journal>) {
    std::panic::set_hook(Box::new(move |info| {
        crate::log::line(format_args!("{info}"));
        if journal.ending.load(Ordering::Acquire) {
            // A fault while the record is written, whose lock may be ours.
            std::process::abort();
        }
        journal.end(ExitCause::HostError, format!("the VMM has a fault: {info}"));
    }));
}
