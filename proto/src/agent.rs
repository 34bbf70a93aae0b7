//! Supervisor ⇄ agent over vsock.
//!
//! ```text
//! agent                                supervisor
//!   │── dials CONTROL_PORT ──────────────►│
//!   │── Hello { protocols, token? } ─────►│   token: from the Welcome of the first connection
//!   │◄─ Welcome { protocol, token, acked }│   acked: events it need not send again
//!   │◄─ Request { id } … ─────────────────│   any number under way at once
//!   │── Reply { id } … ──────────────────►│   in any order
//!   │── Event { seq } … ─────────────────►│   in order; kept by the agent until
//!   │◄─ AckEvents { seq } ────────────────│   they are acknowledged
//!   │── dials STREAM_PORT, nonce, bytes ─►│   one connection per stdio stream
//! ```
//!
//! **Streams.** A request that starts a process names a [`Nonce`] per stream;
//! the agent dials [`STREAM_PORT`] once for each and sends the sixteen raw
//! bytes first. Input streams carry bytes to the guest until the supervisor
//! shuts its side down. Output streams carry bytes to the host; end of file is
//! the process's. A *container's* output must survive its supervisor, so on
//! those streams the host side answers with acknowledgements: little-endian
//! `u64`s, each the count of bytes of this container's stream that are safe in
//! the log since the container started. The agent holds what is not yet
//! acknowledged (at most [`OUTPUT_WINDOW`] bytes, then it stops reading the
//! pipe) and sends it again on [`Request::ResumeOutput`]. After end of file the
//! agent keeps its side open until the last byte is acknowledged. An *exec*'s
//! output has no acknowledgements: it dies with its caller.
//!
//! **Trust.** The supervisor believes nothing here: every frame is bounded,
//! every identifier checked, every number a hint.

use crate::bytes::Bytes;
use crate::container::{CgroupLimits, TerminalSize};
use crate::copy::CopySpec;
use crate::probe::{Handler, HookKind, ProbeKind};
use crate::{ContainerId, ContainerSpec, ExecId, ExecSpec, Fault, Nonce, PodSetup};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// vsock port of the control connection, on the host's CID (2).
pub const CONTROL_PORT: u32 = 1024;

/// vsock port of stdio streams, on the host's CID (2).
pub const STREAM_PORT: u32 = 1025;

/// Oldest protocol that this build speaks.
pub const PROTOCOL_MIN: u32 = 1;

/// Newest protocol that this build speaks.
pub const PROTOCOL_MAX: u32 = 1;

/// Most bytes of a container's output that the agent holds unacknowledged.
pub const OUTPUT_WINDOW: usize = 256 << 10;

/// Most bytes of a container's termination log that are told.
pub const MAX_TERMINATION_MESSAGE: usize = 4096;

/// The protocol that two ranges have in common: the newest; `None` without one.
#[must_use]
pub fn negotiate(ours: (u32, u32), theirs: (u32, u32)) -> Option<u32> {
    let newest = ours.1.min(theirs.1);
    (newest >= ours.0.max(theirs.0)).then_some(newest)
}

/// First frame of a control connection, from the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest and newest protocol that the agent speaks.
    pub protocols: (u32, u32),
    /// The agent's version, for messages.
    pub version: String,
    /// The guest's boot ID.
    pub boot_id: String,
    /// Proof on every connection but the first.
    pub token: Option<Nonce>,
}

/// The supervisor's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Chosen protocol.
    pub protocol: u32,
    /// Proof for the next connection of this boot.
    pub token: Nonce,
    /// Events up to this sequence number are safe; 0 is none.
    pub acked: u64,
}

/// What the supervisor sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HostFrame {
    /// Handshake.
    Welcome(Welcome),
    /// Handshake refused; the agent ends the boot.
    Refused(Fault),
    /// A request.
    Request {
        /// Under which the reply comes back.
        id: u64,
        /// What to do.
        request: Request,
    },
    /// Events up to `seq` are safe.
    AckEvents {
        /// Sequence number.
        seq: u64,
    },
}

/// What the agent sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentFrame {
    /// Handshake.
    Hello(Hello),
    /// The answer to a request.
    Reply {
        /// The request's number.
        id: u64,
        /// What came of it.
        result: Result<Reply, Fault>,
    },
    /// Something happened.
    Event {
        /// Counts from 1 without gaps within a boot.
        seq: u64,
        /// What.
        event: Event,
    },
}

