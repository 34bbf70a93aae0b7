//! The pod network of one root: a bridge, a /24 of its own, an address per pod.
//!
//! Two files, each changed under a lock of its own:
//!
//! ```text
//! <root>/network/leases.json      who has which address, and which /24 this root has
//! /run/beluga-subnets/10.88.N     names the root that has this /24: host-wide
//! ```
//! A /24 is claimed with a root's first address and given back with its last,
//! and the bridge is made and removed under the same lock.

mod leases;
mod subnets;

pub use leases::{FILE as LEASES, Leases, PodNames};

use super::netlink::{Netlink, NetlinkError};
use super::nft::Family;
use super::ports::{self, PortError};
use super::resolver;
use super::rules::{self, RulesError};
use crate::path_error::PathError;
use crate::plan::{NetworkFacts, NetworkIdentity};
use crate::settings::Settings;
use crate::spec::Published;
use beluga_proto::PodUid;
use beluga_proto::pod::Address;
use beluga_proto::vm::MacAddress;
use leases::PortLease;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

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
    Wanted { names, ports }: Wanted,
) -> Result<Place, NetworkError> {
    let _lock = leases::lock(settings)?;
    // Held until what is claimed is on disk, where other roots look.
    let _claims = subnets::lock()?;
    let mut leases = leases::read(settings, boot_id)?;
    if !ports.is_empty() {
        admit_ports(settings, &leases, (uid, boot_id), &ports)?;
    }
    let subnet = match leases.subnet {
        Some(subnet) => subnet,
        None => subnets::claim(settings)?,
    };
    leases.subnet = Some(subnet);
    let host = match leases.host_of(uid) {
        Some(host) => host,
        None => leases.next_free().ok_or(NetworkError::Full)?,
    };
    leases.last = host;
    leases.pods.insert(host, uid.clone());
    leases.ports.remove(&host);
    if !ports.is_empty() {
        let pod = format!("{}/{}", names.namespace, names.name);
        leases.ports.insert(host, PortLease { pod, ports });
    }
    leases.names.insert(host, names);
    leases::write(settings, &leases)?;
    Ok(place(settings, subnet, host))
}

/// The place that the next pod would get; claims nothing.
pub fn preview(settings: &Settings, boot_id: &str) -> Result<Place, NetworkError> {
    let leases = leases::read(settings, boot_id)?;
    let host = leases.next_free().ok_or(NetworkError::Full)?;
    Ok(place(settings, leases.subnet.unwrap_or(0), host))
}

/// Takes the pod's address back; with the last one of the root the bridge and
/// the /24 go too. Nothing to take back is no error.
pub fn release(settings: &Settings, uid: &PodUid, boot_id: &str) -> Result<(), NetworkError> {
    if !leases::path(settings).exists() {
        return Ok(());
    }
    let _lock = leases::lock(settings)?;
    let mut leases = leases::read(settings, boot_id)?;
    leases.pods.retain(|_, owner| owner != uid);
    let Leases {
        pods, ports, names, ..
    } = &mut leases;
    ports.retain(|host, _| pods.contains_key(host));
    names.retain(|host, _| pods.contains_key(host));
    if leases.pods.is_empty() {
        remove_network(settings, &mut leases)?;
    }
    leases::write(settings, &leases)
}

/// Pods that hold an address.
pub fn holders(settings: &Settings, boot_id: &str) -> Result<Vec<PodUid>, NetworkError> {
    Ok(leases::read(settings, boot_id)?
        .pods
        .into_values()
        .collect())
}

/// Names of this root's interfaces that exist now.
pub fn interfaces(settings: &Settings) -> Result<Vec<String>, NetworkError> {
    let prefix = bridge_name(settings);
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
    rules::tables(&bridge_name(settings))
}

