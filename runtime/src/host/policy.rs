//! What policies let a pod's packets pass, as rules of the packet filter.
//!
//! ```text
//! bridge blgHASHtNp   between pods of one bridge: by the tap, which nobody can forge
//! inet   blgHASHtNp   what this host passes on: from outside, and from a pod by a published port
//! ```
//! What the host itself sends or receives is in neither: a node reaches its pods
//! whatever policies say, as in Kubernetes. Each table is one pod's; what it
//! accepts the tables of others still see.

use super::nft::{self, Chain, Family, Hook, Rule, Table};
use super::rules::{ARP, IPV6, RulesError};
use crate::spec::Network;
use std::net::IpAddr;

/// A pod as its tables see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its tap.
    pub tap: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Packets that may pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admit {
    /// With whom; everybody when missing.
    pub peers: Option<Block>,
    /// Where; everywhere when missing.
    pub ports: Option<Ports>,
}

/// Addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// All of these.
    pub network: Network,
    /// But for these.
    pub except: Vec<Network>,
}

/// Ports of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// IP's number of the transport.
    pub protocol: u8,
    /// First and last; all when missing.
    pub range: Option<(u16, u16)>,
}

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the pod.
    In,
    /// From it.
    Out,
}

/// What may pass in either direction; everything where nothing is said.
pub type Passing = [(Way, Option<Vec<Admit>>); 2];

/// Name of a pod's tables.
#[must_use]
pub fn table_of(tap: &str) -> String {
    format!("{tap}p")
}

/// Whether a table is one of these.
#[must_use]
pub fn is_table(name: &str) -> bool {
    name.ends_with('p')
}

/// Puts a pod's tables in the place of those that are there.
pub fn enforce(subject: &Subject, passing: &Passing) -> Result<(), RulesError> {
    let name = table_of(&subject.tap);
    let error = || RulesError::on("make the table", &name);
    let isolated = passing
        .iter()
        .filter_map(|(way, admits)| Some((*way, admits.as_deref()?)));
    let (mut bridged, mut routed) = (prelude(), vec![Rule::new().known().accept()]);
    for (way, admits) in isolated {
        by_tap(&subject.tap, way, admits, &mut bridged);
        for address in &subject.addresses {
            by_address(*address, way, admits, &mut routed);
        }
    }
    for (family, rules) in [(Family::Bridge, bridged), (Family::Internet, routed)] {
        let chain = Chain {
            name: "policy",
            hook: Hook::Forward,
            rules,
        };
        let table = Table {
            family,
            name: &name,
            chains: vec![chain],
        };
        nft::replace(&table).map_err(error())?;
    }
    Ok(())
}

/// Answers, and what finds a neighbour: without it there are no addresses.
fn prelude() -> Vec<Rule> {
    /// ICMP of IPv6, and its types from router solicitation to redirect (RFC
    /// 4861); the guard of the sender's tap has dropped those that lie.
    const ICMP: u8 = 58;
    const NEIGHBOURS: std::ops::RangeInclusive<u8> = 133..=137;
    let neighbours = NEIGHBOURS.map(|kind| {
        let rule = Rule::new().of_type(IPV6).with_bytes(6, &[ICMP]);
        rule.with_bytes(40, &[kind]).accept()
    });
    [
        Rule::new().known().accept(),
        Rule::new().of_type(ARP).accept(),
    ]
    .into_iter()
    .chain(neighbours)
    .collect()
}

fn by_tap(tap: &str, way: Way, admits: &[Admit], out: &mut Vec<Rule>) {
    let own = || match way {
        Way::In => Rule::new().out_by(tap),
        Way::Out => Rule::new().in_by(tap),
    };
    out.extend(admits.iter().map(|admit| pass(own(), way, admit)));
    out.push(own().count().drop());
}

fn by_address(address: IpAddr, way: Way, admits: &[Admit], out: &mut Vec<Rule>) {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let own = || match way {
        Way::In => Rule::new().toward((address, bits)),
        Way::Out => Rule::new().coming_from((address, bits)),
    };
    let of_family = admits.iter().filter(|admit| {
        let peers = admit.peers.as_ref();
        peers.is_none_or(|peers| peers.network.0.is_ipv4() == address.is_ipv4())
    });
    out.extend(of_family.map(|admit| pass(own(), way, admit)));
    out.push(own().count().drop());
}

fn pass(mut rule: Rule, way: Way, admit: &Admit) -> Rule {
    if let Some(Block { network, except }) = &admit.peers {
        rule = match way {
            Way::In => rule.coming_from(*network),
            Way::Out => rule.toward(*network),
        };
        for one in except {
            rule = match way {
                Way::In => rule.not_coming_from(*one),
                Way::Out => rule.not_toward(*one),
            };
        }
    }
    if let Some(ports) = admit.ports {
        rule = rule.of_ports(ports.protocol, ports.range);
    }
    rule.accept()
}
