//! Frames and descriptors over a unix stream socket.

use crate::host::socket::with_address;
use beluga_proto::{FrameDecoder, FrameError, encode};
use rustix::fs::Mode;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Most descriptors with one frame.
const MAX_FDS: usize = 4;

/// Bytes read at a time.
const READ_SIZE: usize = 4 << 10;

/// Why a conversation with a supervisor or its client ended.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket.
    #[error("cannot {action} the supervisor's socket")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is somebody else's: what it is told and what it answers is not the pod's.
    #[error("the supervisor's socket is user {uid}'s: the pod's state directory is not its own")]
    Stranger {
        /// Who listens.
        uid: u32,
    },
    /// A frame that is not of the protocol.
    #[error("the conversation with the pod's supervisor is broken")]
    Frame(#[from] FrameError),
}

/// One end of a conversation.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    decoder: FrameDecoder,
    fds: VecDeque<OwnedFd>,
}

/// Clients that may wait for a supervisor to take them.
pub const BACKLOG: i32 = 64;

/// A listening socket at `path`, for a supervisor to inherit.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let _ = std::fs::remove_file(path);
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    with_address(path, |address| {
        // The file gets the socket's own mode, whatever the umask.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, address)?;
        rustix::net::listen(&socket, BACKLOG)
    })?;
    Ok(socket)
}

/// Root and we ourselves: of whom both ends of a conversation may be.
#[must_use]
pub(crate) fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

impl Channel {
    /// A conversation over a connected stream.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            decoder: FrameDecoder::new(),
            fds: VecDeque::new(),
        }
    }

    /// Connects to the supervisor that listens at `path`.
    pub fn connect(path: &Path) -> Result<Self, ChannelError> {
        let error = |source| ChannelError::Socket {
            action: "connect to",
            source,
        };
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| error(errno.into()))?;
        with_address(path, |address| rustix::net::connect(&socket, address)).map_err(error)?;
        let peer = rustix::net::sockopt::socket_peercred(&socket);
        let uid = peer.map_err(|errno| error(errno.into()))?.uid.as_raw();
        if !is_trusted(uid) {
            return Err(ChannelError::Stranger { uid });
        }
        crate::link::adopt(socket).map(Self::new).map_err(error)
    }

    /// Sends a message with descriptors beside it.
    pub async fn send<T: Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let bytes = encode(message)?;
        let error = |source| ChannelError::Socket {
            action: "write to",
            source,
        };
        let mut sent = 0;
        while sent < bytes.len() {
            // Descriptors go with the first byte.
            let fds = if sent == 0 { fds } else { &[] };
            let rest = &bytes[sent..];
            sent += self
                .stream
                .async_io(Interest::WRITABLE, || send_some(&self.stream, rest, fds))
                .await
                .map_err(error)?;
        }
        Ok(())
    }

    /// The next message; `None` when the other side has closed.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ChannelError> {
        loop {
            if let Some(message) = self.decoder.next_frame()? {
                return Ok(Some(message));
            }
            let mut buffer = [0u8; READ_SIZE];
            let (length, fds) = self
                .stream
                .async_io(Interest::READABLE, || {
                    receive_some(&self.stream, &mut buffer)
                })
                .await
                .map_err(|source| ChannelError::Socket {
                    action: "read from",
                    source,
                })?;
            self.fds.extend(fds);
            if length == 0 {
                return Ok(None);
            }
            self.decoder.feed(&buffer[..length]);
        }
    }

    /// The process at the other end.
    pub fn peer(&self) -> Option<i32> {
        self.stream.peer_cred().ok()?.pid()
    }

    /// The next descriptor that came beside a message.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(rustix::net::sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )?)
}

fn receive_some(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(buffer)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let fds = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        })
        .flatten()
        .collect();
    Ok((received.bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_among_root_and_ourselves() {
        let own = rustix::process::geteuid().as_raw();
        assert!(is_trusted(0) && is_trusted(own));
        assert!(!is_trusted(own + 1) && !is_trusted(65_534));
    }
    use std::os::fd::AsFd as _;

    #[test]
    fn messages_and_descriptors_arrive_together() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (one, two) = UnixStream::pair().unwrap();
            let (one, mut two) = (Channel::new(one), Channel::new(two));
            let file = std::fs::File::open("/dev/null").unwrap();
            one.send(&"plain", &[]).await.unwrap();
            one.send(&"with", &[file.as_fd()]).await.unwrap();
            assert_eq!(two.receive::<String>().await.unwrap().unwrap(), "plain");
            assert_eq!(two.receive::<String>().await.unwrap().unwrap(), "with");
            assert!(two.take_fd().is_some() && two.take_fd().is_none());
            drop(one);
            assert!(two.receive::<String>().await.unwrap().is_none());
        });
    }
}
