//! The boot-stamp port: one byte out tells the VMM how far the guest is.
//!
//! A stamp costs one exit and no set-up, so it works from the first line of
//! the agent and from its last. Stamps are hints of the guest about itself:
//! they name a boot phase for people and time it for benchmarks. Nothing that
//! must be true of a hostile guest rests on one.

use serde::{Deserialize, Serialize};

/// I/O port of the stamp, one byte wide, write-only.
pub const STAMP_PORT: u16 = 0x2be;

/// How far the guest is, in order; or with which cause it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Stamp {
    /// Set by the VMM itself: the first `KVM_RUN`.
    KernelEntry = 0x01,
    /// First line of PID 1.
    Init = 0x10,
    /// The agent's own file systems and cgroups are mounted.
    Mounted = 0x11,
    /// The control connection is open.
    Connected = 0x12,
    /// The handshake is done: the agent is ready.
    Ready = 0x13,
    /// The pod is set up: network, scratch, volumes.
    PodReady = 0x14,
    /// The first container's process has been executed.
    FirstContainer = 0x15,
    /// The end: the supervisor asked for it.
    EndShutdown = 0x80,
    /// The end: the agent met an error that it cannot live with.
    EndAgentFault = 0x81,
    /// The end: no supervisor came (back) in time.
    EndOrphaned = 0x82,
}

impl Stamp {
    /// All stamps, in the order in which a boot shows them.
    pub const ALL: [Self; 10] = [
        Self::KernelEntry,
        Self::Init,
        Self::Mounted,
        Self::Connected,
        Self::Ready,
        Self::PodReady,
        Self::FirstContainer,
        Self::EndShutdown,
        Self::EndAgentFault,
        Self::EndOrphaned,
    ];

    /// The stamp behind a byte that the guest wrote.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stamp| *stamp as u8 == byte)
    }

    /// Whether the guest says with it that it ends on purpose.
    #[must_use]
    pub fn is_end(self) -> bool {
        self as u8 & 0x80 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stamp_comes_back_from_its_byte() {
        for stamp in Stamp::ALL {
            assert_eq!(Stamp::from_byte(stamp as u8), Some(stamp));
        }
        assert_eq!(Stamp::from_byte(0), None);
        assert!(Stamp::EndShutdown.is_end() && !Stamp::FirstContainer.is_end());
    }
}