/// Makes the bridge and the network's table unless they are there.
pub fn ensure_bridge(
    settings: &Settings,
    name: &str,
    gateways: &[Address],
    mtu: u16,
) -> Result<(), NetworkError> {
    let _lock = leases::lock(settings)?;
    let mut netlink = Netlink::open()?;
    let link = match netlink.link(name)? {
        Some(link) => link,
        None => {
            netlink.add_bridge(name, mac(settings, 1).0, mtu)?;
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
    forward()?;
    Ok(rules::ensure_network(name, gateways)?)
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

fn place(settings: &Settings, subnet: u8, host: u8) -> Place {
    let address = |host| Address {
        ip: IpAddr::V4(Ipv4Addr::new(10, 88, subnet, host)),
        prefix: PREFIX,
    };
    let bridge = bridge_name(settings);
    let address6 = |host| {
        let ip = IpAddr::V6(ula(settings, subnet, host));
        has_ipv6().then_some(Address { ip, prefix: 64 })
    };
    let identity = NetworkIdentity {
        address: address(host),
        address6: address6(host),
        mac: mac(settings, host),
        tap: format!("{bridge}t{host}"),
    };
    let facts = NetworkFacts {
        gateway: address(1),
        gateway6: address6(1),
        mtu: mtu(&bridge),
        resolver: resolver::is_to_be_had(settings),
        bridge,
    };
    (identity, facts)
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

/// An address of this root's network: unique local (RFC 4193), the prefix from
/// the root's hash.
fn ula(settings: &Settings, subnet: u8, host: u8) -> Ipv6Addr {
    let [a, b, c] = hash(settings);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&[0xfd, 0xb1, a, b, c, 0, 0, subnet]);
    bytes[15] = host;
    Ipv6Addr::from(bytes)
}

/// Addresses of a host part.
#[must_use]
pub fn addresses(settings: &Settings, leases: &Leases, host: u8) -> Vec<IpAddr> {
    let subnet = leases.subnet.unwrap_or(0);
    let six = has_ipv6().then(|| ula(settings, subnet, host).into());
    let four = Ipv4Addr::new(10, 88, subnet, host).into();
    [Some(four), six].into_iter().flatten().collect()
}

/// Whether an address is of the network of this gateway.
#[must_use]
pub fn is_neighbour(gateway: IpAddr, ip: IpAddr) -> bool {
    match (gateway, ip) {
        (IpAddr::V4(gateway), IpAddr::V4(ip)) => gateway.octets()[..3] == ip.octets()[..3],
        _ => false,
    }
}

fn has_ipv6() -> bool {
    let path = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "0")
}

/// Lets this host pass IPv4 packets on, as NAT needs it. What it did before is
/// noted beside the claims, for whoever wants to have that back.
fn forward() -> Result<(), NetworkError> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    let before = std::fs::read_to_string(path).map_err(PathError::on("read", path))?;
    if before.trim() == "0" {
        let note = Path::new(subnets::CLAIMS).join("ip_forward.before");
        std::fs::write(&note, before).map_err(PathError::on("write", &note))?;
        std::fs::write(path, "1").map_err(PathError::on("write", path))?;
    }
    Ok(())
}

fn bridge_name(settings: &Settings) -> String {
    format!("blg{}", settings.short_hash())
}

/// A locally administered address: the root's hash, then the host part.
fn mac(settings: &Settings, host: u8) -> MacAddress {
    let [a, b, c] = hash(settings);
    MacAddress([0x02, 0xb1, a, b, c, host])
}

fn hash(settings: &Settings) -> [u8; 3] {
    let digits = settings.short_hash();
    [0, 2, 4].map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or(0))
}

/// Errors when another pod or a process has one of these ports. With the claims
/// locked, so that what other roots have on disk is all there is.
fn admit_ports(
    settings: &Settings,
    own: &Leases,
    (uid, boot_id): (&PodUid, &str),
    ports: &[Published],
) -> Result<(), NetworkError> {
    let mut all = vec![own.clone()];
    for root in subnets::claimants().filter(|root| *root != settings.root) {
        let bytes = std::fs::read(root.join(LEASES)).unwrap_or_default();
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

fn remove_network(settings: &Settings, leases: &mut Leases) -> Result<(), NetworkError> {
    let name = bridge_name(settings);
    resolver::end(settings);
    rules::remove(Family::Internet, &name)?;
    Netlink::open()?.delete_link(&name)?;
    if let Some(subnet) = leases.subnet.take() {
        let _lock = subnets::lock()?;
        let path = subnets::path(subnet);
        if subnets::is_claim_of(&path, &settings.root) {
            PathError::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel() {
        let settings = Settings::new(Some("/x".into()), Some("/y".into())).unwrap();
        let (identity, facts) = place(&settings, 255, 254);
        assert!(
            identity.tap.len() <= crate::sys::MAX_IFNAME,
            "{}",
            identity.tap
        );
        assert!(identity.tap.starts_with(&facts.bridge));
        assert_eq!(identity.mac.0[0] & 3, 2, "locally administered, unicast");
    }
}
