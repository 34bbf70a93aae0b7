//! A card that somebody made in a network namespace is carried to a VM: what it
//! receives goes to a tap beside it, and what the tap sends goes out by it. The
//! guest's card has the same MAC and IP addresses, so that whoever made the card
//! sees no difference.
//!
//! ```text
//! network namespace:  eth0 ─tc─► tap0 ══ VM        tap0 ─guard─► eth0
//! ```
//! The way in is a redirection of traffic control. The way out is the last word of
//! the guard's own rules: a redirection would come before any rule of the packet
//! filter, and what it redirects is seen by none behind it.
//! Who made the namespace is of no interest here: CNI plugins that we run
//! ([`crate::cni`]), or somebody who hands one over with its cards.

use super::netlink::{Netlink, NetlinkError, Routed};
use super::nft::{self, Family};
use super::rules::{self, RulesError};
use crate::plan::Card;
use crate::sys::{self, netns};
use beluga_proto::pod::{Address, Route};
use beluga_proto::vm::MacAddress;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Why a card cannot be carried.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The namespace.
    #[error("cannot work in the network namespace {path}", path = .path.display())]
    Namespace {
        /// Its file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A card that should be there.
    #[error("there is no interface {name} in the network namespace")]
    NoCard {
        /// Its name.
        name: String,
    },
    /// Two cards that the guest could not tell apart.
    #[error(
        "the interfaces {first} and {second} have the same MAC address, {mac}: the pod's machine needs one for each"
    )]
    SameCard {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// Of both.
        mac: MacAddress,
    },
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The packet filter.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A tap or the like.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// The cards of these names in a namespace, as they are.
pub fn survey(path: &Path, names: &[String]) -> Result<Vec<Card>, CarryError> {
    let cards = netns::within(path, || {
        let mut netlink = Netlink::open()?;
        let routes = netlink.routes()?;
        let cards = names.iter().enumerate();
        let cards = cards.map(|(at, name)| card(&mut netlink, name, at, &routes));
        cards.collect::<Result<Vec<_>, CarryError>>()
    });
    let cards = cards.map_err(of_namespace(path))?;
    for (at, first) in cards.iter().enumerate() {
        let same = cards[at + 1..].iter().find(|one| one.mac == first.mac);
        if let Some(second) = same {
            return Err(CarryError::SameCard {
                first: first.name.clone(),
                second: second.name.clone(),
                mac: first.mac,
            });
        }
    }
    Ok(cards)
}

/// All cards of a namespace but its loopback, in the order in which they were made.
pub fn survey_all(path: &Path) -> Result<Vec<Card>, CarryError> {
    let names = netns::within(path, || {
        let mut links = Netlink::open()?.links()?;
        links.sort_by_key(|link| link.index);
        let names = links.into_iter().map(|link| link.name);
        Ok(names.filter(|name| name != "lo").collect::<Vec<_>>())
    });
    survey(path, &names.map_err(of_namespace(path))?)
}

/// An error of the system on the way there is the namespace's.
fn of_namespace(path: &Path) -> impl FnOnce(CarryError) -> CarryError {
    let path = path.to_owned();
    move |error| match error {
        CarryError::System(source) => CarryError::Namespace { path, source },
        other => other,
    }
}

fn card(
    netlink: &mut Netlink,
    name: &str,
    at: usize,
    routes: &[Routed],
) -> Result<Card, CarryError> {
    let link = netlink.link(name)?.ok_or_else(|| CarryError::NoCard {
        name: name.to_owned(),
    })?;
    let own = routes.iter().filter(|route| route.index == link.index);
    let (of_addresses, others): (Vec<&Routed>, Vec<&Routed>) =
        own.partition(|route| route.is_of_address);
    let addresses = netlink.addresses(link.index)?.into_iter();
    let addresses = addresses.map(|address| as_routed(address, &of_addresses));
    Ok(Card {
        name: name.to_owned(),
        tap: format!("tap{at}"),
        mac: MacAddress(netlink.mac(name)?),
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
        addresses: addresses.collect(),
        routes: in_order(others.into_iter().map(|one| one.route)),
    })
}

