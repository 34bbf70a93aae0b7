//! System calls of the net device.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use vm_memory::VolatileSlice;

/// `TUN_F_*`: what the owner of a tap can receive (linux/if_tun.h).
pub const TUN_F_CSUM: libc::c_uint = 0x01;
/// TCP segmentation over IPv4.
pub const TUN_F_TSO4: libc::c_uint = 0x02;
/// TCP segmentation over IPv6.
pub const TUN_F_TSO6: libc::c_uint = 0x04;
/// TCP segmentation of packets with ECN.
pub const TUN_F_TSO_ECN: libc::c_uint = 0x08;
/// UDP segmentation over IPv4. The kernel takes it only together with the next.
pub const TUN_F_USO4: libc::c_uint = 0x20;
/// UDP segmentation over IPv6.
pub const TUN_F_USO6: libc::c_uint = 0x40;

const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;

/// Most pieces in one call.
const MAX_PIECES: usize = 1024;

/// Sets the size of the header in front of every packet in bytes.
pub fn set_header_size(tap: BorrowedFd<'_>, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int, which outlives the call.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETVNETHDRSZ, &raw const bytes) };
    super::check(result).map(drop)
}

/// Tells the kernel which offloaded packets may come out of the tap.
pub fn set_offload(tap: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the argument of TUNSETOFFLOAD is a number, not an address.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETOFFLOAD, libc::c_ulong::from(flags)) };
    super::check(result).map(drop)
}

/// Makes reads and writes return at once.
pub fn set_nonblocking(tap: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument.
    let flags = super::check(unsafe { libc::fcntl(tap.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes a number.
    let result = unsafe { libc::fcntl(tap.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) };
    super::check(result).map(drop)
}

/// Reads one packet into guest memory; what exceeds `pieces` goes to `spill`.
/// Returns the length of the packet, cut at the room there is.
pub fn read_packet(
    tap: BorrowedFd<'_>,
    pieces: &[VolatileSlice<'_>],
    spill: &mut [u8],
) -> io::Result<usize> {
    let mut iovecs = iovecs(&pieces[..pieces.len().min(MAX_PIECES - 1)]);
    if !spill.is_empty() {
        iovecs.push(libc::iovec {
            iov_base: spill.as_mut_ptr().cast(),
            iov_len: spill.len(),
        });
    }
    // SAFETY: `iovecs` outlives the call and holds mapped ranges that nobody
    // has a reference into (guest memory), and `spill`, borrowed for the call.
    let read = unsafe {
        libc::readv(
            tap.as_raw_fd(),
            iovecs.as_ptr(),
            iovecs.len() as libc::c_int,
        )
    };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Writes one packet from guest memory.
pub fn write_packet(tap: BorrowedFd<'_>, pieces: &[VolatileSlice<'_>]) -> io::Result<()> {
    let iovecs = iovecs(&pieces[..pieces.len().min(MAX_PIECES)]);
    // SAFETY: `iovecs` outlives the call and holds mapped ranges; the kernel
    // copies from them and does not mind that the guest changes them meanwhile.
    let written = unsafe {
        libc::writev(
            tap.as_raw_fd(),
            iovecs.as_ptr(),
            iovecs.len() as libc::c_int,
        )
    };
    super::check(written).map(drop)
}

fn iovecs(pieces: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    pieces
        .iter()
        .map(|piece| libc::iovec {
            iov_base: piece.ptr_guard_mut().as_ptr().cast(),
            iov_len: piece.len(),
        })
        .collect()
}
