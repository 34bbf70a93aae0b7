//! One supervisor's connection: packets in, packets out, both bounded.
//!
//! What waits for a supervisor that does not read has a bound without anybody
//! hanging up, whatever the guest does: of streams by
//! [`crate::virtio::Places`], of disks because only the newest word on each
//! counts, of replies because no more calls are taken.

use crate::sys::socket;
use crate::virtio::{Interest, Outgoing};
use beluga_proto::control::MAX_PACKET;
use beluga_proto::{ControlCall, ControlMessage};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// So many replies may wait for a supervisor that does not read; then its calls
/// wait.
const MAX_REPLIES: usize = 64;

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
    waiting: VecDeque<Outgoing>,
    /// Replies among those that wait.
    replies: usize,
    watched: Interest,
}

impl Connection {
    /// A connection over a non-blocking packet socket, watched for
    /// [`Interest::IN`].
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            waiting: VecDeque::new(),
            replies: 0,
            watched: Interest::IN,
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

    /// Whether calls are to be received now.
    #[must_use]
    pub fn takes_calls(&self) -> bool {
        self.replies < MAX_REPLIES
    }

    /// Puts a message behind those that wait.
    pub fn push(&mut self, outgoing: Outgoing) {
        match &outgoing.message {
            ControlMessage::Reply { .. } => self.replies += 1,
            ControlMessage::DiskStalled { disk, .. } => {
                // What was to be said of this disk is out of date.
                self.waiting.retain(|old| {
                    !matches!(&old.message, ControlMessage::DiskStalled { disk: other, .. } if other == disk)
                });
            }
            ControlMessage::VsockOpened { .. } => {}
        }
        self.waiting.push_back(outgoing);
    }

    /// Sends what the socket takes. Gives what the socket is to be watched
    /// for from now on, if that has changed.
    pub fn flush(&mut self) -> Result<Option<Interest>, ConnectionError> {
        while let Some(next) = self.waiting.front() {
            let bytes = serde_json::to_vec(&next.message).map_err(ConnectionError::Malformed)?;
            let fd = next.fd.as_ref().map(AsRawFd::as_raw_fd);
            match socket::send(&self.socket, &bytes, fd) {
                Ok(()) => self.sent(),
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
        let mut wanted = Interest::empty();
        wanted.set(Interest::IN, self.takes_calls());
        wanted.set(Interest::OUT, !self.waiting.is_empty());
        if wanted == self.watched {
            return Ok(None);
        }
        self.watched = wanted;
        Ok(Some(wanted))
    }

    fn sent(&mut self) {
        let sent = self.waiting.pop_front();
        if matches!(
            sent,
            Some(Outgoing {
                message: ControlMessage::Reply { .. },
                ..
            })
        ) {
            self.replies -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::Places;
    use beluga_proto::control::{ControlReply, ControlRequest};

    /// A connection and the supervisor's end of it.
    fn connected() -> (Connection, OwnedFd) {
        let (ours, theirs) = socket::pair();
        (Connection::new(ours), theirs)
    }

    /// Reads one message, if there is one.
    fn read(supervisor: &OwnedFd) -> Option<ControlMessage> {
        let mut buffer = vec![0; MAX_PACKET];
        let packet = socket::receive(supervisor, &mut buffer).ok()?;
        serde_json::from_slice(&buffer[..packet.length]).ok()
    }

    fn reply(id: u64) -> Outgoing {
        let result = Ok(ControlReply::Done);
        ControlMessage::Reply { id, result }.into()
    }

    #[test]
    fn calls_wait_while_their_replies_are_not_read_and_none_is_lost() {
        let (mut connection, supervisor) = connected();
        let request = ControlRequest::Status;
        let call = serde_json::to_vec(&ControlCall { id: 1, request }).expect("JSON");
        let (mut called, mut answered, mut heard) = (0u64, 0u64, 0u64);
        while socket::send(&supervisor, &call, None).is_ok() {
            called += 1;
        }
        let mut most = 0;
        while heard < called {
            while connection.takes_calls()
                && let Some(_) = connection.receive().expect("a call")
            {
                answered += 1;
                connection.push(reply(answered));
                connection.flush().expect("open");
            }
            most = most.max(connection.waiting.len());
            let message = read(&supervisor).expect("there is always a next one");
            heard += 1;
            assert!(matches!(message, ControlMessage::Reply { id, .. } if id == heard));
            connection.flush().expect("open");
        }
        assert!(most <= MAX_REPLIES, "{most} replies waited");
        assert_eq!(connection.watched, Interest::IN);
    }

    #[test]
    fn of_a_disk_only_the_newest_word_waits() {
        let (mut connection, supervisor) = connected();
        let stalled = |disk: &str, stalled| ControlMessage::DiskStalled {
            disk: disk.to_owned(),
            stalled,
        };
        for turn in 0..10_000 {
            connection.push(stalled("a", turn % 2 == 0).into());
        }
        connection.push(stalled("b", true).into());
        connection.flush().expect("open");
        assert_eq!(read(&supervisor), Some(stalled("a", false)));
        assert_eq!(read(&supervisor), Some(stalled("b", true)));
        assert_eq!(read(&supervisor), None);
    }

    #[test]
    fn a_stream_has_its_place_until_the_supervisor_has_it() {
        let (mut connection, supervisor) = connected();
        let places = Places::new(3000);
        let mut opened = 0u32;
        while let Some(place) = places.take() {
            connection.push(Outgoing {
                message: ControlMessage::VsockOpened {
                    host_port: 1025,
                    guest_port: opened,
                },
                fd: None,
                place: Some(place),
            });
            connection.flush().expect("nobody hangs up");
            opened += 1;
            // More than a place for each that the socket holds is not to be had.
            if connection.waiting.len() == 2000 {
                break;
            }
        }
        let held = connection.waiting.len();
        for number in 0..opened {
            let message = read(&supervisor).expect("every stream is told of");
            assert!(
                matches!(message, ControlMessage::VsockOpened { guest_port, .. } if guest_port == number)
            );
            connection.flush().expect("open");
        }
        assert!(held > 1024 && connection.waiting.is_empty());
        let free = std::iter::from_fn(|| places.take()).collect::<Vec<_>>();
        assert_eq!(free.len(), 3000);
    }
}
