//! Networks that somebody has named: what they are, one file each.
//!
//! ```text
//! <root>/network/named/NAME/network.json   the network
//! <root>/network/named/NAME/leases.json    who has which address in it
//! ```

use super::{NetworkError, leases, subnets};
use crate::host::netlink::Netlink;
use crate::path_error::PathError;
use crate::plan::Beyond;
use crate::settings::Settings;
use crate::spec::{MAX_NETWORK_NAME, Network as Block, is_network_name};
use crate::store::{atomic, private};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// What tells the bridges of a root's networks apart, behind its hash. A `t`
/// there is the beginning of a tap of the unnamed one.
const LETTERS: &str = "abcdefghijklmnopqrsuvwxyz0123456789";

/// Widest and narrowest networks of IPv4: a bridge and a pod must fit.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=30;

/// Addresses that no host has, or each for itself (RFC 6890, RFC 5771, RFC 4291).
const RESERVED: [(Block, &str); 7] = [
    ((IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8), "this network"),
    ((IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8), "loopback"),
    (
        (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
        "link-local",
    ),
    (
        (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 3),
        "multicast and reserved",
    ),
    (
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8),
        "loopback and reserved",
    ),
    (
        (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
        "link-local",
    ),
    (
        (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
        "multicast",
    ),
];

/// A network that somebody has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Behind the root's hash in the names of its bridge and taps.
    pub letter: char,
    /// Addresses of IPv4.
    pub subnet: Block,
    /// The bridge's of them.
    pub gateway: IpAddr,
    /// Addresses of IPv6.
    pub subnet6: Block,
    /// The bridge's of them.
    pub gateway6: IpAddr,
    /// Largest packet in bytes; as the host's ways out when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// What goes beyond this network.
    #[serde(flatten)]
    pub beyond: Beyond,
}

/// What is wanted of a new network.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// At most one of each family.
    pub subnets: Vec<Block>,
    /// At most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Largest packet in bytes.
    pub mtu: Option<u16>,
    /// What goes beyond it.
    pub beyond: Beyond,
}

fn directory(settings: &Settings) -> PathBuf {
    settings.root.join("network/named")
}

fn path(settings: &Settings, name: &str) -> PathBuf {
    directory(settings).join(name).join("network.json")
}

/// Where a network keeps what it has.
pub fn home(settings: &Settings, name: &str) -> PathBuf {
    directory(settings).join(name)
}

fn refused(why: impl Into<String>) -> NetworkError {
    NetworkError::Refused { why: why.into() }
}

/// The networks that there are, by name.
pub fn list(settings: &Settings) -> Result<Vec<Definition>, NetworkError> {
    let directory = directory(settings);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(PathError::on("list", &directory)(error).into()),
    };
    let mut found = Vec::new();
    for name in entries.flatten().map(|entry| entry.file_name()) {
        let name = name.to_string_lossy();
        // One that is just being made or removed has no file.
        found.extend(read(settings, &name)?);
    }
    found.sort_by(|a: &Definition, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The network of that name.
pub fn read(settings: &Settings, name: &str) -> Result<Option<Definition>, NetworkError> {
    if !is_network_name(name) {
        return Ok(None);
    }
    let path = path(settings, name);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PathError::on("read", &path)(error).into()),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed
        .map(Some)
        .map_err(|source| NetworkError::Leases { path, source })
}

