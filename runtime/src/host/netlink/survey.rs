//! What a network namespace has: cards, addresses, routes.

use super::{Netlink, NetlinkError};
use beluga_proto::pod::{Address, Route};
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The interface that it leads out by.
    pub index: u32,
    /// Where to, and through whom.
    pub route: Route,
    /// The kernel made it for an address.
    pub is_of_address: bool,
}

impl Netlink {
    /// The MAC address of a link; zeros where it has none.
    pub fn mac(&mut self, name: &str) -> Result<[u8; 6], NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        let action = format!("look up the interface {name}");
        let answers = self.call(RouteNetlinkMessage::GetLink(message), 0, &action)?;
        let attributes = answers.into_iter().flat_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => link.attributes,
            _ => Vec::new(),
        });
        let mut found = attributes.filter_map(|one| match one {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes).ok(),
            _ => None,
        });
        Ok(found.next().unwrap_or_default())
    }

    /// Addresses that the link of that number has of its own making, IPv4 first;
    /// not those that are good on the link only.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<Address>, NetlinkError> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.call(message, NLM_F_DUMP, "list the addresses")?;
        let mut found = Vec::new();
        for answer in answers {
            let RouteNetlinkMessage::NewAddress(address) = answer else {
                continue;
            };
            let header = address.header;
            if header.index != index || header.scope != AddressScope::Universe {
                continue;
            }
            // Between two ends the address is the other's, and the local one ours.
            let mut ip = None;
            for one in address.attributes {
                match one {
                    AddressAttribute::Local(own) => ip = Some(own),
                    AddressAttribute::Address(any) => ip = ip.or(Some(any)),
                    _ => {}
                }
            }
            let prefix = header.prefix_len;
            found.extend(ip.map(|ip| Address { ip, prefix }));
        }
        found.sort_by_key(|address| address.ip.is_ipv6());
        Ok(found)
    }

    /// Routes of the main table that carry packets.
    pub fn routes(&mut self) -> Result<Vec<Routed>, NetlinkError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let message = RouteNetlinkMessage::GetRoute(message);
            let answers = self.call(message, NLM_F_DUMP, "list the routes")?;
            found.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => routed(&route),
                _ => None,
            }));
        }
        Ok(found)
    }
}

fn routed(message: &RouteMessage) -> Option<Routed> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let (mut to, mut via, mut index) = (None, None, None);
    for one in &message.attributes {
        match one {
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => via = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => via = Some((*address).into()),
            RouteAttribute::Oif(number) => index = Some(*number),
            _ => {}
        }
    }
    let prefix = header.destination_prefix_length;
    let to = to.map(|ip| Address { ip, prefix });
    // A default route of neither destination nor gateway says no family; it is
    // told by the one that it would lead to.
    let any = match header.address_family {
        AddressFamily::Inet6 => IpAddr::from([0u16; 8]),
        _ => IpAddr::from([0u8; 4]),
    };
    let to = to.or_else(|| via.is_none().then_some(Address { ip: any, prefix: 0 }));
    Some(Routed {
        index: index?,
        route: Route { to, via },
        is_of_address: header.protocol == RouteProtocol::Kernel,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
