//! The resolver of a network: pods find each other by name.
//!
//! ```text
//!  keeper, root: the lock, leases.json, resolv.conf ──feed──► one that answers, in a jail
//!        starts it, with sockets on the bridge's address ──►  ◄── queries of guests
//! ```
//! What hostile guests send is parsed by the second alone, which answers what the
//! network's leases say and passes the rest on to the host's own name servers. It is a
//! user of its own, sees no file and makes few system calls ([`jail`]); the keeper reads
//! nothing but which file it wants ([`feed`]). Either ends with the other, and
//! [`crate::host::resolver`] says who starts the next.

mod answer;
mod feed;
mod forward;
pub mod jail;
mod names;
mod server;
#[cfg(test)]
mod tests;
mod turns;

use crate::host::lock::FileLock;
use crate::host::network::{LEASES, Net, has_ipv6};
use crate::host::resolver::{self, ANSWER, PORT, RESOLVE};
use crate::settings::Settings;
use crate::store::private;
use feed::{Feed, Source};
use rustix::io::FdFlags;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use tokio::task::LocalSet;

/// The host's own name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The main function of a resolver's keeper: `ROOT STATE GATEWAY LOCK-FD NETWORK`.
#[must_use]
pub fn resolver_main(args: &[OsString]) -> ExitCode {
    let texts: Option<Vec<&str>> = args.iter().map(|arg| arg.to_str()).collect();
    let Some([root, state, gateway, lock, name]) = texts.as_deref() else {
        tell!("beluga {RESOLVE} is started by beluga itself");
        return ExitCode::from(2);
    };
    private::by_default();
    // Its own session: no terminal's signals reach it.
    let _ = rustix::process::setsid();
    let settings = Settings::new(Some(root.into()), Some(state.into()));
    let (Ok(settings), Ok(gateway), Some(lock)) = (settings, gateway.parse(), inherited(lock))
    else {
        tell!("beluga {RESOLVE} is started by beluga itself");
        return ExitCode::from(2);
    };
    let lock = FileLock::inherited(lock);
    let Ok(net) = Net::open(&settings, name) else {
        // It has been removed meanwhile.
        return ExitCode::SUCCESS;
    };
    let ended = resolver::begin(&net).and_then(|()| keep(&net, gateway));
    drop(lock);
    if let Err(error) = ended {
        tell!("cannot resolve pods' names at {gateway}: {error}");
    }
    // The one that answers never ends by itself.
    ExitCode::FAILURE
}

/// Keeps the one that answers until it ends.
fn keep(net: &Net, gateway: IpAddr) -> io::Result<()> {
    let (own, feed) = UnixStream::pair()?;
    let child = begin_answering(net, gateway, feed)?;
    let held = rustix::thread::capabilities(None)?;
    // The kernel ends the one that answers in this process's name, which may not do so to
    // another user's without the right to it.
    let kill = held.permitted & CapabilitySet::KILL;
    let rights = CapabilitySets {
        effective: kill,
        permitted: kill,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::set_capabilities(None, rights)?;
    let servers = |bytes: Vec<u8>| {
        let found = forward::servers(&String::from_utf8_lossy(&bytes));
        serde_json::to_vec(&found).unwrap_or_default()
    };
    let leases = Source::new(net.home().join(LEASES), |bytes| bytes);
    let kept = feed::keep(own, leases, Source::new(RESOLV_CONF.into(), servers));
    // Not waited for: it is another user's by now, and the kernel ends it with this process.
    drop(child);
    kept
}

/// Starts it, with all that it will ever have open.
fn begin_answering(net: &Net, gateway: IpAddr, feed: UnixStream) -> io::Result<Child> {
    let socket = UdpSocket::bind((gateway, PORT))?;
    let listener = TcpListener::bind((gateway, PORT))?;
    socket.set_nonblocking(true)?;
    listener.set_nonblocking(true)?;
    let given = [socket.as_fd(), listener.as_fd(), feed.as_fd()];
    for fd in given {
        rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
    }
    Command::new(std::env::current_exe()?)
        .arg(ANSWER)
        .args([&net.settings().root, &net.settings().state])
        .args([&gateway.to_string(), net.name()])
        .args(given.map(|fd| fd.as_raw_fd().to_string()))
        .env_clear()
        .stdin(Stdio::null())
        .spawn()
}

/// The main function of the one that answers: `ROOT STATE GATEWAY NETWORK`, then the
/// descriptors of its sockets, of UDP and TCP, and of its feed.
#[must_use]
pub fn answer_main(args: &[OsString]) -> ExitCode {
    let texts: Option<Vec<&str>> = args.iter().map(|arg| arg.to_str()).collect();
    let Some([root, state, gateway, name, udp, tcp, feed]) = texts.as_deref() else {
        tell!("beluga {ANSWER} is started by beluga itself");
        return ExitCode::from(2);
    };
    let settings = Settings::new(Some(root.into()), Some(state.into()));
    let [udp, tcp, feed] = [udp, tcp, feed].map(|number| inherited(number));
    let (Ok(settings), Ok(gateway), Some(udp), Some(tcp), Some(feed)) =
        (settings, gateway.parse(), udp, tcp, feed)
    else {
        tell!("beluga {ANSWER} is started by beluga itself");
        return ExitCode::from(2);
    };
    let Ok(net) = Net::open(&settings, name) else {
        // It has been removed meanwhile.
        return ExitCode::SUCCESS;
    };
    let feed = Feed::new(UnixStream::from(feed));
    let answered = feed
        .map_err(AnswerError::from)
        .and_then(|feed| answer_all(net, gateway, (udp.into(), tcp.into()), feed));
    if let Err(error) = answered {
        tell!("{}", crate::error_chain(&error));
    }
    ExitCode::FAILURE
}

/// Why nobody is answered.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("the process that answers cannot be shut in")]
    Jail(#[from] jail::JailError),
    #[error("the sockets of the resolver fail")]
    Io(#[from] io::Error),
}

fn answer_all(
    net: Net,
    gateway: IpAddr,
    sockets: (UdpSocket, TcpListener),
    feed: Feed,
) -> Result<(), AnswerError> {
    // Not all that tokio has: what waits for signals and children opens more.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_io().enable_time().build()?;
    let has_ipv6 = has_ipv6();
    jail::enter(&net.bridge())?;
    jail::limit_calls()?;
    let served = server::serve((net, gateway, has_ipv6), sockets, feed);
    Ok(LocalSet::new().block_on(&runtime, served)?)
}

/// What the starter has left open for us.
fn inherited(number: &str) -> Option<OwnedFd> {
    let number = number.parse().ok().filter(|number| *number > 2)?;
    crate::sys::take_inherited(number)
}