/// Makes a network; its bridge comes with its first pod.
pub fn create(settings: &Settings, wanted: Wanted, now: u64) -> Result<Definition, NetworkError> {
    let Wanted {
        name,
        subnets,
        gateways,
        mtu,
        beyond,
    } = wanted;
    if !is_network_name(&name) {
        return Err(refused(format!(
            "{name:?} cannot be the name of a network: up to {MAX_NETWORK_NAME} lower-case letters, \
             digits and '-', with a letter or digit at both ends"
        )));
    }
    let _lock = leases::lock_all(settings)?;
    let _claims = subnets::lock()?;
    let present = list(settings)?;
    if present.iter().any(|one| one.name == name) {
        return Err(NetworkError::Exists { name });
    }
    let letter = LETTERS
        .chars()
        .find(|letter| present.iter().all(|one| one.letter != *letter));
    let letter =
        letter.ok_or_else(|| refused(format!("a root has {} networks at most", LETTERS.len())))?;
    // Those of the unnamed network too, whose claim is this root's as well.
    let mut taken = super::blocks(settings, &crate::host::boot_id())?;
    taken.extend(present.iter().flat_map(|one| [one.subnet, one.subnet6]));
    let (four, six) = of_families(&subnets, "--subnet")?;
    let subnet = match four {
        Some(block) => checked(block, &taken, &Netlink::open()?.routed_networks()?)?,
        None => {
            let number = subnets::claim(settings, &taken)?;
            (Ipv4Addr::new(10, 88, number, 0).into(), 24)
        }
    };
    let subnet6 = match six {
        Some(block) => checked(block, &taken, &[])?,
        None => (super::net::ula_network(settings, letter), 64),
    };
    let (own, own6) = of_gateways(&gateways)?;
    let definition = Definition {
        gateway: gateway(subnet, own)?,
        gateway6: gateway(subnet6, own6)?,
        name,
        created: now,
        letter,
        subnet,
        subnet6,
        mtu,
        beyond,
    };
    subnets::register(settings, &definition)?;
    let path = path(settings, &definition.name);
    let parent = path.parent().unwrap_or(Path::new("/"));
    private::make(parent)?;
    let bytes = serde_json::to_vec(&definition).unwrap_or_default();
    atomic::replace_durably(&path, &bytes).map_err(PathError::on("write", &path))?;
    Ok(definition)
}

/// Removes a network that no pod uses.
pub fn remove(settings: &Settings, definition: &Definition) -> Result<(), NetworkError> {
    subnets::forget(settings, definition)?;
    PathError::remove_file(&path(settings, &definition.name))?;
    let home = home(settings, &definition.name);
    Ok(std::fs::remove_dir_all(&home).map_err(PathError::on("remove", &home))?)
}

/// The one of each family.
fn of_families(all: &[Block], flag: &str) -> Result<(Option<Block>, Option<Block>), NetworkError> {
    let (four, six): (Vec<Block>, Vec<Block>) = all.iter().partition(|one| one.0.is_ipv4());
    if four.len() > 1 || six.len() > 1 {
        return Err(refused(format!(
            "{flag} is given once for IPv4 and once for IPv6"
        )));
    }
    Ok((four.first().copied(), six.first().copied()))
}

fn of_gateways(all: &[IpAddr]) -> Result<(Option<IpAddr>, Option<IpAddr>), NetworkError> {
    let whole: Vec<Block> = all.iter().map(|ip| (*ip, 0)).collect();
    let (four, six) = of_families(&whole, "--gateway")?;
    Ok((four.map(|one| one.0), six.map(|one| one.0)))
}

/// A network that nobody else has.
fn checked(
    block: Block,
    taken: &[Block],
    routed: &[(Ipv4Addr, u8)],
) -> Result<Block, NetworkError> {
    let (ip, prefix) = block;
    let shown = format!("{ip}/{prefix}");
    let is_sound = match ip {
        IpAddr::V4(_) => PREFIXES.contains(&prefix),
        // Host parts are in the last byte.
        IpAddr::V6(_) => (16..=120).contains(&prefix),
    };
    if !is_sound {
        return Err(refused(format!(
            "{shown} is too wide or too narrow for a network of pods"
        )));
    }
    if network_of(ip, prefix) != ip {
        let network = network_of(ip, prefix);
        return Err(refused(format!(
            "{shown} is not a network; {network}/{prefix} is"
        )));
    }
    if let Some(use_of) = RESERVED.iter().find(|one| overlap(block, one.0)) {
        return Err(refused(format!("{shown} is not for hosts: {}", use_of.1)));
    }
    let routed = routed.iter().map(|(ip, prefix)| (IpAddr::V4(*ip), *prefix));
    let other = taken.iter().copied().chain(routed.filter(|one| one.1 > 0));
    for one in other {
        if overlap(block, one) {
            return Err(refused(format!(
                "{shown} overlaps with {}/{}, which this host or another network has",
                one.0, one.1
            )));
        }
    }
    Ok(block)
}

