//! The HTTP request that a stream begins with.

use crate::error::CallError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Most header fields.
const MAX_FIELDS: usize = 64;

/// What a request says.
#[derive(Debug)]
pub struct Head {
    /// Its path, with the query.
    pub path: String,
    /// What came behind it.
    pub rest: Vec<u8>,
    upgrade: Option<Upgrade>,
    protocols: Vec<String>,
}

/// What carries the channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    /// A WebSocket, with the client's key.
    Socket(String),
    /// SPDY/3.1.
    Spdy,
}

/// What is spoken from here on.
#[derive(Debug)]
pub struct Protocol {
    /// Its name.
    pub name: &'static str,
    /// On what.
    pub on: Upgrade,
}

impl Head {
    /// The first protocol of ours that the client speaks too. A client that names
    /// none is understood where that is one of them, without a name.
    pub fn choose(&self, ours: &[&'static str]) -> Option<Protocol> {
        let on = self.upgrade.clone()?;
        let speaks = |name: &str| match name {
            "" => self.protocols.is_empty(),
            name => self.protocols.iter().any(|one| one == name),
        };
        let name = ours.iter().find(|name| speaks(name))?;
        Some(Protocol { name, on })
    }

    /// Whether it is SPDY that is asked for.
    pub fn is_spdy(&self) -> bool {
        self.upgrade == Some(Upgrade::Spdy)
    }
}

/// Reads a head; none where there is nothing that can be understood.
pub async fn read(stream: &mut TcpStream) -> std::io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0u8; 2048];
        let length = stream.read(&mut piece).await?;
        bytes.extend_from_slice(&piece[..length]);
        match parse(&bytes) {
            Some(found) => return Ok(found),
            None if length == 0 || bytes.len() > MAX_HEAD => return Ok(None),
            None => {}
        }
    }
}

/// The head in these bytes: nothing while it is not whole, nothing in it where it is
/// none.
fn parse(bytes: &[u8]) -> Option<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(length)) => length,
        Err(_) => return Some(None),
    };
    let values = |name: &'static str| {
        let all = request.headers.iter();
        let named = all.filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.filter_map(|field| std::str::from_utf8(field.value).ok())
    };
    let asks = |what: &str| values("Upgrade").any(|value| value.eq_ignore_ascii_case(what));
    let key = values("Sec-WebSocket-Key").next().map(str::to_owned);
    let (upgrade, named) = if asks("SPDY/3.1") {
        (Some(Upgrade::Spdy), "X-Stream-Protocol-Version")
    } else {
        let key = key.filter(|_| asks("websocket"));
        (key.map(Upgrade::Socket), "Sec-WebSocket-Protocol")
    };
    let protocols = values(named).flat_map(|value| value.split(','));
    Some(Some(Head {
        path: request.path.unwrap_or_default().to_owned(),
        rest: bytes[length..].to_vec(),
        upgrade,
        protocols: protocols.map(|one| one.trim().to_owned()).collect(),
    }))
}

/// Agrees to speak a protocol.
pub async fn accept(stream: &mut TcpStream, protocol: &Protocol) -> Result<(), CallError> {
    let name = protocol.name;
    let fields = match &protocol.on {
        Upgrade::Socket(key) => {
            let accept = derive_accept_key(key.as_bytes());
            // Clients refuse a protocol that they have not named.
            let named = match name {
                "" => String::new(),
                name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
            };
            format!("Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n{named}")
        }
        Upgrade::Spdy => format!("Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {name}\r\n"),
    };
    let begin = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade";
    write(stream, &format!("{begin}\r\n{fields}\r\n")).await
}

/// Says why not.
pub async fn refuse(stream: &mut TcpStream, status: &str, why: &str) -> Result<(), CallError> {
    let length = why.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{why}\n"
    );
    write(stream, &answer).await
}

async fn write(stream: &mut TcpStream, text: &str) -> Result<(), CallError> {
    let written = stream.write_all(text.as_bytes()).await;
    written.map_err(|source| CallError::Stream {
        action: "answer a client of streams",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "GET /abc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
        Upgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\
        Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io\r\n\r\nmore";

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let end = ASKED.len() - "more".len();
        assert!((1..end).all(|at| parse(&ASKED.as_bytes()[..at]).is_none()));
        let head = parse(ASKED.as_bytes()).unwrap().unwrap();
        assert_eq!(
            (head.path.as_str(), head.rest.as_slice()),
            ("/abc", &b"more"[..])
        );
        let ours = ["v4.channel.k8s.io", "v5.channel.k8s.io"];
        assert_eq!(head.choose(&ours).unwrap().name, ours[0]);
        assert!(head.choose(&["v9"]).is_none());
        assert!(head.choose(&[""]).is_none(), "it names some");
        let named = "Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io\r\n";
        let head = parse(ASKED.replace(named, "").as_bytes()).unwrap().unwrap();
        assert_eq!(head.choose(&["v4.channel.k8s.io", ""]).unwrap().name, "");
        assert!(head.choose(&["v4.channel.k8s.io"]).is_none());
    }

    #[test]
    fn who_does_not_ask_for_an_upgrade_gets_none() {
        let spdy = "POST /t HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
            X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\
            X-Stream-Protocol-Version: channel.k8s.io\r\n\r\n";
        let head = parse(spdy.as_bytes()).unwrap().unwrap();
        assert_eq!(
            head.choose(&["v4.channel.k8s.io"]).unwrap().on,
            Upgrade::Spdy
        );
        let plain = ASKED.replace("Upgrade: WebSocket", "Upgrade: h2c");
        let head = parse(plain.as_bytes()).unwrap().unwrap();
        assert!(head.choose(&["v4.channel.k8s.io"]).is_none());
        assert!(parse(b"\x16\x03\x01 no http\r\n\r\n").unwrap().is_none());
    }
}
