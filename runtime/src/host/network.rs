//! The pod networks of one root: each a bridge, and an address per pod. One has
//! no definition and a /24 of its own; others are made by name.
//!
//! Files, each changed under a lock of its own:
//!
//! ```text
//! <root>/network/leases.json              who has which address, and which /24 this root has
//! <root>/network/named/NAME/leases.json   the same of a network with a name
//! /run/beluga-subnets/10.88.N             names the root that has this /24: host-wide
//! ```
//! A /24 is claimed with a root's first address and given back with its last, that
//! of a name with the name. Bridges are made with the first address and removed
//! with the last under the lock of the leases.

pub mod definition;
mod forward;
mod leases;
mod net;
mod subnets;

pub use definition::{Definition, Wanted as WantedNetwork};
pub use leases::{FILE as LEASES, Leases, PodNames};
pub use net::{Net, bridge_of};

use super::netlink::{Netlink, NetlinkError};
use super::nft::Family;
use super::ports::{self, PortError};
use super::resolver;
use super::rules::{self, RulesError};
use crate::path_error::PathError;
use crate::plan::{Beyond, NetworkFacts, NetworkIdentity};
use crate::settings::Settings;
use crate::spec::{Network as Block, Published};
use beluga_proto::PodUid;
use beluga_proto::pod::Address;
use leases::PortLease;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Bits of a root's network.
const PREFIX: u8 = 24;

/// Largest packet where nothing says how large it may be, in bytes: Ethernet's.
const MTU: u16 = 1500;

/// Sizes that an uplink's is cut to: what IPv6 needs (RFC 8200), and what jumbo
/// frames have.
const MTUS: std::ops::RangeInclusive<u16> = 1280..=9000;

/// Host parts that pods get; the bridge has 1.
const POD_HOSTS: std::ops::RangeInclusive<u8> = 2..=254;

/// Why a pod gets no place in the network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A file of the network's state.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The list of addresses is damaged.
    #[error("{path} is not a list of addresses", path = .path.display())]
    Leases {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// Every address of the network is in use.
    #[error("all {count} addresses of the pod network are in use: delete pods, or use another root", count = POD_HOSTS.len())]
    Full,
    /// There is no network of that name.
    #[error("there is no network {name:?}")]
    Absent {
        /// As it was asked for.
        name: String,
    },
    /// There is one of that name.
    #[error("the network {name:?} exists already")]
    Exists {
        /// Its name.
        name: String,
    },
    /// Pods are in it.
    #[error("the network {name:?} is in use by {pods}", pods = .pods.join(", "))]
    Used {
        /// Its name.
        name: String,
        /// `namespace/name` each.
        pods: Vec<String>,
    },
    /// It cannot be as it was asked for.
    #[error("{why}")]
    Refused {
        /// A sentence.
        why: String,
    },
    /// Every /24 of the pool is claimed or routed elsewhere.
    #[error(
        "every /24 of 10.88.0.0/16 is claimed by another root or routed elsewhere on this host"
    )]
    NoSubnet,
    /// The kernel refused.
    #[error("the pod network cannot be made")]
    Netlink(#[from] NetlinkError),
    /// A port of the host that is not to be had.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The packet filter.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The tap cannot be made.
    #[error("cannot make the tap {name}")]
    Tap {
        /// Its name.
        name: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The bridge is not there.
    #[error("the bridge {name} is not there")]
    NoBridge {
        /// Its name.
        name: String,
    },
}

/// A pod's place in the network, and the network.
pub type Place = (NetworkIdentity, NetworkFacts);

/// What a pod wants of its network.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Which.
    pub network: String,
    /// How others find it.
    pub names: PodNames,
    /// Ports of the host that lead to it.
    pub ports: Vec<Published>,
}

/// Gives the pod an address, the same one when it has one already, its names,
/// and the ports of the host that it publishes.
/// Errors when the network is full, a port is another's, or the network's state
/// cannot be changed.
pub fn claim(
    settings: &Settings,
    uid: &PodUid,
    boot_id: &str,
    wanted: Wanted,
) -> Result<Place, NetworkError> {
    let Wanted {
        network,
        names,
        ports,
    } = wanted;
    // Until it has a pod, a network may be removed.
    let _all = leases::lock_all(settings)?;
    let net = Net::open(settings, &network)?;
    let _lock = leases::lock(&net.home())?;
    // Held until what is claimed is on disk, where other roots look.
    let _claims = subnets::lock()?;
    let mut leases = leases::read(&net.home(), boot_id)?;
    if !ports.is_empty() {
        admit_ports(settings, (uid, boot_id), &ports)?;
    }
    let mut fresh = None;
    match net.definition() {
        Some(definition) => subnets::register(settings, definition)?,
        None if leases.subnet.is_none() => {
            let named = definition::list(settings)?;
            let named: Vec<_> = named.iter().map(|one| one.subnet).collect();
            fresh = Some(subnets::claim(settings, &named)?);
            leases.subnet = fresh;
        }
        None => {}
    }
    let leased = lease(&net, leases, uid, (names, ports));
    if let (Err(_), Some(subnet)) = (&leased, fresh) {
        // The error that is told is the first one.
        let _ = PathError::remove_file(&subnets::path(subnet));
    }
    leased
}

