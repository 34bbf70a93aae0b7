//! What has no safe wrapper: taps, inherited descriptors, the event loop.

use std::ffi::{c_int, c_short};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// Bytes of the header before each packet: `virtio_net_hdr_v1`, which a
/// virtio 1 card uses whether buffers are mergeable or not.
const VNET_HEADER_BYTES: c_int = 12;

/// Longest name of an interface, without the final zero.
pub const MAX_IFNAME: usize = libc::IFNAMSIZ - 1;

/// Makes a tap that lives as long as its descriptor is open somewhere, so that
/// the kernel removes it with the last of VMM and supervisor.
/// Errors when the name is too long or in use, and without the right to do it.
pub fn open_tap(name: &str) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    if name.is_empty() || name.len() > MAX_IFNAME || name.contains('%') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tap = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    // SAFETY: all-zero bytes are a valid `ifreq`, which is plain old data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL) as c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    let header = VNET_HEADER_BYTES;
    // SAFETY: TUNSETVNETHDRSZ reads one `int`, which outlives the call.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const header) })?;
    Ok(tap)
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Takes over an inherited descriptor and keeps it from the programs that this
/// process runs. `None` when there is none of that number.
#[must_use]
pub fn take_inherited(number: i32) -> Option<OwnedFd> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: F_SETFD on any number is harmless; it fails when it is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: it is open (above), and whoever started us left it for us alone:
    // called once per number, before anything else is opened.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Registers a descriptor with the event loop.
pub fn watch(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` owns its descriptor, so the number that is
    // registered stays open and the same until it is deregistered on drop.
    unsafe { tokio::io::unix::AsyncFd::register(fd) }.map_err(io::Error::from)
}
