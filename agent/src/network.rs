//! The pod's network: cards found by their address, configured over rtnetlink.

use beluga_proto::pod::{Interface, Route};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// Why the network is not as the pod wants it.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is no socket to the kernel.
    #[error("cannot talk to the kernel about the network")]
    Socket {
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The cards could not be listed.
    #[error("cannot list the network cards")]
    List {
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// A card is missing.
    #[error("there is no network card with address {mac}")]
    NoSuchCard {
        /// Its address.
        mac: String,
    },
    /// The kernel refused a step.
    #[error("cannot {what}")]
    Step {
        /// Which.
        what: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// A request socket.
struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    fn open() -> Result<Self, NetworkError> {
        let socket = socket_with(
            rustix::net::AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is protocol 0.
            None,
        )
        .map_err(|errno| NetworkError::Socket {
            source: errno.into(),
        })?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends a request and takes the kernel's answer, which is there at once.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl FnOnce() -> String,
    ) -> Result<(), NetworkError> {
        self.exchange(message, flags)
            .map_err(|source| NetworkError::Step {
                what: what(),
                source,
            })
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        debug_assert!(matches!(message.payload, NetlinkPayload::InnerMessage(_)));
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::empty())?;
        let mut answer = [0u8; 4096];
        let (_, length) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        acknowledged(&answer[..length.min(answer.len())])
    }
}

/// Reads an `nlmsgerr`: header (16 bytes), then a negative errno or zero.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let code = answer
        .get(16..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_le_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) if code < 0 => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// Brings up loopback and every card of the pod.
pub fn configure(interfaces: &[Interface]) -> Result<(), NetworkError> {
    let mut netlink = Netlink::open()?;
    // Loopback is always the first link of a network namespace.
    let loopback = 1;
    netlink.request(up(loopback, Vec::new()), 0, || "bring up lo".to_owned())?;
    for interface in interfaces {
        configure_card(&mut netlink, interface)?;
    }
    Ok(())
}

fn configure_card(netlink: &mut Netlink, interface: &Interface) -> Result<(), NetworkError> {
    let (current, index) = find(interface)?;
    // Nobody advertises routes to a pod, and its addresses are unique: waiting
    // for the network to object would cost the first second. IPv6 may be off.
    for (name, value) in [("accept_ra", "0"), ("accept_dad", "0")] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{current}/{name}"), value);
    }
    let mut attributes = vec![LinkAttribute::Mtu(interface.mtu.into())];
    if current != interface.name {
        attributes.push(LinkAttribute::IfName(interface.name.clone()));
    }
    netlink.request(up(index, attributes), 0, || {
        format!("bring up {}", interface.name)
    })?;
    for address in &interface.addresses {
        netlink.request(
            add_address(index, address.ip, address.prefix),
            NLM_F_CREATE | NLM_F_REPLACE,
            || format!("give {} the address {}", interface.name, address.ip),
        )?;
    }
    for route in &interface.routes {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        netlink.request(add_route(index, route), flags, || {
            format!("add the route {route:?} of {}", interface.name)
        })?;
    }
    Ok(())
}

/// Name and index of the card with the address that the pod names.
fn find(interface: &Interface) -> Result<(String, u32), NetworkError> {
    let wanted = interface.mac.to_string();
    let list = |source| NetworkError::List { source };
    for entry in std::fs::read_dir("/sys/class/net").map_err(list)? {
        let path = entry.map_err(list)?.path();
        let read = |file| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        if read("address").trim() != wanted {
            continue;
        }
        if let (Some(name), Ok(index)) = (path.file_name(), read("ifindex").trim().parse()) {
            return Ok((name.to_string_lossy().into_owned(), index));
        }
    }
    Err(NetworkError::NoSuchCard { mac: wanted })
}

fn up(index: u32, attributes: Vec<LinkAttribute>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = attributes;
    RouteNetlinkMessage::SetLink(message)
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn add_address(index: u32, ip: IpAddr, prefix: u8) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Address(ip), AddressAttribute::Local(ip)];
    match ip {
        // Known broadcast address, as every other tool sets it.
        IpAddr::V4(v4) if prefix < 31 => {
            let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let broadcast = (u32::from(v4) | host).into();
            message
                .attributes
                .push(AddressAttribute::Broadcast(broadcast));
        }
        IpAddr::V4(_) => {}
        IpAddr::V6(_) => message.header.flags = AddressHeaderFlags::Nodad,
    }
    RouteNetlinkMessage::NewAddress(message)
}

fn add_route(index: u32, route: &Route) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    let ip = route.to.map(|to| to.ip).or(route.via);
    message.header.address_family = ip.map_or(AddressFamily::Inet, family);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    message.header.scope = match route.via {
        Some(_) => RouteScope::Universe,
        None => RouteScope::Link,
    };
    message.attributes.push(RouteAttribute::Oif(index));
    if let Some(to) = route.to {
        message.header.destination_prefix_length = to.prefix;
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(to.ip)));
    }
    if let Some(via) = route.via {
        message
            .attributes
            .push(RouteAttribute::Gateway(RouteAddress::from(via)));
    }
    RouteNetlinkMessage::NewRoute(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_read_and_never_trusted_to_be_whole() {
        let mut answer = [0u8; 36];
        assert!(acknowledged(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-17i32).to_le_bytes());
        let error = acknowledged(&answer).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(17));
        assert!(acknowledged(&answer[..18]).is_err());
        assert!(acknowledged(&[]).is_err());
    }
}