/// What the agent can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Make the pod. Once, first.
    Setup(Box<PodSetup>),
    /// Make partitions of the layer disk (`vda`), waiting until the disk is
    /// large enough. Existing ones of the same place are left alone.
    AddLayers {
        /// Each is mounted when a container first needs it.
        layers: Vec<LayerExtent>,
    },
    /// Put files into a volume of kind `Files`. What many requests bring, from
    /// the first to the last, is seen at once and whole, in the place of all
    /// that was there.
    WriteFiles {
        /// The volume's name in the pod.
        volume: String,
        /// In order.
        files: Vec<FilePiece>,
        /// Begin anew.
        first: bool,
        /// There is no more.
        last: bool,
    },
    /// Run a container. The reply comes when its program has been executed.
    Start {
        /// What.
        spec: Box<ContainerSpec>,
        /// Its streams.
        stdio: StdioNonces,
    },
    /// Run a process beside a container's own.
    Exec {
        /// Where.
        container: ContainerId,
        /// This run of it.
        exec: ExecId,
        /// What.
        process: Box<ExecSpec>,
        /// Its streams.
        stdio: StdioNonces,
        /// Instead of a program, with the process's user and rights: files.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        copy: Option<CopySpec>,
    },
    /// Send a signal.
    Signal {
        /// To whom.
        target: Target,
        /// Number as Linux on x86-64 has it.
        signal: i32,
        /// To every process of the target's cgroup instead of its first one.
        all: bool,
    },
    /// Change the size of a terminal.
    Resize {
        /// Whose.
        target: Target,
        /// To what.
        size: TerminalSize,
    },
    /// Run a hook of a container. Answered at once; its end is
    /// [`Event::HookEnded`]. Each hook of a run is run once: asking again, as a
    /// new supervisor does, changes nothing.
    Hook {
        /// Whose.
        container: ContainerId,
        /// Which.
        hook: HookKind,
        /// What to do.
        handler: Handler,
        /// After which it is killed and has failed; none: it may take for ever.
        timeout_millis: Option<u64>,
    },
    /// Give a running container these limits, at once; none in place of those
    /// that are missing. Fails with `ResourceExhausted` while its processes use
    /// more memory than they are to have; the other limits hold by then.
    Limit {
        /// Whose.
        container: ContainerId,
        /// Which.
        limits: CgroupLimits,
    },
    /// Let the processes of a container stand still, or go on. SIGKILL reaches
    /// them all the same.
    Freeze {
        /// Whose.
        container: ContainerId,
        /// Whether they are to stand still.
        frozen: bool,
    },
    /// Connect to a port of the pod's loopback, over IPv4 or else IPv6. The
    /// reply comes when something there has taken the connection; each
    /// direction is a stream of its own and ends on its own.
    Connect {
        /// TCP port.
        port: u16,
        /// `stdin` to the server, `stdout` from it.
        stdio: StdioNonces,
    },
    /// Take the connection for which the agent wants TLS, as [`Event::TlsWanted`]
    /// says. The reply comes at once: `NotFound` when the attempt is over.
    TlsConnect {
        /// The attempt's number.
        attempt: u32,
        /// `stdin` to the server, `stdout` from it.
        stdio: StdioNonces,
    },
    /// What came over TLS. The reply is `NotFound` when the attempt is over.
    TlsAnswer {
        /// The attempt's number.
        attempt: u32,
        /// More of the server's answer; empty: there is no more.
        bytes: Bytes,
        /// Why there can be none, in one sentence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// Forget an ended container: unmount its root, delete its writable layer.
    Remove {
        /// Which.
        container: ContainerId,
    },
    /// Take up the output of a container after a supervisor was replaced.
    ResumeOutput {
        /// Whose.
        container: ContainerId,
        /// Standard output (the terminal's, where there is one).
        stdout: Option<ResumeStream>,
        /// Standard error.
        stderr: Option<ResumeStream>,
        /// Standard input.
        stdin: Option<Nonce>,
    },
    /// What the agent has: for a supervisor that adopts the pod.
    List,
    /// Usage of the pod and of each container.
    Stats,
    /// Set the clock (after a pause).
    SetClock {
        /// Nanoseconds since 1970.
        unix_nanos: u64,
    },
    /// Kill what is left, sync, and end the guest.
    Shutdown,
}

/// A file of a volume, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePiece {
    /// Below the volume's root, without `.` and `..`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub content: Bytes,
    /// To be put behind what earlier pieces have brought.
    #[serde(default)]
    pub append: bool,
}

/// Nonces of the streams to be dialled; `None`: no such stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdioNonces {
    /// To the process.
    pub stdin: Option<Nonce>,
    /// From the process, or from its terminal.
    pub stdout: Option<Nonce>,
    /// From the process; never with a terminal.
    pub stderr: Option<Nonce>,
}

/// Where to go on with an output stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeStream {
    /// For the new connection.
    pub nonce: Nonce,
    /// Bytes since the container's start that are safe already.
    pub offset: u64,
}

/// A piece of the layer disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerExtent {
    /// Partition number, 1 to 255.
    pub partition: u8,
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// A process that can be signalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Target {
    /// A container's first process.
    Container {
        /// Which.
        id: ContainerId,
    },
    /// A process run beside it.
    Exec {
        /// Which.
        id: ExecId,
    },
}

/// What a request gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// Done; nothing to tell.
    Done,
    /// A process runs.
    Started {
        /// Its PID in the guest's first PID namespace.
        pid: u32,
    },
    /// Answer to [`Request::List`].
    Containers {
        /// Running and ended, not yet removed.
        containers: Vec<ContainerState>,
    },
    /// Answer to [`Request::Stats`].
    Stats(Box<PodStats>),
}