fn gateway(subnet: Block, wanted: Option<IpAddr>) -> Result<IpAddr, NetworkError> {
    let first = host_of(subnet, 1);
    match wanted {
        None => Ok(first),
        Some(ip)
            if overlap(subnet, (ip, if ip.is_ipv4() { 32 } else { 128 })) && ip != subnet.0 =>
        {
            Ok(ip)
        }
        Some(ip) => Err(refused(format!(
            "the gateway {ip} is not an address of {}/{}",
            subnet.0, subnet.1
        ))),
    }
}

/// The address of a network with that host part.
pub fn host_of((network, _): Block, host: u8) -> IpAddr {
    match network {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) | u32::from(host)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) | u128::from(host)).into(),
    }
}

/// The network of an address.
pub fn network_of(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX
                .checked_shl(32u32.saturating_sub(prefix.into()))
                .unwrap_or(0);
            Ipv4Addr::from(u32::from(ip) & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX
                .checked_shl(128u32.saturating_sub(prefix.into()))
                .unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) & mask).into()
        }
    }
}

/// Whether two networks have an address in common.
pub fn overlap(one: Block, other: Block) -> bool {
    let prefix = one.1.min(other.1);
    one.0.is_ipv4() == other.0.is_ipv4() && network_of(one.0, prefix) == network_of(other.0, prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Block {
        let (ip, prefix) = text.split_once('/').unwrap();
        (ip.parse().unwrap(), prefix.parse().unwrap())
    }

    #[test]
    fn networks_that_meet_others_are_refused() {
        let taken = [block("10.90.1.0/24"), block("fd00::/64")];
        let routed = [
            (Ipv4Addr::new(192, 168, 1, 0), 24),
            (Ipv4Addr::UNSPECIFIED, 0),
        ];
        for (one, why) in [
            ("10.90.0.0/16", Some("overlaps with 10.90.1.0/24")),
            ("192.168.1.128/25", Some("overlaps with 192.168.1.0/24")),
            ("fd00::/48", Some("overlaps with fd00::/64")),
            ("10.90.2.1/24", Some("10.90.2.0/24 is")),
            ("10.90.2.0/31", Some("too narrow")),
            ("10.90.2.0/24", None),
            ("fd01::/64", None),
            ("224.0.0.0/24", Some("multicast")),
            ("240.0.0.0/24", Some("reserved")),
            ("127.1.0.0/24", Some("loopback")),
            ("169.254.0.0/24", Some("link-local")),
            ("fe80:1::/64", Some("link-local")),
            ("ff02::/64", Some("multicast")),
        ] {
            let found = checked(block(one), &taken, &routed);
            match why {
                None => assert_eq!(found.unwrap(), block(one)),
                Some(why) => {
                    let error = found.unwrap_err().to_string();
                    assert!(error.contains(why), "{one}: {error}");
                }
            }
        }
    }

    #[test]
    fn names_are_labels_and_mean_nothing_else() {
        for good in ["a", "web-1", "0"] {
            assert!(is_network_name(good), "{good}");
        }
        for bad in [
            "", "-a", "a-", "A", "a/b", "..", "none", "default", "cni", "host", "a.b",
        ] {
            assert!(!is_network_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_gateway_is_of_its_network() {
        let subnet = block("10.90.2.0/24");
        assert_eq!(gateway(subnet, None).unwrap().to_string(), "10.90.2.1");
        let last = "10.90.2.254".parse().unwrap();
        assert_eq!(gateway(subnet, Some(last)).unwrap(), last);
        assert!(gateway(subnet, Some("10.90.3.1".parse().unwrap())).is_err());
    }
}
