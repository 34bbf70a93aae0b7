//! An attempt that is one call of `grpc.health.v1.Health/Check` over HTTP/2
//! without TLS: no more of RFC 9113 and RFC 7541 than that call needs. Headers
//! that the server sends are not decoded: the message says what is asked, and
//! a call that failed has none.

use super::Outcome;
use super::socket::Socket;
use crate::poller::Poller;
use std::net::SocketAddr;
use std::time::Duration;

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Largest frame that a server may send unasked.
const MAX_FRAME: usize = 16 << 10;
const FRAME_HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// Of DATA and HEADERS; of SETTINGS and PING it means an acknowledgement.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// The one stream.
const STREAM: u32 = 1;

/// A call under way.
pub struct Grpc {
    socket: Socket,
    input: Vec<u8>,
    body: Vec<u8>,
}

impl Grpc {
    /// Begins a call.
    pub fn start(
        address: SocketAddr,
        service: &str,
        poller: &Poller,
        id: u32,
    ) -> Result<Self, Outcome> {
        let mut socket = Socket::open(address, poller, id)
            .map_err(|why| Outcome::Failed(connecting(address, &why)))?;
        socket.send(PREFACE);
        socket.send(&frame(SETTINGS, 0, 0, &[]));
        socket.send(&frame(HEADERS, END_HEADERS, STREAM, &headers(address)));
        socket.send(&frame(DATA, END_STREAM, STREAM, &message(service)));
        Ok(Self {
            socket,
            input: Vec::new(),
            body: Vec::new(),
        })
    }

    /// Does what can be done now.
    pub fn advance(&mut self) -> Option<Outcome> {
        // What an acknowledgement is due to is sent in the next round.
        loop {
            let state = match self.socket.advance(&mut self.input) {
                Ok(state) => state,
                Err(why) => {
                    return Some(Outcome::Failed(connecting(self.socket.address, &why)));
                }
            };
            let mut answered = false;
            while let Some((kind, flags, payload)) = take_frame(&mut self.input) {
                match (kind, flags & ACK != 0) {
                    (SETTINGS, false) => self.socket.send(&frame(SETTINGS, ACK, 0, &[])),
                    (PING, false) => self.socket.send(&frame(PING, ACK, 0, &payload)),
                    (DATA, ends) => {
                        self.body.extend(unpadded(flags, &payload));
                        if ends {
                            return Some(verdict(&self.body));
                        }
                    }
                    (HEADERS, true) => return Some(verdict(&self.body)),
                    (RST_STREAM | GOAWAY, _) => return Some(verdict(&[])),
                    _ => continue,
                }
                answered |= matches!(kind, SETTINGS | PING);
            }
            if state.ended || self.input.len() > MAX_FRAME + FRAME_HEAD {
                return Some(verdict(&[]));
            }
            if !answered {
                return None;
            }
        }
    }

    /// What is said of one that takes too long.
    pub fn timed_out(&self, timeout: Duration) -> String {
        format!("timeout: health rpc did not complete within {timeout:?}")
    }

    /// Lets go of it.
    pub fn close(&mut self, poller: &Poller) {
        self.socket.close(poller);
    }
}

fn connecting(address: SocketAddr, why: &str) -> String {
    format!("error: failed to connect service at \"{address}\": {why}")
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The request's headers as HPACK has them: indexed where RFC 7541, appendix A
/// has the pair, otherwise literal and never indexed, without Huffman codes.
fn headers(address: SocketAddr) -> Vec<u8> {
    let text = |bytes: &mut Vec<u8>, text: &str| {
        // All of them are shorter than the 127 bytes that one byte can say.
        bytes.push(u8::try_from(text.len()).unwrap_or(0));
        bytes.extend(text.as_bytes());
    };
    let mut bytes = vec![0x83, 0x86]; // :method POST, :scheme http
    bytes.push(0x04); // :path
    text(&mut bytes, "/grpc.health.v1.Health/Check");
    bytes.push(0x01); // :authority
    text(&mut bytes, &address.to_string());
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "kube-probe/1.35"),
    ] {
        bytes.push(0);
        text(&mut bytes, name);
        text(&mut bytes, value);
    }
    bytes
}

