//! The device as a plain value.

use serde::{Deserialize, Serialize};

/// What is kept of a vsock device. Streams are not: their far ends are sockets
/// of this host, so a restored guest is told that the transport was reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockState {
    /// The guest's context ID.
    pub guest_cid: u64,
    /// The guest has yet to be told of an earlier reset.
    pub reset_pending: bool,
}
