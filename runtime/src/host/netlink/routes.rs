//! Routes of the host to networks of pods on other hosts.

use super::{Netlink, NetlinkError};
use crate::spec::Network;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

impl Netlink {
    /// Sends packets for a network to a neighbour. A route that is there already
    /// is no error.
    pub fn add_route(&mut self, network: Network, via: IpAddr) -> Result<(), NetlinkError> {
        let (ip, prefix) = network;
        let message = RouteNetlinkMessage::NewRoute(message(network, via));
        let action = format!("route {ip}/{prefix} to {via}");
        match self.change(message, NLM_F_CREATE | NLM_F_EXCL, action) {
            Err(NetlinkError::Refused { source, .. })
                if source.raw_os_error() == Some(libc::EEXIST) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Removes such a route. One that is not there is no error.
    pub fn delete_route(&mut self, network: Network, via: IpAddr) -> Result<(), NetlinkError> {
        let (ip, prefix) = network;
        let message = RouteNetlinkMessage::DelRoute(message(network, via));
        let action = format!("remove the route of {ip}/{prefix} to {via}");
        match self.change(message, 0, action) {
            Err(NetlinkError::Refused { source, .. })
                if source.raw_os_error() == Some(libc::ESRCH) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

fn message((ip, prefix): Network, via: IpAddr) -> RouteMessage {
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(address(ip)),
        RouteAttribute::Gateway(address(via)),
    ];
    message
}
