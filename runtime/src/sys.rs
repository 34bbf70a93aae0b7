//! What has no safe wrapper: taps, inherited descriptors, the event loop, namespaces.

pub mod netns;
pub mod pidns;
pub mod userns;

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

/// Enters namespaces of its own. Tables of descriptors are not among what is unshared.
pub fn leave_namespaces(flags: rustix::thread::UnshareFlags) -> rustix::io::Result<()> {
    let flags = flags - rustix::thread::UnshareFlags::FILES;
    // SAFETY: of what can be unshared only a table of descriptors, which is taken
    // out above, endangers the memory of others.
    unsafe { rustix::thread::unshare_unsafe(flags) }
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

/// Lets go of this program's code. What is needed again is mapped again from the
/// page cache, which keeps one copy for all pods; what only a start needs stays
/// out of this process's memory.
pub fn let_go_of_code() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    for (start, length) in code(&maps, &program.to_string_lossy()) {
        // SAFETY: a mapping of a file that is never written to reads the same
        // when it is read again; nobody unmaps the program meanwhile.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Start and length of the executable mappings of a program. Those hold nothing
/// but what is in the file: what the loader has changed is mapped otherwise.
fn code(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let parse = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (rest.starts_with("r-xp") && rest.ends_with(program)).then_some((start, end - start))
    };
    maps.lines().filter_map(parse).collect()
}

/// Registers a descriptor with the event loop.
pub fn watch(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` owns its descriptor, so the number that is
    // registered stays open and the same until it is deregistered on drop.
    unsafe { tokio::io::unix::AsyncFd::register(fd) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_may_be_executed_and_not_written() {
        let maps = "\
            1000-3000 r--p 00000000 fe:00 12  /bin/beluga\n\
            3000-a000 r-xp 00002000 fe:00 12  /bin/beluga\n\
            a000-b000 rw-p 00009000 fe:00 12  /bin/beluga\n\
            c000-d000 r-xp 00000000 fe:00 13  /lib/libc.so\n";
        assert_eq!(code(maps, "/bin/beluga"), [(0x3000, 0x7000)]);
        let_go_of_code();
    }
}
