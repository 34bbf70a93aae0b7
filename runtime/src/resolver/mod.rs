//! The resolver of a network: pods find each other by name.
//!
//! A process of its own ([`crate::host::resolver`] says whose), which listens on
//! the bridge's address, answers what the network's leases say, and passes the
//! rest on to the host's own name servers. It parses what hostile guests send:
//! it has no capabilities, and little memory to fill.

mod answer;
mod forward;
mod names;

use crate::host::lock::FileLock;
use crate::host::network::{LEASES, Leases, Net};
use crate::host::resolver::{self, PORT, RESOLVE};
use crate::settings::Settings;
use crate::store::private;
use answer::{Said, UDP_MAX, answer, refusal};
use domain::base::iana::Rcode;
use names::Names;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

/// The host's own name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Most queries that wait for others' answers, and most connections.
const MAX_WAITING: usize = 128;

/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// The main function of a resolver: `ROOT STATE GATEWAY LOCK-FD NETWORK`.
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
    let Ok(net) = Net::open(&settings, name) else {
        // It has been removed meanwhile.
        return ExitCode::SUCCESS;
    };
    let ended = resolver::begin(&net)
        .and_then(|()| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
        })
        .and_then(|runtime| LocalSet::new().block_on(&runtime, serve(net, gateway)));
    drop(lock);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell!("cannot resolve pods' names at {gateway}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The lock that the starter took for us: held for as long as we live.
fn inherited(number: &str) -> Option<FileLock> {
    let number = number.parse().ok().filter(|number| *number > 2)?;
    crate::sys::take_inherited(number).map(FileLock::inherited)
}

/// What all queries share.
struct Shared {
    net: Net,
    gateway: IpAddr,
    names: RefCell<Cached<Names>>,
    servers: RefCell<Cached<Vec<SocketAddr>>>,
    waiting: Semaphore,
    socket: UdpSocket,
}

async fn serve(net: Net, gateway: IpAddr) -> io::Result<()> {
    let address = (gateway, PORT);
    let listener = TcpListener::bind(address).await?;
    let shared = Rc::new(Shared {
        names: RefCell::new(Cached::new(net.home().join(LEASES))),
        servers: RefCell::new(Cached::new(RESOLV_CONF.into())),
        waiting: Semaphore::new(MAX_WAITING),
        socket: UdpSocket::bind(address).await?,
        net,
        gateway,
    });
    // Everything that needs rights is open.
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::set_capabilities(None, none)?;
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            packet = shared.socket.recv_from(&mut buffer) => match packet {
                Ok((length, from)) => shared.packet(&buffer[..length], from),
                // An ICMP error about an earlier answer.
                Err(_) => continue,
            },
            accepted = listener.accept() => {
                if let Ok((stream, from)) = accepted {
                    tokio::task::spawn_local(Rc::clone(&shared).connection(stream, from));
                }
            }
        }
    }
}

impl Shared {
    /// What is known to answer with.
    fn answer(&self, query: &[u8], from: SocketAddr, limit: usize) -> Said {
        if !self.net.is_neighbour(self.gateway, from.ip()) {
            return Said::Nothing;
        }
        let mut names = self.names.borrow_mut();
        let names = names.get(|bytes| {
            let leases = serde_json::from_slice::<Leases>(bytes).unwrap_or_default();
            Names::of(&leases, |host| self.net.addresses(&leases, host))
        });
        answer(query, from.ip(), names, limit)
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let mut servers = self.servers.borrow_mut();
        let parse = |bytes: &[u8]| forward::servers(&String::from_utf8_lossy(bytes));
        servers.get(parse).clone()
    }

    fn packet(self: &Rc<Self>, query: &[u8], from: SocketAddr) {
        match self.answer(query, from, UDP_MAX) {
            Said::Answer(answer) => drop(self.socket.try_send_to(&answer, from)),
            Said::Nothing => {}
            Said::Forward => {
                let (own, query) = (Rc::clone(self), query.to_vec());
                tokio::task::spawn_local(async move {
                    // Beyond that nobody is answered: clients ask again.
                    let Ok(_permit) = own.waiting.try_acquire() else {
                        return;
                    };
                    let answer = forward::over_udp(&own.servers(), &query).await;
                    let answer = answer.unwrap_or_else(|| refusal(&query, Rcode::SERVFAIL));
                    let _ = own.socket.send_to(&answer, from).await;
                });
            }
        }
    }

    async fn connection(self: Rc<Self>, mut stream: TcpStream, from: SocketAddr) {
        let Ok(_permit) = self.waiting.try_acquire() else {
            return;
        };
        while let Ok(Ok(query)) = tokio::time::timeout(SILENCE, forward::read(&mut stream)).await {
            let answer = match self.answer(&query, from, usize::from(u16::MAX)) {
                Said::Answer(answer) => answer,
                Said::Nothing => return,
                Said::Forward => forward::over_tcp(&self.servers(), &query)
                    .await
                    .unwrap_or_else(|| refusal(&query, Rcode::SERVFAIL)),
            };
            let written = forward::write(&mut stream, &answer);
            if !matches!(tokio::time::timeout(SILENCE, written).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// What a file says, read anew when it is another.
struct Cached<T> {
    path: PathBuf,
    stamp: Option<(SystemTime, u64, u64)>,
    value: T,
}

impl<T: Default> Cached<T> {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            stamp: None,
            value: T::default(),
        }
    }

    fn get(&mut self, parse: impl FnOnce(&[u8]) -> T) -> &T {
        let stamp = stamp(&self.path);
        if stamp != self.stamp || stamp.is_none() {
            // Read after the look: what comes in between is seen next time.
            self.value = std::fs::read(&self.path).map_or_else(|_| T::default(), |it| parse(&it));
            self.stamp = stamp;
        }
        &self.value
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.ino(), found.len()))
}
