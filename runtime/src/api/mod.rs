//! What a supervisor's clients may ask of it, over `supervisor.sock`.
//!
//! Frames of the one codec, one request per connection, then messages until
//! the matter is closed. Stdio goes as descriptors beside a frame, so that the
//! bytes pass from guest to client without touching the supervisor.

mod channel;
pub mod client;
mod patience;

pub(crate) use channel::is_trusted;
pub use channel::{BACKLOG, Channel, ChannelError, listen};

use crate::store::status::PodStatus;
use beluga_proto::Fault;
use beluga_proto::agent::{PodStats, ProcessExit};
use beluga_proto::container::TerminalSize;
use beluga_proto::copy::CopySpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ApiRequest {
    /// Send the status now and at each change, until the pod has ended.
    Watch,
    /// End the pod; answered with `Done` at once, closed at the end.
    Stop(StopRequest),
    /// Tell what the guest and its containers use; answered once.
    Stats,
    /// Volumes have new content on record: bring the guest up to date. `Done`
    /// comes when it is.
    Refresh,
    /// Make the running pod what a proposal says; `Done` when that has begun,
    /// the rest shows in the status.
    Change(ChangeRequest),
    /// Run a process beside a container's own.
    Exec(ExecRequest),
    /// Do something with one container of a sandbox; `Done` when it has begun.
    Container {
        /// Its name in the pod.
        name: String,
        /// What.
        act: ContainerAct,
    },
    /// Connect to a TCP port of the pod's loopback; answered with two streams.
    Connect {
        /// Which.
        port: u16,
    },
    /// Join a container's terminal or streams.
    Attach(AttachRequest),
    /// On an exec's or attach's connection: the terminal has this size now.
    Resize {
        /// The size.
        size: TerminalSize,
    },
    /// On an exec's or attach's connection: send its process a signal.
    Signal {
        /// Which.
        signal: i32,
        /// And every process of its group.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
}

/// What is done with one container of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum ContainerAct {
    /// Run it; once.
    Start,
    /// End it. One that does not run stays as it is.
    Stop {
        /// From the stop signal to SIGKILL.
        grace_seconds: u32,
    },
    /// Forget it. Refused while it runs.
    Remove,
    /// Let its processes stand still.
    Freeze,
    /// Let them go on.
    Thaw,
    /// Its log was put aside: go on in a new file, which is there when this is done.
    ReopenLog,
}

/// How a pod shall end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Seconds from the stop signal to SIGKILL; the pod's own when missing.
    pub grace: Option<u32>,
    /// Remove the record and the logs as well.
    pub delete: bool,
}

/// A change of a running pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRequest {
    /// Name of the proposal in the pod's directory.
    pub proposal: String,
    /// Containers that are run anew whatever changes about them.
    #[serde(default)]
    pub restart: BTreeSet<String>,
    /// Seconds that its containers may take until they are ready.
    pub patience_seconds: u32,
}

/// A process to run beside a container's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Where; the first app container when missing.
    pub container: Option<String>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, over the container's own.
    pub env: Vec<String>,
    /// `NAME`, `UID`, either with `:GROUP`, instead of the container's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where, instead of the container's own working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// A terminal of this size.
    pub tty: Option<TerminalSize>,
    /// Whether standard input is a stream.
    pub stdin: bool,
    /// Move files instead of running a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopySpec>,
}

/// A container to attach to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Which; the first app container when missing.
    pub container: Option<String>,
    /// Whether to send standard input as well.
    pub stdin: bool,
    /// Nothing of its output, which somebody else takes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
}

/// What a supervisor sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ApiMessage {
    /// The pod's status.
    Status(Box<PodStatus>),
    /// The request is under way.
    Done,
    /// What the guest and its containers use.
    Stats(Box<PodStats>),
    /// The request failed.
    Failed(Fault),
    /// Descriptors come with this frame, in this order, where there is one.
    Streams {
        /// To the process.
        stdin: bool,
        /// From it, or from its terminal.
        stdout: bool,
        /// From it.
        stderr: bool,
    },
    /// The process has ended.
    Exited {
        /// How.
        exit: ProcessExit,
    },
}