/// Writes down that a pod has an address, and with it what it publishes and its names.
fn lease(
    net: &Net,
    mut leases: Leases,
    uid: &PodUid,
    (names, ports): (PodNames, Vec<Published>),
) -> Result<Place, NetworkError> {
    let host = match leases.host_of(uid) {
        Some(host) => host,
        None => net.next_free(&leases)?,
    };
    leases.last = host;
    leases.pods.insert(host, uid.clone());
    leases.ports.remove(&host);
    if !ports.is_empty() {
        let pod = format!("{}/{}", names.namespace, names.name);
        leases.ports.insert(host, PortLease { pod, ports });
    }
    leases.names.insert(host, names);
    leases::write(&net.home(), &leases)?;
    Ok(net.place(leases.subnet.unwrap_or(0), host))
}

/// The place that the next pod would get; claims nothing.
pub fn preview(settings: &Settings, network: &str, boot_id: &str) -> Result<Place, NetworkError> {
    let net = Net::open(settings, network)?;
    let leases = leases::read(&net.home(), boot_id)?;
    let host = net.next_free(&leases)?;
    Ok(net.place(leases.subnet.unwrap_or(0), host))
}

/// Takes the pod's address back; with the last one of a network the bridge goes
/// too. Nothing to take back is no error.
pub fn release(settings: &Settings, uid: &PodUid, boot_id: &str) -> Result<(), NetworkError> {
    for net in Net::all(settings)? {
        let home = net.home();
        if !home.join(LEASES).exists() {
            continue;
        }
        let _lock = leases::lock(&home)?;
        let mut leases = leases::read(&home, boot_id)?;
        leases.pods.retain(|_, owner| owner != uid);
        let Leases {
            pods, ports, names, ..
        } = &mut leases;
        ports.retain(|host, _| pods.contains_key(host));
        names.retain(|host, _| pods.contains_key(host));
        if leases.pods.is_empty() {
            remove_network(&net, &mut leases)?;
        }
        leases::write(&home, &leases)?;
    }
    Ok(())
}

/// Pods that hold an address.
pub fn holders(settings: &Settings, boot_id: &str) -> Result<Vec<PodUid>, NetworkError> {
    let mut found = Vec::new();
    for net in Net::all(settings)? {
        found.extend(leases::read(&net.home(), boot_id)?.pods.into_values());
    }
    Ok(found)
}

/// Networks of both families that the pods of no named network have now.
pub fn blocks(settings: &Settings, boot_id: &str) -> Result<Vec<Block>, NetworkError> {
    let net = Net::open(settings, "")?;
    let subnet = leases::read(&net.home(), boot_id)?.subnet;
    Ok(subnet.map_or_else(Vec::new, |subnet| net.blocks(subnet).to_vec()))
}

/// Who is in a network: UIDs and names.
pub fn members(net: &Net, boot_id: &str) -> Result<Vec<(PodUid, PodNames)>, NetworkError> {
    let leases = leases::read(&net.home(), boot_id)?;
    let Leases { pods, names, .. } = leases;
    let pairs = pods.into_iter();
    let pairs = pairs.map(|(host, uid)| (uid, names.get(&host).cloned().unwrap_or_default()));
    Ok(pairs.collect())
}

/// Removes a network with a name. Errors while a pod is in it.
pub fn remove(settings: &Settings, name: &str, boot_id: &str) -> Result<(), NetworkError> {
    let _all = leases::lock_all(settings)?;
    let net = Net::open(settings, name)?;
    let Some(definition) = net.definition() else {
        let why = "the default network is always there".to_owned();
        return Err(NetworkError::Refused { why });
    };
    let lock = leases::lock(&net.home())?;
    let members = members(&net, boot_id)?;
    if !members.is_empty() {
        let pods = members.into_iter();
        return Err(NetworkError::Used {
            name: name.to_owned(),
            pods: pods
                .map(|(_, names)| format!("{}/{}", names.namespace, names.name))
                .collect(),
        });
    }
    remove_network(&net, &mut Leases::default())?;
    let _claims = subnets::lock()?;
    drop(lock);
    definition::remove(settings, definition)
}

/// Names of this root's interfaces that exist now.
pub fn interfaces(settings: &Settings) -> Result<Vec<String>, NetworkError> {
    let prefix = bridge_of(settings, None);
    Ok(Netlink::open()?
        .links()?
        .into_iter()
        .map(|link| link.name)
        .filter(|name| name.starts_with(&prefix))
        .collect())
}

/// Removes an interface of this root. One that is not there is no error.
pub fn remove_interface(name: &str) -> Result<(), NetworkError> {
    Ok(Netlink::open()?.delete_link(name)?)
}

/// Names of this root's tables of the packet filter that exist now.
pub fn tables(settings: &Settings) -> Vec<(Family, String)> {
    rules::tables(&bridge_of(settings, None))
}

