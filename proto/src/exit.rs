//! [`ExitRecord`]: why a VMM ended, written by the VMM itself.
//!
//! A VMM that leaves no record was killed; its supervisor says so from the
//! wait status. Either way every end has a cause.

use crate::Stamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why the VM ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// The guest reset itself after an end stamp; [`ExitRecord::end`] has it.
    GuestEnded,
    /// The guest reset itself without an end stamp.
    GuestCrashed,
    /// The guest kernel panicked (by the console's last lines) and reset.
    KernelPanic,
    /// A vCPU shut down: triple fault.
    TripleFault,
    /// KVM could not go on (`KVM_EXIT_INTERNAL_ERROR`, `KVM_EXIT_FAIL_ENTRY`).
    KvmError,
    /// A supervisor said stop.
    Stopped,
    /// The configuration or what it names cannot be run: nothing was started.
    BadConfig,
    /// The kernel or the initramfs could not be loaded: nothing was started.
    BadImage,
    /// The guest's memory does not hold kernel and initramfs: nothing was started.
    TooLittleMemory,
    /// The host refused what the VM needs (KVM, memory, a descriptor).
    HostError,
    /// A cause that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A boot stamp and when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StampedAt {
    /// Which.
    pub stamp: Stamp,
    /// Nanoseconds since the VMM process began to run its own code.
    pub nanos: u64,
    /// CPU time of all threads of the VMM so far, in nanoseconds.
    pub cpu_nanos: u64,
    /// Exits to the VMM so far.
    pub exits: u64,
}

/// Why the VMM ended, and what it saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The cause.
    pub cause: ExitCause,
    /// One sentence with the particulars, causes joined by `: `.
    pub detail: String,
    /// The end stamp, where there was one.
    pub end: Option<Stamp>,
    /// Boot stamps in order; the last one tells the phase that was reached.
    pub stamps: Vec<StampedAt>,
    /// Exits by kind.
    pub exits: BTreeMap<String, u64>,
    /// Tail of the early console, lossy UTF-8, at most 64 KiB.
    pub console: String,
}
