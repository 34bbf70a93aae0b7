//! What answers: sees the network's names and servers by the feed alone.

use super::answer::{Said, UDP_MAX, answer, refusal};
use super::feed::{Feed, Kind};
use super::forward;
use super::names::Names;
use super::turns::Turns;
use crate::host::network::{Leases, Net};
use domain::base::iana::Rcode;
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// What all queries share.
struct Shared {
    net: Net,
    gateway: IpAddr,
    has_ipv6: bool,
    feed: RefCell<Feed>,
    names: RefCell<Names>,
    servers: RefCell<Vec<SocketAddr>>,
    /// Queries that wait for others' answers.
    queries: Rc<Turns>,
    /// Connections, which take no turn of a query.
    connections: Rc<Turns>,
    socket: UdpSocket,
}

/// Answers for as long as the process lives. Of a network, with its gateway, and whether
/// the host has IPv6.
pub async fn serve(
    (net, gateway, has_ipv6): (Net, IpAddr, bool),
    (socket, listener): (std::net::UdpSocket, std::net::TcpListener),
    feed: Feed,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let shared = Rc::new(Shared {
        net,
        gateway,
        has_ipv6,
        feed: RefCell::new(feed),
        names: RefCell::default(),
        servers: RefCell::default(),
        queries: Rc::default(),
        connections: Rc::default(),
        socket: UdpSocket::from_std(socket)?,
    });
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
        if let Some(bytes) = self.feed.borrow_mut().ask(Kind::Leases) {
            let leases = serde_json::from_slice::<Leases>(&bytes).unwrap_or_default();
            let addresses = |host| self.net.addresses(self.has_ipv6, &leases, host);
            *names = Names::of(&leases, addresses);
        }
        answer(query, from.ip(), &names, limit)
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let mut servers = self.servers.borrow_mut();
        if let Some(bytes) = self.feed.borrow_mut().ask(Kind::Servers) {
            *servers = serde_json::from_slice(&bytes).unwrap_or_default();
        }
        servers.clone()
    }

    fn packet(self: &Rc<Self>, query: &[u8], from: SocketAddr) {
        match self.answer(query, from, UDP_MAX) {
            Said::Answer(answer) => drop(self.socket.try_send_to(&answer, from)),
            Said::Nothing => {}
            Said::Forward => {
                // Beyond its turns nobody is answered: clients ask again.
                let Some(turn) = self.queries.take(from.ip()) else {
                    return;
                };
                let (own, query) = (Rc::clone(self), query.to_vec());
                tokio::task::spawn_local(async move {
                    let _turn = turn;
                    let answer = forward::over_udp(&own.servers(), &query).await;
                    let answer = answer.unwrap_or_else(|| refusal(&query, Rcode::SERVFAIL));
                    let _ = own.socket.send_to(&answer, from).await;
                });
            }
        }
    }

    async fn connection(self: Rc<Self>, mut stream: TcpStream, from: SocketAddr) {
        let Some(_turn) = self.connections.take(from.ip()) else {
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