/// The address alone where the kernel has no route for its network: somebody has
/// taken that away (CNI's `ptp` does), and the guest must not make it again.
fn as_routed(address: Address, routes: &[&Routed]) -> Address {
    let network = |address: Address| match address.ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) >> 32u8.saturating_sub(address.prefix).min(127),
        IpAddr::V6(ip) => u128::from(ip)
            .checked_shr(128u32.saturating_sub(address.prefix.into()))
            .unwrap_or(0),
    };
    let is_there = routes.iter().filter_map(|one| one.route.to).any(|to| {
        to.prefix == address.prefix
            && to.ip.is_ipv4() == address.ip.is_ipv4()
            && network(to) == network(address)
    });
    let all = if address.ip.is_ipv4() { 32 } else { 128 };
    Address {
        prefix: if is_there { address.prefix } else { all },
        ..address
    }
}

/// A gateway must be reachable before what is behind it: first what is on the
/// link, then what is narrow. Multicast and link-local routes are the guest's own.
fn in_order(routes: impl Iterator<Item = Route>) -> Vec<Route> {
    let is_own = |ip: IpAddr| match ip {
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
        IpAddr::V4(ip) => ip.is_multicast(),
    };
    let mut routes: Vec<Route> = routes
        .filter(|route| !route.to.is_some_and(|to| to.prefix > 0 && is_own(to.ip)))
        .collect();
    let width = |route: &Route| route.to.map_or(0, |to| to.prefix);
    routes.sort_by_key(|route| (route.via.is_some(), std::cmp::Reverse(width(route))));
    routes
}

/// A tap beside a card, and each one's packets led to the other; from the tap
/// only those that the card itself could send.
pub fn tap(
    path: &Path,
    card: &str,
    tap: &str,
    mtu: u16,
    (mac, addresses): (MacAddress, &[IpAddr]),
) -> Result<OwnedFd, CarryError> {
    let made = netns::within(path, || {
        let mut netlink = Netlink::open()?;
        let absent = |name: &str| CarryError::NoCard {
            name: name.to_owned(),
        };
        let own = netlink.link(card)?.ok_or_else(|| absent(card))?;
        let fd = sys::open_tap(tap)?;
        // The guest speaks: without this the kernel would, too. A path below
        // /proc/sys/net is of the namespace that this thread is in.
        let quiet = format!("/proc/sys/net/ipv6/conf/{tap}/disable_ipv6");
        let _ = std::fs::write(quiet, "1");
        rules::guard_and_send(tap, own.index, mac, addresses)?;
        netlink.bring_up(tap, mtu)?;
        let beside = netlink.link(tap)?.ok_or_else(|| absent(tap))?;
        netlink.redirect(own.index, beside.index)?;
        Ok(fd)
    });
    made.map_err(of_namespace(path))
}

/// Packets that a tap's guard has thrown away.
pub fn dropped(path: &Path, tap: &str) -> Result<u64, CarryError> {
    netns::within(path, || Ok(nft::counted(Family::Device, tap)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        let (ip, prefix) = text.split_once('/').unwrap();
        Address {
            ip: ip.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
        }
    }

    fn route(to: &str, via: Option<&str>) -> Route {
        Route {
            to: (to != "default").then(|| address(to)),
            via: via.map(|ip| ip.parse().unwrap()),
        }
    }

    #[test]
    fn what_is_on_the_link_comes_before_what_is_behind_it() {
        let routes = [
            route("default", Some("10.1.0.1")),
            route("10.1.0.0/24", Some("10.1.0.1")),
            route("fe80::/64", None),
            route("10.1.0.1/32", None),
        ];
        let expected = [
            route("10.1.0.1/32", None),
            route("10.1.0.0/24", Some("10.1.0.1")),
            route("default", Some("10.1.0.1")),
        ];
        assert_eq!(in_order(routes.into_iter()), expected);
    }

    #[test]
    fn an_address_without_its_networks_route_is_alone() {
        let of = |to: &str| Routed {
            index: 1,
            route: route(to, None),
            is_of_address: true,
        };
        let (four, six) = (of("10.1.0.0/24"), of("fd00::/64"));
        let routes = [&four, &six];
        for (own, expected) in [
            ("10.1.0.7/24", "10.1.0.7/24"),
            ("10.1.1.7/24", "10.1.1.7/32"),
            ("fd00::7/64", "fd00::7/64"),
            ("fd01::7/64", "fd01::7/128"),
            ("10.9.0.7/32", "10.9.0.7/32"),
        ] {
            assert_eq!(as_routed(address(own), &routes), address(expected), "{own}");
        }
    }
}
