//! What passes between a network of pods and others.

use crate::spec::Network;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What passes between a network and others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beyond {
    /// Other networks of ours do not reach it, nor it them.
    #[serde(default)]
    pub isolated: bool,
    /// Nothing at all passes.
    #[serde(default)]
    pub internal: bool,
    /// Pods are seen with their own addresses everywhere.
    #[serde(default)]
    pub no_masquerade: bool,
    /// The same in these places.
    #[serde(default)]
    pub no_masquerade_to: Vec<Network>,
    /// Other hosts that have such networks, and whom to send packets for them to.
    #[serde(default)]
    pub routes: Vec<(Network, IpAddr)>,
}

impl Beyond {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// Places that see pods with their own addresses.
    pub fn plain(&self) -> impl Iterator<Item = Network> {
        let routed = self.routes.iter().map(|(network, _)| *network);
        self.no_masquerade_to.iter().copied().chain(routed)
    }
}
