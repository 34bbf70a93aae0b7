//! What the agent finds out and does about a container by itself: probes while
//! it runs, and the hooks that the supervisor asks for.
//!
//! Probes are told with the container. The agent runs them beside it, counts,
//! and reports only what changes ([`Event::Probed`](crate::Event)).

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Handler {
    /// Run a program in the container, as its own process would be run.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// An HTTP GET.
    Http {
        /// Instead of the pod's own address.
        host: Option<IpAddr>,
        /// TCP port.
        port: u16,
        /// With its query, if it has one.
        path: String,
        /// Names and values beside the usual ones, or instead of them.
        headers: Vec<(String, String)>,
        /// Over TLS, with any certificate: the agent asks for it with
        /// [`Event::TlsWanted`](crate::Event).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tls: bool,
    },
    /// Open a TCP connection.
    Tcp {
        /// Instead of the pod's own address.
        host: Option<IpAddr>,
        /// TCP port.
        port: u16,
    },
    /// A call of `grpc.health.v1.Health/Check`, without TLS.
    Grpc {
        /// TCP port of the pod's own address.
        port: u16,
        /// What is asked for; empty: the server as a whole.
        service: String,
    },
    /// Nothing, for a while.
    Sleep {
        /// How long.
        seconds: u32,
    },
}

/// What a probe decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// Whether the container has started; the other two wait for it.
    Startup,
    /// Whether it can serve.
    Readiness,
    /// Whether it has to be restarted.
    Liveness,
}

/// A probe of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// What it decides about; each at most once per container.
    pub kind: ProbeKind,
    /// What is done; never [`Handler::Sleep`].
    pub handler: Handler,
    /// From the container's start to the first attempt.
    pub initial_delay_seconds: u32,
    /// From one attempt to the next; at least 1.
    pub period_seconds: u32,
    /// After which an attempt has failed; at least 1.
    pub timeout_seconds: u32,
    /// Successes in a row after which it passes; at least 1.
    pub success_threshold: u32,
    /// Failures in a row after which it does not; at least 1.
    pub failure_threshold: u32,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// When the program has been executed.
    PostStart,
    /// Before the stop signal.
    PreStop,
}
