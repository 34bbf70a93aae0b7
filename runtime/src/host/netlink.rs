//! Links and addresses of the host over rtnetlink. Synchronous: each request
//! is answered by the kernel before `recv` could sleep.

mod redirect;
mod routes;
mod survey;

pub use survey::Routed;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily as SocketFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

/// Why the kernel's network configuration cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket does not work.
    #[error("cannot talk to the kernel's network configuration")]
    Socket {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {action}")]
    Refused {
        /// What was asked for.
        action: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer cannot be read.
    #[error("the kernel's answer about the network cannot be understood: {detail}")]
    Answer {
        /// What the parser says.
        detail: String,
    },
}

impl NetlinkError {
    /// Whether the kernel said that this does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { source, .. }
            if matches!(source.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)))
    }
}

/// A connection to the kernel's routing tables.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A network interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Number in the kernel.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// Largest packet in bytes.
    pub mtu: u32,
}

impl Netlink {
    /// Connects. Errors where there is no such socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let socket_error = |errno: rustix::io::Errno| NetlinkError::Socket {
            source: errno.into(),
        };
        let socket = rustix::net::socket_with(
            SocketFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is 0, the default.
            None,
        )
        .map_err(socket_error)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0)).map_err(socket_error)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Makes a bridge with this address, that is up. Errors when it exists.
    pub fn add_bridge(&mut self, name: &str, mac: [u8; 6], mtu: u16) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::Mtu(u32::from(mtu)),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.change(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
            format!("make the bridge {name}"),
        )
    }

    /// Gives a link an address. One that it has already is no error.
    pub fn add_address(
        &mut self,
        link: &Link,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.prefix_len = prefix;
        message.header.index = link.index;
        if address.is_ipv6() {
            // Nobody else has it: it counts at once.
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(address),
        ];
        let action = format!("give {} the address {address}/{prefix}", link.name);
        match self.change(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
            action,
        ) {
            Err(NetlinkError::Refused { source, .. })
                if source.raw_os_error() == Some(libc::EEXIST) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Makes a link a port of a bridge and sets it up.
    pub fn join_bridge(&mut self, port: &str, bridge: &Link, mtu: u16) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(port.to_owned()),
            LinkAttribute::Mtu(u32::from(mtu)),
            LinkAttribute::Controller(bridge.index),
        ];
        self.change(
            RouteNetlinkMessage::SetLink(message),
            0,
            format!("make {port} a port of {}", bridge.name),
        )
    }

    /// Removes a link. One that is not there is no error.
    pub fn delete_link(&mut self, name: &str) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        let action = format!("remove the interface {name}");
        match self.change(RouteNetlinkMessage::DelLink(message), 0, action) {
            Err(error) if error.is_absent() => Ok(()),
            other => other,
        }
    }

    /// The link of that name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        let action = format!("look up the interface {name}");
        match self.call(RouteNetlinkMessage::GetLink(message), 0, &action) {
            Ok(answers) => Ok(answers.into_iter().find_map(as_link)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let answers = self.call(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            NLM_F_DUMP,
            "list the interfaces",
        )?;
        Ok(answers.into_iter().filter_map(as_link).collect())
    }

    /// Networks that the host has IPv4 routes to, but for the default route.
    pub fn routed_networks(&mut self) -> Result<Vec<(Ipv4Addr, u8)>, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.call(
            RouteNetlinkMessage::GetRoute(message),
            NLM_F_DUMP,
            "list the routes",
        )?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => {
                    let prefix = route.header.destination_prefix_length;
                    route
                        .attributes
                        .into_iter()
                        .find_map(|attribute| match attribute {
                            RouteAttribute::Destination(RouteAddress::Inet(network)) => {
                                Some((network, prefix))
                            }
                            _ => None,
                        })
                }
                _ => None,
            })
            .collect())
    }

    /// Interfaces that the host's default routes lead to.
    pub fn uplinks(&mut self) -> Result<Vec<u32>, NetlinkError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let action = "list the routes";
            let answers = self.call(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, action)?;
            for answer in answers {
                let RouteNetlinkMessage::NewRoute(route) = answer else {
                    continue;
                };
                let is_default = route.header.destination_prefix_length == 0
                    && route.header.kind == RouteType::Unicast;
                let out = route.attributes.iter().find_map(|one| match one {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                });
                found.extend(out.filter(|_| is_default));
            }
        }
        Ok(found)
    }

    fn change(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        action: String,
    ) -> Result<(), NetlinkError> {
        self.call(message, flags | NLM_F_ACK, &action).map(drop)
    }

    /// Sends a request; gives back what the kernel sends before its closing
    /// acknowledgement (or the one answer of a look-up).
    fn call(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        action: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0u8; request.buffer_len()];
        request.serialize(&mut bytes);
        let socket_error = |errno: rustix::io::Errno| NetlinkError::Socket {
            source: errno.into(),
        };
        rustix::net::send(&self.socket, &bytes, SendFlags::empty()).map_err(socket_error)?;
        let is_single = flags & (NLM_F_DUMP | NLM_F_ACK) == 0;
        let mut answers = Vec::new();
        let mut buffer = vec![0u8; 32 << 10];
        loop {
            let (length, _) =
                rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())
                    .map_err(socket_error)?;
            let mut rest = &buffer[..length.min(buffer.len())];
            while !rest.is_empty() {
                let answer =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(|error| {
                        NetlinkError::Answer {
                            detail: error.to_string(),
                        }
                    })?;
                let used = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(used.max(4)..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(answers),
                            Some(_) => Err(NetlinkError::Refused {
                                action: action.to_owned(),
                                source: error.to_io(),
                            }),
                        };
                    }
                    NetlinkPayload::InnerMessage(inner) => {
                        answers.push(inner);
                        if is_single {
                            return Ok(answers);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

fn as_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        master: None,
        mtu: 0,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            _ => {}
        }
    }
    Some(link)
}
