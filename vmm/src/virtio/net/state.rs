//! The device as a plain value.

use beluga_proto::vm::MacAddress;
use serde::{Deserialize, Serialize};

/// What is kept of a card: packets under way are lost, as packets may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetState {
    /// Address of the card.
    pub mac: MacAddress,
    /// Largest packet in bytes.
    pub mtu: u16,
}
