//! Supervisor ⇄ VMM while the guest runs.
//!
//! One JSON message per packet of a `SOCK_SEQPACKET` unix socket, descriptors
//! beside it by `SCM_RIGHTS`. One supervisor at a time: the VMM accepts the
//! next one when the last is gone. When one goes, every vsock stream is reset.

use crate::exit::StampedAt;
use crate::vm::Extent;
use crate::{Fault, Stamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest packet in bytes, both ways.
pub const MAX_PACKET: usize = 64 << 10;

/// Most descriptors with one packet (the kernel's own limit is 253).
pub const MAX_FDS: usize = 64;

/// A request with the number under which its reply comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlCall {
    /// Chosen by the supervisor.
    pub id: u64,
    /// What to do.
    pub request: ControlRequest,
}

/// What a supervisor may ask of the VMM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ControlRequest {
    /// State, boot stamps and counters.
    Status,
    /// Stop all vCPUs between two instructions.
    Pause,
    /// Let them go on.
    Resume,
    /// Append extents to a disk and tell the guest. `fd` of each extent is an
    /// index into the descriptors of this packet.
    GrowDisk {
        /// The disk's `id`.
        disk: String,
        /// What to append.
        extents: Vec<Extent>,
    },
    /// Open a stream to a port on which the guest listens. The reply carries
    /// the supervisor's end as its one descriptor.
    ConnectVsock {
        /// The guest's port.
        port: u32,
    },
    /// End the process now, with [`crate::ExitCause::Stopped`].
    Stop,
}

/// What the VMM sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ControlMessage {
    /// The answer to the call of that number.
    Reply {
        /// The call's number.
        id: u64,
        /// What came of it.
        result: Result<ControlReply, Fault>,
    },
    /// The guest opened a stream; the supervisor's end is the packet's one
    /// descriptor, a non-blocking stream socket.
    VsockOpened {
        /// Port on which the supervisor was called.
        host_port: u32,
        /// Port from which the guest called.
        guest_port: u32,
    },
    /// A disk waits for space on the host (`stalled`), or goes on.
    DiskStalled {
        /// The disk's `id`.
        disk: String,
        /// Whether it waits now.
        stalled: bool,
    },
}

/// What a call gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ControlReply {
    /// Done; nothing to tell.
    Done,
    /// Answer to [`ControlRequest::Status`].
    Status(Box<VmStatus>),
}

/// How a running VM is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmStatus {
    /// [`crate::vm::VM_VERSION`] of the VMM.
    pub version: u32,
    /// Whether the vCPUs are stopped.
    pub paused: bool,
    /// Boot stamps seen so far, in order.
    pub stamps: Vec<StampedAt>,
    /// `KVM_RUN` exits to the VMM by kind (`io_out`, `mmio_read`, …).
    pub exits: BTreeMap<String, u64>,
    /// Per device: `interrupts`, `notifications`, `queues` (set up by the guest),
    /// `bytes_in`, `bytes_out`, …
    pub devices: BTreeMap<String, BTreeMap<String, u64>>,
    /// Last lines of the early console, lossy UTF-8.
    pub console: String,
}

impl VmStatus {
    /// The stamp that the guest reached last.
    #[must_use]
    pub fn last_stamp(&self) -> Option<Stamp> {
        self.stamps.last().map(|at| at.stamp)
    }
}