/// A container as the agent has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Which.
    pub id: ContainerId,
    /// Its name in the pod.
    pub name: String,
    /// First process, in the guest's first PID namespace.
    pub pid: u32,
    /// Its end, if it has ended.
    pub exit: Option<ProcessExit>,
    /// Its last message, if it has ended and left one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessExit {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// Whether the kernel's out-of-memory killer struck in its cgroup.
    pub oom_killed: bool,
    /// When, nanoseconds since 1970 by the guest's clock.
    pub unix_nanos: u64,
}

/// Something that happened in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A container's first process ended, and with it all its others.
    Exited {
        /// Which.
        container: ContainerId,
        /// How.
        exit: ProcessExit,
        /// What it wrote into its termination log: at most
        /// [`MAX_TERMINATION_MESSAGE`] bytes, the last ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// A process run beside a container's own ended.
    ExecExited {
        /// Which.
        exec: ExecId,
        /// How.
        exit: ProcessExit,
    },
    /// The out-of-memory killer struck in a container's cgroup.
    OomKilled {
        /// Which.
        container: ContainerId,
    },
    /// A probe has news: it passes or fails now, or a first attempt failed that
    /// changes nothing yet.
    Probed {
        /// Whose.
        container: ContainerId,
        /// Which.
        kind: ProbeKind,
        /// What holds from now on; none: what held before.
        passed: Option<bool>,
        /// Failed attempts that have not been told.
        failures: u32,
        /// What there is to say about the last one: `failed: …`.
        message: String,
    },
    /// A hook ended.
    HookEnded {
        /// Whose.
        container: ContainerId,
        /// Which.
        hook: HookKind,
        /// Why it counts as failed, if it does.
        failure: Option<String>,
    },
    /// An attempt of a probe or a hook has a connection over which TLS is to be
    /// spoken, which the agent cannot: the supervisor takes it with
    /// [`Request::TlsConnect`], sends the request, and gives back what is
    /// answered with [`Request::TlsAnswer`].
    TlsWanted {
        /// The attempt's number.
        attempt: u32,
        /// What to send.
        request: Bytes,
        /// After which the attempt is over; none: it may take for ever.
        timeout_millis: Option<u64>,
    },
    /// The agent met something that the operator should know.
    Warning {
        /// One sentence.
        message: String,
    },
    /// An event that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Usage of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStats {
    /// The guest's memory in bytes.
    pub memory_total: u64,
    /// Of it available, in bytes.
    pub memory_available: u64,
    /// CPU time of the guest since boot, in nanoseconds.
    pub cpu_nanos: u64,
    /// Seconds since boot, in nanoseconds.
    pub uptime_nanos: u64,
    /// Per card.
    pub interfaces: Vec<InterfaceStats>,
    /// Per container.
    pub containers: Vec<ContainerStats>,
    /// `/proc/net/dev`, for those who want more of the cards.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cards: String,
    /// The disk of the containers' writable layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskStats>,
}

/// A file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStats {
    /// Its size in bytes.
    pub bytes: u64,
    /// How many files there can be.
    pub inodes: u64,
    /// How many more there can be.
    pub inodes_free: u64,
}

/// Traffic of a card.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStats {
    /// Its name.
    pub name: String,
    /// Bytes in.
    pub rx_bytes: u64,
    /// Bytes out.
    pub tx_bytes: u64,
}

/// Usage of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStats {
    /// Which.
    pub id: ContainerId,
    /// CPU time in nanoseconds.
    pub cpu_nanos: u64,
    /// `memory.current` in bytes.
    pub memory_bytes: u64,
    /// Of it the working set (without inactive file pages), in bytes.
    pub working_set_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes used by the writable layer.
    pub writable_bytes: u64,
    /// Bytes read from disks.
    pub read_bytes: u64,
    /// Bytes written to disks.
    pub write_bytes: u64,
    /// Its processes.
    pub processes: Vec<ProcessStats>,
    /// Files of its cgroup as the kernel writes them, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Descriptors that its processes have open, as far as they were counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub descriptors: u64,
    /// Those among them that are sockets.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sockets: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStats {
    /// In the guest's first PID namespace.
    pub pid: u32,
    /// Short name, lossy.
    pub command: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_protocol_wins() {
        assert_eq!(negotiate((1, 3), (2, 5)), Some(3));
        assert_eq!(negotiate((1, 1), (1, 1)), Some(1));
        assert_eq!(negotiate((1, 2), (3, 4)), None);
        assert_eq!(negotiate((3, 4), (1, 2)), None);
    }

    #[test]
    fn an_event_of_a_newer_agent_is_unknown_not_an_error() {
        let frame: AgentFrame = serde_json::from_str(
            r#"{"type":"event","seq":7,"event":{"type":"from_the_future","x":1}}"#,
        )
        .expect("still a frame");
        assert_eq!(
            frame,
            AgentFrame::Event {
                seq: 7,
                event: Event::Unknown
            }
        );
    }
}