/// Makes a network's bridge, its table and its routes unless they are there.
pub fn ensure_bridge(
    settings: &Settings,
    network: &str,
    (gateways, mtu): (&[Address], u16),
    beyond: &Beyond,
) -> Result<(), NetworkError> {
    let net = Net::open(settings, network)?;
    let name = &net.bridge();
    let _lock = leases::lock(&net.home())?;
    let mut netlink = Netlink::open()?;
    let link = match netlink.link(name)? {
        Some(link) => link,
        None => {
            netlink.add_bridge(name, net.mac(1).0, mtu)?;
            netlink.link(name)?.ok_or_else(|| NetworkError::NoBridge {
                name: name.to_owned(),
            })?
        }
    };
    // Nobody tells this host about routes from there. Both fail where there is
    // no such family, which then has no addresses either.
    let of = |family: &str, name_of: &str| format!("/proc/sys/net/{family}/conf/{name}/{name_of}");
    let _ = std::fs::write(of("ipv6", "accept_ra"), "0");
    let _ = std::fs::write(of("ipv4", "route_localnet"), "1");
    for gateway in gateways {
        netlink.add_address(&link, gateway.ip, gateway.prefix)?;
    }
    forward::ipv4()?;
    if gateways.iter().any(|one| one.ip.is_ipv6()) {
        forward::ipv6();
    }
    rules::ensure_network(name, gateways, beyond)?;
    for (network, via) in &beyond.routes {
        netlink.add_route(*network, *via)?;
    }
    Ok(())
}

/// Makes a tap that is a port of the bridge. It lives as long as its descriptor.
pub fn add_tap(name: &str, bridge: &str, mtu: u16) -> Result<OwnedFd, NetworkError> {
    let mut netlink = Netlink::open()?;
    let bridge = netlink
        .link(bridge)?
        .ok_or_else(|| NetworkError::NoBridge {
            name: bridge.to_owned(),
        })?;
    let tap = crate::sys::open_tap(name).map_err(|source| NetworkError::Tap {
        name: name.to_owned(),
        source,
    })?;
    // The host speaks on the bridge, never on the port: without this the
    // kernel would give the tap an address and send the guest packets about it.
    let quiet = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    let _ = std::fs::write(quiet, "1");
    netlink.join_bridge(name, &bridge, mtu)?;
    Ok(tap)
}

/// Largest packet: the bridge's own, or the smallest of what the host's ways
/// out have, so that no packet of a pod is too large for them.
fn mtu(bridge: &str) -> u16 {
    let found = || -> Option<u32> {
        let mut netlink = Netlink::open().ok()?;
        if let Ok(Some(link)) = netlink.link(bridge) {
            return Some(link.mtu);
        }
        let uplinks = netlink.uplinks().ok()?;
        let links = netlink.links().ok()?.into_iter();
        links
            .filter(|link| uplinks.contains(&link.index))
            .map(|link| link.mtu)
            .min()
    };
    let found = found().map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
    found.unwrap_or(MTU).clamp(*MTUS.start(), *MTUS.end())
}

/// Whether the host speaks IPv6.
#[must_use]
pub fn has_ipv6() -> bool {
    let path = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "0")
}

/// Errors when another pod or a process has one of these ports. With the claims
/// locked, so that what other roots have on disk is all there is.
fn admit_ports(
    settings: &Settings,
    (uid, boot_id): (&PodUid, &str),
    ports: &[Published],
) -> Result<(), NetworkError> {
    let mut roots = subnets::claimants();
    roots.retain(|root| *root != settings.root);
    roots.push(settings.root.clone());
    let mut all = Vec::new();
    for home in roots.iter().flat_map(|root| net::homes(root)) {
        let bytes = std::fs::read(home.join(LEASES)).unwrap_or_default();
        let leases = serde_json::from_slice::<Leases>(&bytes).unwrap_or_default();
        all.extend((leases.boot_id == boot_id).then_some(leases));
    }
    for leases in &all {
        for (host, lease) in &leases.ports {
            if leases.pods.get(host).is_none_or(|owner| owner == uid) {
                continue;
            }
            let mut theirs = lease.ports.iter();
            let met = theirs.find_map(|held| ports.iter().find(|port| port.clashes(held)));
            if let Some(port) = met {
                let (port, holder) = (*port, format!("the pod {}", lease.pod));
                return Err(PortError::Taken { port, holder }.into());
            }
        }
    }
    Ok(ports::free_of_processes(ports)?)
}

fn remove_network(net: &Net, leases: &mut Leases) -> Result<(), NetworkError> {
    let name = net.bridge();
    resolver::end(net);
    rules::remove(Family::Internet, &name)?;
    let mut netlink = Netlink::open()?;
    for (network, via) in net.definition().iter().flat_map(|one| &one.beyond.routes) {
        netlink.delete_route(*network, *via)?;
    }
    netlink.delete_link(&name)?;
    if let Some(subnet) = leases.subnet.take() {
        let _lock = subnets::lock()?;
        let path = subnets::path(subnet);
        if subnets::is_claim_of(&path, &net.settings().root) {
            PathError::remove_file(&path)?;
        }
    }
    Ok(())
}
