//! A TCP connection of an attempt: connects, sends, receives, never waits.

use crate::poller::{Poller, Token};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Most bytes of an answer that are looked at.
const MAX_ANSWER: usize = 64 << 10;

/// The connection.
pub struct Socket {
    /// To whom.
    pub address: SocketAddr,
    socket: OwnedFd,
    connected: bool,
    unsent: Vec<u8>,
    /// Where TLS is spoken over it, by somebody else.
    tls: Option<Tls>,
}

/// How far the connection of one who speaks TLS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    /// Not asked for yet.
    Wanted,
    /// Nobody has taken the connection yet.
    Asked,
    /// The answer comes piece by piece.
    Answers,
    /// There is no more of it.
    Ended,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct State {
    /// The other side has taken it.
    pub connected: bool,
    /// The other side will send no more, or has sent more than is looked at.
    pub ended: bool,
}

impl Socket {
    /// Begins to connect. Errors are what a person is told.
    pub fn open(address: SocketAddr, poller: &Poller, id: u32) -> Result<Self, String> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let told = |errno| told(address, errno);
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(told)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(told(errno)),
        }
        let watched = poller.add(&socket, Token::Check(id));
        watched.map_err(|error| format!("dial tcp {address}: {error}"))?;
        Ok(Self {
            address,
            socket,
            connected: false,
            unsent: Vec::new(),
            tls: None,
        })
    }

    /// The same for a connection over which somebody else speaks TLS.
    pub fn open_tls(address: SocketAddr, poller: &Poller, id: u32) -> Result<Self, String> {
        let mut socket = Self::open(address, poller, id)?;
        socket.tls = Some(Tls::Wanted);
        Ok(socket)
    }

    /// Whether somebody else speaks TLS over it.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Once, when it is connected: what is to be sent over TLS.
    pub fn wants_tls(&mut self, poller: &Poller) -> Option<Vec<u8>> {
        if self.tls != Some(Tls::Wanted) || !self.connected {
            return None;
        }
        self.tls = Some(Tls::Asked);
        poller.remove(&self.socket);
        Some(std::mem::take(&mut self.unsent))
    }

    /// The connection for who speaks TLS, once.
    pub fn for_tls(&mut self) -> Option<std::io::Result<OwnedFd>> {
        (self.tls == Some(Tls::Asked)).then(|| {
            self.tls = Some(Tls::Answers);
            self.socket.try_clone()
        })
    }

    /// Whether nobody has come to speak TLS.
    pub fn waits_for_tls(&self) -> bool {
        self.tls == Some(Tls::Asked)
    }

    /// The other side will send no more over TLS.
    pub fn tls_ended(&mut self) {
        self.tls = Some(Tls::Ended);
    }

    /// Sends these bytes after those before.
    pub fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// Does what can be done now; what came is appended to `answer`.
    pub fn advance(&mut self, answer: &mut Vec<u8>) -> Result<State, String> {
        let address = self.address;
        let told = |errno| told(address, errno);
        let mut ended = false;
        if !self.connected {
            rustix::net::sockopt::socket_error(&self.socket)
                .and_then(|result| result)
                .map_err(told)?;
            self.connected = rustix::net::getpeername(&self.socket).is_ok();
        }
        if self.tls.is_some() {
            ended = self.tls == Some(Tls::Ended) || answer.len() >= MAX_ANSWER;
        } else if self.connected {
            let sent = self.flush();
            // A server may answer and close before it has heard everything.
            ended = self.receive(answer).map_err(told)?;
            match sent {
                Err(errno) if answer.is_empty() => return Err(told(errno)),
                Err(_) => ended = true,
                Ok(()) => {}
            }
        }
        Ok(State {
            connected: self.connected,
            ended,
        })
    }

    fn flush(&mut self) -> Result<(), Errno> {
        while !self.unsent.is_empty() {
            match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn receive(&mut self, answer: &mut Vec<u8>) -> Result<bool, Errno> {
        let mut buffer = [0u8; 2048];
        while answer.len() < MAX_ANSWER {
            match rustix::io::read(&self.socket, &mut buffer) {
                Ok(0) => return Ok(true),
                Ok(bytes) => answer.extend_from_slice(&buffer[..bytes]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }

    /// Lets go of it.
    pub fn close(&mut self, poller: &Poller) {
        poller.remove(&self.socket);
    }
}

/// As a kubelet's log says it.
pub fn told(address: SocketAddr, errno: Errno) -> String {
    let why = std::io::Error::from(errno).to_string();
    let why = why.split(" (os error").next().unwrap_or_default();
    let step = match errno {
        Errno::CONNRESET | Errno::PIPE => "read",
        _ => "connect",
    };
    format!("dial tcp {address}: {step}: {}", why.to_lowercase())
}
