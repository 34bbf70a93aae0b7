//! A network of a test's own, a process that makes one system call: what the
//! standard library has no form of.

use beluga_vmm::jail::Filters;
use beluga_vmm::jail::calls::ThreadKind;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// Takes the calling thread, and those that it starts, into a network namespace
/// of its own, without any device that is up.
pub fn enter_own_network() -> io::Result<()> {
    // SAFETY: the call takes a number and changes this thread only.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    // Nothing but what the test sends shall come. A kernel without IPv6 has no
    // such file, and sends none of that either.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    Ok(())
}

/// A tap in this thread's network, up, as a network card needs it; the host has
/// `address` on it.
pub fn tap(address: Ipv4Addr) -> io::Result<OwnedFd> {
    let tap = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let flags = libc::__c_anonymous_ifr_ifru {
        ifru_flags: flags as libc::c_short,
    };
    ioctl(&tap, TUNSETIFF, flags)?;
    // Any socket will do for these.
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0))?;
    let [a, b, c, d] = address.octets();
    let octets = [0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0];
    let address = libc::__c_anonymous_ifr_ifru {
        ifru_addr: libc::sockaddr {
            sa_family: libc::AF_INET as libc::sa_family_t,
            sa_data: octets.map(|byte: u8| byte.cast_signed()),
        },
    };
    ioctl(&socket, libc::SIOCSIFADDR, address)?;
    let up = libc::__c_anonymous_ifr_ifru {
        ifru_flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short,
    };
    ioctl(&socket, libc::SIOCSIFFLAGS, up)?;
    Ok(tap.into())
}

/// A call about the one interface that these tests make.
fn ioctl(
    fd: &impl AsRawFd,
    request: libc::c_ulong,
    value: libc::__c_anonymous_ifr_ifru,
) -> io::Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(b"tap0") {
        *to = from.cast_signed();
    }
    let mut interface = libc::ifreq {
        ifr_name: name,
        ifr_ifru: value,
    };
    // SAFETY: each of the requests above reads or writes one ifreq, which
    // outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut interface) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::geteuid() == 0 }
}

/// Makes one system call in a process that has a thread's filter: its exit status,
/// or the signal that ended it.
pub fn end_of_call(
    filters: &Filters,
    kind: ThreadKind,
    number: i64,
    [first, second, third]: [i64; 3],
) -> Result<i32, i32> {
    // SAFETY: the child allocates, which glibc allows after a fork, makes system
    // calls and ends; it runs nothing else of this program.
    let child = unsafe { libc::fork() };
    if child == 0 {
        if filters.install(kind).is_err() {
            // SAFETY: ends this process.
            unsafe { libc::_exit(2) };
        }
        // SAFETY: with these arguments it touches no memory, if it is made at all.
        unsafe { libc::syscall(number, first, second, third, 0_i64, -1_i64, 0_i64) };
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0, "a process");
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(ended, child);
    if libc::WIFSIGNALED(status) {
        return Err(libc::WTERMSIG(status));
    }
    Ok(libc::WEXITSTATUS(status))
}
