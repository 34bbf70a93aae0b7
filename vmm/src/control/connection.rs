//! One supervisor's connection: packets in, packets out, both bounded.

use crate::event_loop::Message;
use crate::sys::socket;
use crate::virtio::Interest;
use beluga_proto::ControlCall;
use beluga_proto::control::MAX_PACKET;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Most packets that wait for a supervisor that does not read.
const MAX_WAITING: usize = 1024;

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The supervisor went away.
    #[error("the supervisor closed it")]
    Closed,
    /// The system refused.
    #[error("the socket failed")]
    Host(#[source] io::Error),
    /// Not a call.
    #[error("a packet is no call")]
    Malformed(#[source] serde_json::Error),
    /// More bytes or descriptors than allowed.
    #[error("a packet is too long or has too many descriptors")]
    TooLong,
    /// The supervisor does not read.
    #[error("the supervisor left {MAX_WAITING} messages unread")]
    NotReading,
}

/// A call with the descriptors that came beside it.
#[derive(Debug)]
pub struct Received {
    /// The call.
    pub call: ControlCall,
    /// Its descriptors in order.
    pub fds: Vec<OwnedFd>,
}

/// A connected supervisor.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    waiting: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    watches_out: bool,
}

impl Connection {
    /// A connection over a non-blocking packet socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            waiting: VecDeque::new(),
            watches_out: false,
        }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The next call, if one is there.
    pub fn receive(&mut self) -> Result<Option<Received>, ConnectionError> {
        // One byte more than allowed shows a packet that is too long. The
        // memory goes back after the call: requests are rare.
        let mut buffer = vec![0; MAX_PACKET + 1];
        let packet = match socket::receive(&self.socket, &mut buffer) {
            Ok(packet) => packet,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                    io::ErrorKind::ConnectionReset => Err(ConnectionError::Closed),
                    _ => Err(ConnectionError::Host(error)),
                };
            }
        };
        if packet.length == 0 {
            return Err(ConnectionError::Closed);
        }
        if packet.truncated || packet.length > MAX_PACKET {
            return Err(ConnectionError::TooLong);
        }
        let call =
            serde_json::from_slice(&buffer[..packet.length]).map_err(ConnectionError::Malformed)?;
        Ok(Some(Received {
            call,
            fds: packet.fds,
        }))
    }

    /// Puts a message behind those that wait.
    pub fn push(&mut self, message: Message) -> Result<(), ConnectionError> {
        if self.waiting.len() == MAX_WAITING {
            return Err(ConnectionError::NotReading);
        }
        let (message, fd) = message;
        let bytes = serde_json::to_vec(&message).map_err(ConnectionError::Malformed)?;
        self.waiting.push_back((bytes, fd));
        Ok(())
    }

    /// Sends what the socket takes. Gives what the socket is to be watched
    /// for from now on, if that has changed.
    pub fn flush(&mut self) -> Result<Option<Interest>, ConnectionError> {
        while let Some((bytes, fd)) = self.waiting.front() {
            let fd = fd.as_ref().map(AsRawFd::as_raw_fd);
            match socket::send(&self.socket, bytes, fd) {
                Ok(()) => {
                    self.waiting.pop_front();
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break,
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                        return Err(ConnectionError::Closed);
                    }
                    _ => return Err(ConnectionError::Host(error)),
                },
            }
        }
        let watch_out = !self.waiting.is_empty();
        if watch_out == self.watches_out {
            return Ok(None);
        }
        self.watches_out = watch_out;
        Ok(Some(if watch_out {
            Interest::IN | Interest::OUT
        } else {
            Interest::IN
        }))
    }
}
