//! Asks the host's own name servers for what is no pod's name.

use super::answer::is_answer;
use crate::pod::random_bytes;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long a server is waited for before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most servers, as a resolver reads them (resolv.conf(5)).
const MAX_SERVERS: usize = 3;

/// Longest answer over UDP that is passed on: what EDNS may ask for.
const LONGEST: usize = 65535;

/// The servers of a resolv.conf, those on the host's loopback too.
pub fn servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_server = words.next() == Some("nameserver");
        let ip = is_server.then(|| words.next()).flatten()?;
        Some(SocketAddr::new(ip.parse().ok()?, super::PORT))
    });
    lines.take(MAX_SERVERS).collect()
}

/// Asks one server after another; `None` when none answers.
pub async fn over_udp(servers: &[SocketAddr], query: &[u8]) -> Option<Vec<u8>> {
    for server in servers {
        if let Ok(Ok(answer)) = timeout(PATIENCE, ask(*server, query)).await {
            return Some(answer);
        }
    }
    None
}

/// From a port and with a number of its own, so that nobody guesses them.
async fn ask(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let mut asked = query.to_vec();
    let number: [u8; 2] = random_bytes();
    asked[..2].copy_from_slice(&number);
    socket.send(&asked).await?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if is_answer(&asked, &buffer[..length]) {
            buffer.truncate(length);
            buffer[..2].copy_from_slice(&query[..2]);
            return Ok(buffer);
        }
    }
}

/// The same over TCP.
pub async fn over_tcp(servers: &[SocketAddr], query: &[u8]) -> Option<Vec<u8>> {
    for server in servers {
        let asked = async {
            let mut stream = TcpStream::connect(server).await?;
            write(&mut stream, query).await?;
            read(&mut stream).await
        };
        if let Ok(Ok(answer)) = timeout(PATIENCE, asked).await
            && is_answer(query, &answer)
        {
            return Some(answer);
        }
    }
    None
}

/// A message behind its length (RFC 1035, section 4.2.2).
pub async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one.
pub async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::super::answer::refusal;
    use super::*;
    use domain::base::iana::Rcode;

    #[test]
    fn servers_are_those_of_the_file() {
        let text = "# x\nsearch a.b\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\n\
                    nameserver ::1\noptions ndots:2\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53:53", "[::1]:53"]);
    }

    #[tokio::test]
    async fn the_next_server_is_asked_and_strangers_are_not_believed() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let list = [silent.local_addr().unwrap(), server.local_addr().unwrap()];
        let serve = async {
            let mut buffer = [0; 512];
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            let mut wrong = refusal(&buffer[..length], Rcode::NXDOMAIN);
            wrong[0] ^= 1;
            server.send_to(&wrong, from).await.unwrap();
            let right = refusal(&buffer[..length], Rcode::REFUSED);
            server.send_to(&right, from).await.unwrap();
        };
        let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";
        let (answer, ()) = tokio::join!(over_udp(&list, query), serve);
        let answer = answer.unwrap();
        assert_eq!((&answer[..2], answer[3] & 15), (&query[..2], 5));
    }
}