/// `HealthCheckRequest` behind gRPC's prefix: not compressed, its length.
fn message(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a); // field 1, a text
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut bytes = vec![0];
    bytes.extend(length.to_be_bytes());
    bytes.extend(message);
    bytes
}

/// The next whole frame: its kind, flags and payload.
fn take_frame(input: &mut Vec<u8>) -> Option<(u8, u8, Vec<u8>)> {
    let head = input.first_chunk::<FRAME_HEAD>()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (kind, flags) = (head[3], head[4]);
    if input.len() < FRAME_HEAD + length {
        return None;
    }
    let payload = input[FRAME_HEAD..FRAME_HEAD + length].to_vec();
    input.drain(..FRAME_HEAD + length);
    Some((kind, flags, payload))
}

fn unpadded(flags: u8, payload: &[u8]) -> &[u8] {
    if flags & PADDED == 0 {
        return payload;
    }
    let Some((&padding, rest)) = payload.split_first() else {
        return payload;
    };
    &rest[..rest.len().saturating_sub(usize::from(padding))]
}

/// What a call has told when it is over.
fn verdict(body: &[u8]) -> Outcome {
    let Some((_, message)) = body.split_first_chunk::<5>() else {
        return Outcome::Failed(
            "error: health rpc probe failed: the server does not implement the grpc health \
             protocol (grpc.health.v1.Health), or does not know the service"
                .to_owned(),
        );
    };
    // `HealthCheckResponse`: field 1, a number; 0 when it is left out.
    let status = match message {
        [0x08, status, ..] => *status,
        _ => 0,
    };
    let word = match status {
        1 => return Outcome::Passed,
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    };
    Outcome::Failed(format!("service unhealthy (responded with {word:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_the_protocol_says() {
        assert_eq!(frame(SETTINGS, ACK, 0, &[]), [0, 0, 0, 4, 1, 0, 0, 0, 0]);
        assert_eq!(message(""), [0, 0, 0, 0, 0]);
        assert_eq!(message("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(message(&"x".repeat(200))[5..8], [0x0a, 0xc8, 1]);
        let block = headers(SocketAddr::from(([10, 88, 0, 2], 9000)));
        assert_eq!(block[..4], [0x83, 0x86, 0x04, 28]);
        assert!(block.ends_with(b"\x0akube") || block.ends_with(b"\x0fkube-probe/1.35"));
    }

    #[test]
    fn frames_come_in_pieces() {
        let whole = frame(DATA, END_STREAM, STREAM, &[0, 0, 0, 0, 2, 8, 1]);
        let mut input = Vec::new();
        for byte in &whole[..whole.len() - 1] {
            input.push(*byte);
            assert_eq!(take_frame(&mut input), None);
        }
        input.push(1);
        let (kind, flags, payload) = take_frame(&mut input).unwrap();
        assert_eq!((kind, flags, input.len()), (DATA, END_STREAM, 0));
        assert_eq!(verdict(&payload), Outcome::Passed);
        assert_eq!(unpadded(PADDED, &[2, 7, 0, 0]), [7]);
        assert_eq!(unpadded(PADDED, &[9, 7]), [0u8; 0]);
    }

    #[test]
    fn only_serving_is_healthy() {
        let told = |body: &[u8]| match verdict(body) {
            Outcome::Failed(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            told(&[0, 0, 0, 0, 2, 8, 2]),
            "service unhealthy (responded with \"NOT_SERVING\")"
        );
        assert_eq!(
            told(&[0, 0, 0, 0, 0]),
            "service unhealthy (responded with \"UNKNOWN\")"
        );
        assert!(told(&[]).contains("does not implement"));
    }
}
