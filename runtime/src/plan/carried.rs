//! Cards that somebody else has made for a pod, in a network namespace: a CNI
//! plugin, or whoever hands such a namespace over.

use super::types::HostStep;
use beluga_proto::PodUid;
use beluga_proto::pod::{Address, Interface, Route};
use beluga_proto::vm::MacAddress;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// A network namespace whose cards are the pod's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// What the networks are called, card by card.
    pub networks: Vec<String>,
    /// The namespace.
    pub netns: PathBuf,
    /// Its cards.
    pub cards: Vec<Card>,
    /// Name servers and the like that the networks bring.
    #[serde(default)]
    pub dns: CarriedDns,
    /// Where the networks' plugins and configurations are.
    #[serde(default)]
    pub cni: CniPlaces,
    /// What connects the namespace, where it is an ordinary user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pasta: Option<PastaPlan>,
}

/// A network namespace with one card, behind which a process of its user carries what
/// comes out to sockets of the host: pasta, of the project passt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastaPlan {
    /// Whose it is.
    pub pod: PodUid,
    /// The namespace's file; what else the process needs lies beside it.
    pub netns: PathBuf,
    /// The card's name.
    pub card: String,
    /// Its address.
    pub mac: MacAddress,
    /// Largest packet in bytes.
    pub mtu: u16,
    /// Its IP address.
    pub address: Address,
    /// Where the way out is.
    pub gateway: IpAddr,
    /// Where the host's name servers answer.
    pub resolver: IpAddr,
}

/// A card as it is in its namespace; the guest has one that is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its name, there and in the guest.
    pub name: String,
    /// The tap beside it that the VM has.
    pub tap: String,
    /// Its address.
    pub mac: MacAddress,
    /// Largest packet in bytes.
    pub mtu: u16,
    /// Its IP addresses, IPv4 first.
    pub addresses: Vec<Address>,
    /// Routes that lead out by it, each behind those that it needs.
    pub routes: Vec<Route>,
}

/// Lines of a resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedDns {
    /// Whom to ask.
    pub nameservers: Vec<String>,
    /// Domains to look in.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// Where CNI's files are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniPlaces {
    /// Configurations.
    pub configs: PathBuf,
    /// Plugins, the first that has one counts.
    pub plugins: Vec<PathBuf>,
}

impl Carried {
    /// The pod's addresses: those of the first card, as Kubernetes has one of a family.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.cards.first().into_iter().flat_map(Card::ips);
        let (mut four, mut six) = (false, false);
        all.filter(move |ip| {
            let seen = if ip.is_ipv4() { &mut four } else { &mut six };
            !std::mem::replace(seen, true)
        })
    }

    /// Steps that lead its cards to taps, behind the one that makes them where that
    /// is ours to do.
    pub(super) fn steps(&self) -> impl Iterator<Item = HostStep> {
        let made = self.pasta.iter().cloned().map(HostStep::Pasta);
        made.chain(self.cards.iter().map(|card| HostStep::Carry {
            netns: self.netns.clone(),
            card: card.name.clone(),
            tap: card.tap.clone(),
            mac: card.mac,
            mtu: card.mtu,
            addresses: card.ips().collect(),
        }))
    }
}

impl Card {
    fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(|address| address.ip)
    }

    /// What the agent makes of it.
    pub(super) fn interface(&self) -> Interface {
        Interface {
            name: self.name.clone(),
            mac: self.mac,
            mtu: self.mtu,
            addresses: self.addresses.clone(),
            routes: self.routes.clone(),
        }
    }
}
