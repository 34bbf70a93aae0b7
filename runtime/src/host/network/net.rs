//! One network of a root: its names, numbers and places.

use super::definition::{self, Definition, host_of, overlap};
use super::{Leases, NetworkError, PREFIX, Place, has_ipv6, mtu};
use crate::host::resolver;
use crate::plan::{Beyond, NetworkFacts, NetworkIdentity};
use crate::settings::Settings;
use crate::spec::{DEFAULT_NETWORK, Network as Block};
use beluga_proto::pod::Address;
use beluga_proto::vm::MacAddress;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// A network.
#[derive(Debug, Clone)]
pub struct Net {
    settings: Settings,
    definition: Option<Definition>,
}

/// Name of a network's bridge; that of the one without a definition begins the
/// names of all.
#[must_use]
pub fn bridge_of(settings: &Settings, definition: Option<&Definition>) -> String {
    let letter = definition.map(|one| one.letter);
    let letter = letter.map(String::from).unwrap_or_default();
    format!("blg{}{letter}", settings.short_hash())
}

/// Directories of all networks of a root.
pub(super) fn homes(root: &Path) -> Vec<PathBuf> {
    let named = root.join("network/named");
    let entries = std::fs::read_dir(named).into_iter().flatten().flatten();
    let named = entries.map(|entry| entry.path());
    [root.join("network")].into_iter().chain(named).collect()
}

/// The IPv6 network of one with a letter, where nobody has said another: unique
/// local (RFC 4193), the prefix from the root's hash.
pub(super) fn ula_network(settings: &Settings, letter: char) -> IpAddr {
    let letter = u8::try_from(letter).unwrap_or(u8::MAX);
    IpAddr::V6(ula(settings, [letter, 0]))
}

fn ula(settings: &Settings, subnet: [u8; 2]) -> Ipv6Addr {
    let [a, b, c] = hash(settings);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&[0xfd, 0xb1, a, b, c, 0]);
    bytes[6..8].copy_from_slice(&subnet);
    Ipv6Addr::from(bytes)
}

fn hash(settings: &Settings) -> [u8; 3] {
    let digits = settings.short_hash();
    [0, 2, 4].map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or(0))
}

impl Net {
    /// The network of that name. Errors when there is none.
    pub fn open(settings: &Settings, name: &str) -> Result<Self, NetworkError> {
        // Plans that are older than names say none.
        let definition = match name {
            "" | DEFAULT_NETWORK => None,
            name => {
                let found = definition::read(settings, name)?;
                Some(found.ok_or_else(|| NetworkError::Absent {
                    name: name.to_owned(),
                })?)
            }
        };
        Ok(Self {
            settings: settings.clone(),
            definition,
        })
    }

    /// All networks of a root, first the one that is always there.
    pub fn all(settings: &Settings) -> Result<Vec<Self>, NetworkError> {
        let named = definition::list(settings)?.into_iter().map(Some);
        let all = [None].into_iter().chain(named);
        let all = all.map(|definition| Self {
            settings: settings.clone(),
            definition,
        });
        Ok(all.collect())
    }

    /// Whose it is.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What somebody has made it to be.
    #[must_use]
    pub fn definition(&self) -> Option<&Definition> {
        self.definition.as_ref()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        let definition = self.definition.as_ref();
        definition.map_or(DEFAULT_NETWORK, |one| one.name.as_str())
    }

