//! Connections from outside to a port of the pod, over vsock: they need no
//! network card.

use super::Agent;
use crate::check::told;
use beluga_proto::agent::StdioNonces;
use beluga_proto::{Fault, FaultCode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

impl Agent {
    /// Connects to what listens on the pod's loopback: over IPv4, else IPv6.
    pub(super) fn connect(&mut self, port: u16, nonces: &StdioNonces) -> Result<(), Fault> {
        self.admit_outside()?;
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        // What is told is about the address that most servers listen on.
        let socket = dial(v4).or_else(|errno| dial(v6).map_err(|_| errno));
        let socket = socket.map_err(|errno| {
            let code = match errno {
                Errno::CONNREFUSED => FaultCode::FailedPrecondition,
                _ => FaultCode::Internal,
            };
            Fault::new(code, told(v4, errno))
        })?;
        let opened = self.open_socket(socket, nonces);
        opened.map_err(|error| super::requests::failed_to("open the connection's streams", &error))
    }

    pub(super) fn open_socket(
        &mut self,
        socket: OwnedFd,
        nonces: &StdioNonces,
    ) -> std::io::Result<()> {
        let (Some(to), Some(from)) = (&nonces.stdin, &nonces.stdout) else {
            return Ok(());
        };
        let sink = socket.try_clone()?;
        let streams = &mut self.streams;
        let output = streams.open_output(&self.poller, socket, Some(from), false)?;
        let input = streams.open_input(&self.poller, sink, to, false);
        if let Err(error) = input {
            streams.close(&self.poller, output);
            return Err(error);
        }
        Ok(())
    }
}

/// A connection that stands, or is about to: on loopback the answer to the
/// first packet is there when the call returns.
fn dial(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    sockopt::socket_error(&socket)??;
    Ok(socket)
}
