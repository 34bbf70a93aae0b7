//! System calls of the vsock device: bytes move between a socket and guest memory
//! without a stop in between.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use vm_memory::VolatileSlice;

/// Most pieces in one call (`UIO_MAXIOV`).
pub const MAX_PIECES: usize = 1024;

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes read; 0 is the end of the stream.
    pub len: usize,
    /// The read stopped early, at a message with descriptors (which are
    /// dropped), so there may be more to read.
    pub cut_short: bool,
}

/// Sends from `pieces`, as much as the socket takes now; never blocks, never
/// raises SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let mut iovecs = iovecs(pieces);
    let message = message(&mut iovecs);
    // SAFETY: `message` points to `iovecs`, which outlives the call and holds
    // ranges that `VolatileSlice` guarantees to be mapped; they are only read,
    // by the kernel, which does not mind that the guest changes them meanwhile.
    let sent = unsafe {
        libc::sendmsg(
            socket.as_raw_fd(),
            &message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives into `pieces` what there is now; never blocks.
pub fn receive(socket: BorrowedFd<'_>, pieces: &[VolatileSlice<'_>]) -> io::Result<Received> {
    let mut iovecs = iovecs(pieces);
    let mut message = message(&mut iovecs);
    // SAFETY: as in `send`; the ranges are written by the kernel, and nobody
    // holds a reference into memory behind a `VolatileSlice`.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
    let len = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    Ok(Received {
        len,
        cut_short: message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// Asks for a send buffer of `bytes` (the kernel doubles it, and caps it).
pub fn set_send_buffer(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Raises the number of descriptors that this process may have towards
/// `wanted`, as far as it may. Returns the number.
pub fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local that outlives the call.
    super::check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur < wanted {
        limit.rlim_cur = wanted.min(limit.rlim_max);
        // SAFETY: as above.
        super::check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    }
    Ok(limit.rlim_cur)
}

fn iovecs(pieces: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    pieces
        .iter()
        .take(MAX_PIECES)
        .map(|piece| libc::iovec {
            iov_base: piece.ptr_guard_mut().as_ptr().cast(),
            iov_len: piece.len(),
        })
        .collect()
}

fn message(iovecs: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: a msghdr is plain data for which all zeros is a valid value: no
    // name, no control data, no flags.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = iovecs.as_mut_ptr();
    message.msg_iovlen = iovecs.len();
    message
}