    /// Where it keeps what it has.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        match &self.definition {
            Some(one) => definition::home(&self.settings, &one.name),
            None => self.settings.root.join("network"),
        }
    }

    /// Name of its bridge.
    #[must_use]
    pub fn bridge(&self) -> String {
        bridge_of(&self.settings, self.definition.as_ref())
    }

    /// Its networks of both families; `subnet` is that of the leases.
    #[must_use]
    pub fn blocks(&self, subnet: u8) -> [Block; 2] {
        match &self.definition {
            Some(one) => [one.subnet, one.subnet6],
            None => [
                (Ipv4Addr::new(10, 88, subnet, 0).into(), PREFIX),
                (ula(&self.settings, [0, subnet]).into(), 64),
            ],
        }
    }

    fn gateways(&self, subnet: u8) -> [IpAddr; 2] {
        match &self.definition {
            Some(one) => [one.gateway, one.gateway6],
            None => self.blocks(subnet).map(|block| host_of(block, 1)),
        }
    }

    /// Addresses of a host part, on a host that has IPv6 or not.
    #[must_use]
    pub fn addresses(&self, ipv6: bool, leases: &Leases, host: u8) -> Vec<IpAddr> {
        let blocks = self.blocks(leases.subnet.unwrap_or(0));
        let blocks = blocks.into_iter().filter(|one| one.0.is_ipv4() || ipv6);
        blocks.map(|block| host_of(block, host)).collect()
    }

    /// Whether an address is one of the network's, by that of its bridge.
    #[must_use]
    pub fn is_neighbour(&self, gateway: IpAddr, ip: IpAddr) -> bool {
        let prefix = self.definition.as_ref().map_or(PREFIX, |one| one.subnet.1);
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        ip.is_ipv4() && overlap((gateway, prefix), (ip, whole))
    }

    /// The host part that the next pod gets.
    pub(super) fn next_free(&self, leases: &Leases) -> Result<u8, NetworkError> {
        let blocks = self.blocks(leases.subnet.unwrap_or(0));
        let gateways = self.gateways(leases.subnet.unwrap_or(0));
        // The last address of IPv4 is everybody's.
        let hosts = 1u64 << 32u8.saturating_sub(blocks[0].1).min(32);
        let may = |host: u8| {
            u64::from(host) + 1 < hosts
                && !blocks
                    .iter()
                    .any(|block| gateways.contains(&host_of(*block, host)))
        };
        leases.next_free(may).ok_or(NetworkError::Full)
    }

    /// A pod's place, by its host part.
    pub(super) fn place(&self, subnet: u8, host: u8) -> Place {
        let [four, six] = self.blocks(subnet);
        let [gateway, gateway6] = self.gateways(subnet);
        let of = |(_, prefix): Block, ip: IpAddr| Address { ip, prefix };
        let of6 = |ip: IpAddr| has_ipv6().then(|| of(six, ip));
        let bridge = self.bridge();
        let identity = NetworkIdentity {
            address: of(four, host_of(four, host)),
            address6: of6(host_of(six, host)),
            mac: self.mac(host),
            tap: format!("{bridge}t{host}"),
        };
        let definition = self.definition.as_ref();
        let facts = NetworkFacts {
            name: definition.map(|one| one.name.clone()).unwrap_or_default(),
            gateway: of(four, gateway),
            gateway6: of6(gateway6),
            mtu: definition
                .and_then(|one| one.mtu)
                .unwrap_or_else(|| mtu(&bridge)),
            resolver: resolver::is_to_be_had(self),
            beyond: definition.map_or_else(Beyond::default, |one| one.beyond.clone()),
            bridge,
        };
        (identity, facts)
    }

    /// A locally administered address: the root's hash, then the host part.
    #[must_use]
    pub fn mac(&self, host: u8) -> MacAddress {
        let [a, b, c] = hash(&self.settings);
        let letter = self.definition.as_ref().map(|one| one.letter);
        let second = letter.and_then(|letter| u8::try_from(letter).ok());
        MacAddress([0x02, second.unwrap_or(0xb1), a, b, c, host])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(letter: char) -> Net {
        let settings = Settings::new(Some("/x".into()), Some("/y".into())).unwrap();
        let block = |text: &str, prefix| (text.parse().unwrap(), prefix);
        let definition = Definition {
            name: "front".into(),
            created: 0,
            letter,
            subnet: block("10.90.1.16", 28),
            gateway: "10.90.1.18".parse().unwrap(),
            subnet6: block("fd00:7::", 64),
            gateway6: "fd00:7::1".parse().unwrap(),
            mtu: None,
            beyond: Beyond::default(),
        };
        Net {
            settings,
            definition: Some(definition),
        }
    }

    #[test]
    fn names_fit_the_kernel() {
        let mut net = named('z');
        for definition in [net.definition.clone(), None] {
            net.definition = definition;
            let (identity, facts) = net.place(255, 254);
            let tap = &identity.tap;
            assert!(tap.len() <= crate::sys::MAX_IFNAME, "{tap}");
            assert!(tap.starts_with(&facts.bridge));
            assert!(tap.starts_with(&bridge_of(&net.settings, None)));
            assert_eq!(identity.mac.0[0] & 3, 2, "locally administered, unicast");
        }
    }

    #[test]
    fn a_small_network_gives_out_what_it_has_but_for_the_gateway() {
        let net = named('a');
        let mut leases = Leases::default();
        let mut given = Vec::new();
        while let Ok(host) = net.next_free(&leases) {
            leases
                .pods
                .insert(host, beluga_proto::PodUid::from_random([host; 16]));
            given.push(host);
        }
        assert_eq!(given, (3..=14).collect::<Vec<u8>>());
        assert_eq!(
            net.addresses(false, &leases, 14)[0].to_string(),
            "10.90.1.30"
        );
        assert!(net.is_neighbour("10.90.1.18".parse().unwrap(), "10.90.1.30".parse().unwrap()));
        assert!(!net.is_neighbour("10.90.1.18".parse().unwrap(), "10.90.1.33".parse().unwrap()));
    }
}
