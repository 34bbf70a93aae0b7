//! The supervisor's side of the VMM's control socket.

use crate::host::socket::with_address;
use beluga_proto::control::{MAX_FDS, MAX_PACKET};
use beluga_proto::{ControlCall, ControlMessage, ControlRequest};
use rustix::fs::Mode;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Why the VMM cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket.
    #[error("cannot {action} the VMM's control socket")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The VMM closed it.
    #[error("the VMM closed its control socket")]
    Closed,
    /// A packet that is not of the protocol.
    #[error("the VMM sent a packet that cannot be understood")]
    Packet {
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A packet longer than the protocol's limit.
    #[error("the VMM sent a packet over the limit of {MAX_PACKET} bytes")]
    TooLong,
}

/// A connection to a VMM.
#[derive(Debug)]
pub struct Control {
    socket: AsyncFd<OwnedFd>,
    calls: u64,
}

/// A listening control socket at `path`, for a VMM to inherit.
pub fn listen(path: &Path) -> Result<OwnedFd, ControlError> {
    let _ = std::fs::remove_file(path);
    let socket = socket(SocketFlags::CLOEXEC)?;
    with_address(path, |address| {
        // The file gets the socket's own mode: the VMM cannot tell users of the
        // host apart from within its namespace, so that this is its lock.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, address)?;
        rustix::net::listen(&socket, 4)
    })
    .map_err(socket_error("make"))?;
    Ok(socket)
}

fn socket(flags: SocketFlags) -> Result<OwnedFd, ControlError> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| socket_error("make")(errno.into()))
}

fn socket_error(action: &'static str) -> impl FnOnce(io::Error) -> ControlError {
    move |source| ControlError::Socket { action, source }
}

impl Control {
    /// Connects to the VMM that listens at `path`. Returns at once: the VMM
    /// accepts when it gets round to it.
    pub fn connect(path: &Path) -> Result<Self, ControlError> {
        let socket = socket(SocketFlags::CLOEXEC)?;
        with_address(path, |address| {
            rustix::net::connect(&socket, address)?;
            rustix::io::ioctl_fionbio(&socket, true)
        })
        .map_err(socket_error("connect to"))?;
        let socket = crate::sys::watch(socket).map_err(socket_error("watch"))?;
        Ok(Self { socket, calls: 0 })
    }

    /// Sends a request; the number under which its reply comes.
    pub async fn send(&mut self, request: ControlRequest) -> Result<u64, ControlError> {
        self.send_with(request, &[]).await
    }

    /// The same with descriptors beside it, at most [`MAX_FDS`].
    pub async fn send_with(
        &mut self,
        request: ControlRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<u64, ControlError> {
        self.calls += 1;
        let call = ControlCall {
            id: self.calls,
            request,
        };
        let bytes = serde_json::to_vec(&call).map_err(|source| ControlError::Packet { source })?;
        self.socket
            .async_io(Interest::WRITABLE, |socket| {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                let rights = SendAncillaryMessage::ScmRights(fds);
                if !fds.is_empty() && !ancillary.push(rights) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                let flags = SendFlags::NOSIGNAL;
                let slice = [IoSlice::new(&bytes)];
                Ok(rustix::net::sendmsg(socket, &slice, &mut ancillary, flags)?)
            })
            .await
            .map_err(socket_error("write to"))?;
        Ok(self.calls)
    }

    /// The next message and its descriptors. Safe to drop before it is done.
    pub async fn receive(&self) -> Result<(ControlMessage, Vec<OwnedFd>), ControlError> {
        let (bytes, fds) = self
            .socket
            .async_io(Interest::READABLE, receive_packet)
            .await
            .map_err(socket_error("read from"))?;
        if bytes.is_empty() {
            return Err(ControlError::Closed);
        }
        if bytes.len() > MAX_PACKET {
            return Err(ControlError::TooLong);
        }
        let message =
            serde_json::from_slice(&bytes).map_err(|source| ControlError::Packet { source })?;
        Ok((message, fds))
    }
}

fn receive_packet(socket: &OwnedFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    // Asks for the length first: most packets are short, and an idle
    // supervisor should not keep the longest in memory.
    let (_, length) = rustix::net::recv(
        socket,
        &mut [0u8; 0][..],
        RecvFlags::PEEK | RecvFlags::TRUNC,
    )?;
    let mut bytes = vec![0u8; length.clamp(1, MAX_PACKET + 1)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
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
    if received.flags.contains(ReturnFlags::TRUNC) {
        bytes.resize(MAX_PACKET + 1, 0);
    } else {
        bytes.truncate(received.bytes);
    }
    Ok((bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_control_socket_is_its_makers_alone() {
        let name = format!("beluga-control-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let socket = listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        drop(socket);
        std::fs::remove_file(path).unwrap();
        assert_eq!(mode & 0o777, 0o600);
    }
}
