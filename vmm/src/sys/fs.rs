//! System calls of the shared directory's device: one packet is one request or
//! one answer, moved between a socket and guest memory.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use vm_memory::VolatileSlice;

/// Sends one packet: `head`, then `pieces`. All of it or nothing; never blocks,
/// never raises SIGPIPE.
pub fn send(
    socket: BorrowedFd<'_>,
    head: &mut [u8],
    pieces: &[VolatileSlice<'_>],
) -> io::Result<()> {
    let mut iovecs = vec![libc::iovec {
        iov_base: head.as_mut_ptr().cast(),
        iov_len: head.len(),
    }];
    iovecs.extend(pieces.iter().map(iovec));
    let message = message(&mut iovecs);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `message` points to `iovecs`, which outlives the call and holds
    // `head`, borrowed for it, and mapped ranges of guest memory, into which
    // nobody has a reference; the kernel only reads them.
    super::check(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) }).map(drop)
}

/// Looks at the next packet without taking it: its first bytes, and its length.
/// No byte at all: the other end is closed.
pub fn peek(socket: BorrowedFd<'_>, head: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_TRUNC;
    // SAFETY: `head` is borrowed for the call and as long as is said.
    let length = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            head.as_mut_ptr().cast(),
            head.len(),
            flags,
        )
    };
    super::check(length).map(|length| length as usize)
}

/// Takes the next packet into guest memory; what has no room is lost.
pub fn receive(socket: BorrowedFd<'_>, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let mut iovecs: Vec<libc::iovec> = pieces.iter().map(iovec).collect();
    let mut message = message(&mut iovecs);
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: as in `send`; the ranges are written by the kernel, and nobody
    // holds a reference into memory behind a `VolatileSlice`. No room is given
    // for descriptors: the kernel closes what comes.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    super::check(length).map(|length| length as usize)
}

fn iovec(piece: &VolatileSlice<'_>) -> libc::iovec {
    libc::iovec {
        iov_base: piece.ptr_guard_mut().as_ptr().cast(),
        iov_len: piece.len(),
    }
}

fn message(iovecs: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: a msghdr is plain data for which all zeros is a valid value: no
    // name, no control data, no flags.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = iovecs.as_mut_ptr();
    message.msg_iovlen = iovecs.len();
    message
}
