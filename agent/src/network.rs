//! The pod's network: cards found by their address, configured over rtnetlink.

mod rtnetlink;

use beluga_proto::pod::Interface;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::io;
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
        Ok(Self { socket })
    }

    /// Sends a request and takes the kernel's answer, which is there at once.
    fn request(&self, message: &[u8], what: impl FnOnce() -> String) -> Result<(), NetworkError> {
        self.exchange(message).map_err(|source| NetworkError::Step {
            what: what(),
            source,
        })
    }

    fn exchange(&self, message: &[u8]) -> io::Result<()> {
        send(&self.socket, message, SendFlags::empty())?;
        let mut answer = [0u8; 4096];
        let (_, length) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        rtnetlink::acknowledged(&answer[..length.min(answer.len())])
    }
}

/// Brings up loopback and every card of the pod.
pub fn configure(interfaces: &[Interface]) -> Result<(), NetworkError> {
    let netlink = Netlink::open()?;
    // Loopback is always the first link of a network namespace.
    let loopback = 1;
    let up = rtnetlink::bring_up(loopback, None, None);
    netlink.request(&up, || "bring up lo".to_owned())?;
    for interface in interfaces {
        configure_card(&netlink, interface)?;
    }
    Ok(())
}

fn configure_card(netlink: &Netlink, interface: &Interface) -> Result<(), NetworkError> {
    let (current, index) = find(interface)?;
    // Nobody advertises routes to a pod, and its addresses are unique: waiting
    // for the network to object would cost the first second. IPv6 may be off.
    for (name, value) in [("accept_ra", "0"), ("accept_dad", "0")] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{current}/{name}"), value);
    }
    let name = (current != interface.name).then_some(interface.name.as_str());
    let up = rtnetlink::bring_up(index, Some(interface.mtu.into()), name);
    netlink.request(&up, || format!("bring up {}", interface.name))?;
    for address in &interface.addresses {
        netlink.request(&rtnetlink::add_address(index, address), || {
            format!("give {} the address {}", interface.name, address.ip)
        })?;
    }
    for route in &interface.routes {
        netlink.request(&rtnetlink::add_route(index, route), || {
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
