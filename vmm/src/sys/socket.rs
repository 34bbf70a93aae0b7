//! `SOCK_SEQPACKET` unix sockets with descriptors beside the packets.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Who is at the other end of a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user when it connected.
    pub uid: u32,
}

/// One received packet.
#[derive(Debug)]
pub struct Packet {
    /// Bytes of it in the buffer.
    pub length: usize,
    /// The descriptors that came with it.
    pub fds: Vec<OwnedFd>,
    /// The packet or its descriptors did not fit.
    pub truncated: bool,
}

/// Space for a control message with [`beluga_proto::control::MAX_FDS`]
/// descriptors, aligned as the kernel wants it.
#[repr(C, align(8))]
struct ControlBuffer([u8; 16 + 4 * beluga_proto::control::MAX_FDS]);

/// Accepts a connection, non-blocking.
pub fn accept(listener: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: the address is not asked for.
    let fd = check(unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
        )
    })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a descriptor non-blocking.
pub fn set_nonblocking(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Whether the descriptor is a listening `SOCK_SEQPACKET` socket.
pub fn is_packet_listener(fd: &impl AsRawFd) -> bool {
    option(fd, libc::SO_TYPE).is_ok_and(|kind| kind == libc::SOCK_SEQPACKET)
        && option(fd, libc::SO_ACCEPTCONN).is_ok_and(|listens| listens != 0)
}

fn option(fd: &impl AsRawFd, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` has the `length` bytes that the option may fill.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    })?;
    Ok(value)
}

/// Who connected.
pub fn peer(fd: &impl AsRawFd) -> io::Result<Peer> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `credentials` has the `length` bytes that the option fills.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    })?;
    Ok(Peer {
        uid: credentials.uid,
    })
}

/// This process's effective user.
#[must_use]
pub fn own_uid() -> u32 {
    // SAFETY: no memory is passed; the call cannot fail.
    unsafe { libc::geteuid() }
}

/// Sends one packet, with a descriptor beside it.
pub fn send(socket: &impl AsRawFd, bytes: &[u8], fd: Option<RawFd>) -> io::Result<()> {
    let mut piece = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control = ControlBuffer([0; _]);
    let mut message = empty_message(&mut piece);
    if let Some(fd) = fd {
        let header = libc::cmsghdr {
            cmsg_len: 16 + 4,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        control.0[..8].copy_from_slice(&header.cmsg_len.to_ne_bytes());
        control.0[8..12].copy_from_slice(&header.cmsg_level.to_ne_bytes());
        control.0[12..16].copy_from_slice(&header.cmsg_type.to_ne_bytes());
        control.0[16..20].copy_from_slice(&fd.to_ne_bytes());
        message.msg_control = control.0.as_mut_ptr().cast();
        // One descriptor of four bytes, padded to eight.
        message.msg_controllen = 24;
    }
    // SAFETY: `message` points to one piece (`bytes`, only read) and to a
    // control buffer of at least `msg_controllen` bytes; both live here.
    check(unsafe {
        libc::sendmsg(
            socket.as_raw_fd(),
            &raw const message,
            libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
        )
    })
    .map(drop)
}

/// Receives one packet. A length of 0: the peer is gone (or sent nothing).
pub fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Packet> {
    let mut piece = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = ControlBuffer([0; _]);
    let mut message = empty_message(&mut piece);
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: `message` points to one piece (`buffer`) and to a control buffer
    // of `msg_controllen` bytes; both live here.
    let length = check(unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut message,
            libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT,
        )
    })?;
    Ok(Packet {
        length: length as usize,
        fds: take_fds(&control.0[..message.msg_controllen.min(control.0.len())]),
        truncated: message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
    })
}

fn empty_message(piece: &mut libc::iovec) -> libc::msghdr {
    libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: piece,
        msg_iovlen: 1,
        msg_control: std::ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}

/// The descriptors in received control messages (`cmsg(3)`: a header of
/// length, level and type, then the data, each padded to eight bytes).
fn take_fds(mut control: &[u8]) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    while control.len() >= 16 {
        let word = |at: usize| i32::from_ne_bytes(control[at..at + 4].try_into().unwrap_or([0; 4]));
        let length = usize::from_ne_bytes(control[..8].try_into().unwrap_or([0; 8]));
        if length < 16 || length > control.len() {
            break;
        }
        if word(8) == libc::SOL_SOCKET && word(12) == libc::SCM_RIGHTS {
            for bytes in control[16..length].as_chunks::<4>().0 {
                let number = i32::from_ne_bytes(*bytes);
                // SAFETY: the kernel has just put this descriptor into our
                // table for this message, so it is open and nobody else's.
                fds.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        control = &control[length.next_multiple_of(8).min(control.len())..];
    }
    fds
}

/// Two connected ends.
#[cfg(test)]
pub fn pair() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for two numbers.
    check(unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
            0,
            fds.as_mut_ptr(),
        )
    })
    .expect("a socket pair");
    // SAFETY: both are new and nobody else's.
    fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_carries_a_descriptor() {
        use std::io::{Read as _, Write as _};
        let (one, other) = pair();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(&one, b"hello", Some(writer.as_raw_fd())).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let mut packet = receive(&other, &mut buffer).unwrap();
        assert_eq!(&buffer[..packet.length], b"hello");
        assert!(!packet.truncated);
        let mut file = std::fs::File::from(packet.fds.remove(0));
        file.write_all(b"x").unwrap();
        drop(file);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn a_packet_that_does_not_fit_says_so() {
        let (one, other) = pair();
        send(&one, b"hello", None).unwrap();
        let packet = receive(&other, &mut [0; 2]).unwrap();
        assert!(packet.truncated);
        assert!(packet.fds.is_empty());
    }
}
