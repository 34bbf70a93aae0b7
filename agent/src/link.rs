//! The control connection to the supervisor: handshake, requests in, replies
//! and events out, and dialling again when a supervisor was lost.
//!
//! ```text
//! Down ──dial──► Dialling ──connected──► Greeted ──Welcome──► Ready
//!   ▲                │                      │                   │
//!   └────────────────┴──error, end of file──┴───────────────────┘
//! ```

use crate::poller::{Poller, Readiness, Token};
use beluga_proto::agent::{Hello, HostFrame, PROTOCOL_MAX, PROTOCOL_MIN, Reply, Welcome};
use beluga_proto::{AgentFrame, Event, Fault, FaultCode, FrameDecoder, FrameError, Nonce, Request};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Opens a non-blocking connection to a port of the host.
pub type Dial = fn(u32) -> io::Result<OwnedFd>;

/// Between two attempts before the first supervisor has come.
const FIRST_RETRY: Duration = Duration::from_millis(20);
/// Between two attempts after one was lost.
const LATER_RETRY: Duration = Duration::from_millis(250);
/// Replies that wait for the supervisor to read; beyond, no request is read.
const MAX_UNSENT: usize = 4 << 20;
/// Events that carry only a message and may be dropped beyond this number.
const MAX_EVENTS: usize = 1024;
/// Bytes read at once.
const READ: usize = 16 << 10;

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the connection broke")]
    Io {
        #[source]
        source: io::Error,
    },
    #[error("the supervisor closed the connection")]
    Closed,
    #[error("the supervisor sent what is no frame")]
    Frame {
        #[source]
        source: FrameError,
    },
    #[error("the supervisor sent a request before its welcome, or a second welcome")]
    Order,
    #[error("the supervisor chose protocol {protocol}")]
    Protocol { protocol: u32 },
}

/// To whom a reply goes: a connection, and a request on it. A reply never
/// reaches another supervisor than the one that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    connection: u64,
    id: u64,
}

#[cfg(test)]
impl Caller {
    /// Nobody, who gets no answer.
    pub const NOBODY: Self = Self {
        connection: 0,
        id: 0,
    };
}

/// What a turn of the link brought.
#[derive(Debug, Default)]
pub struct Turn {
    /// Requests, in order.
    pub requests: Vec<(Caller, Request)>,
    /// The supervisor refused this agent.
    pub refused: Option<Fault>,
    /// The connection was opened.
    pub connected: bool,
    /// The handshake was done.
    pub ready: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Dialling,
    Greeted,
    Ready,
}

struct Connection {
    socket: OwnedFd,
    phase: Phase,
    readable: bool,
    writable: bool,
    decoder: FrameDecoder,
    unsent: Vec<u8>,
}

/// The link.
pub struct Link {
    dial: Dial,
    port: u32,
    boot_id: String,
    connection: Option<Connection>,
    connections: u64,
    retry_at: Instant,
    token: Option<Nonce>,
    events: VecDeque<(u64, Event)>,
    last_event: u64,
}

impl Link {
    /// A link that has not dialled yet.
    pub fn new(dial: Dial, port: u32, boot_id: String) -> Self {
        Self {
            dial,
            port,
            boot_id,
            connection: None,
            connections: 0,
            retry_at: Instant::now(),
            token: None,
            events: VecDeque::new(),
            last_event: 0,
        }
    }

    /// Whether a supervisor has ever welcomed this agent.
    pub fn was_welcomed(&self) -> bool {
        self.token.is_some()
    }

    /// When [`Link::turn`] must be called although nothing is ready.
    pub fn deadline(&self) -> Option<Instant> {
        self.connection.is_none().then_some(self.retry_at)
    }

    /// Notes what epoll said.
    pub fn mark(&mut self, readiness: Readiness) {
        if let Some(connection) = &mut self.connection {
            connection.readable |= readiness.readable;
            connection.writable |= readiness.writable;
        }
    }

    /// Reports something; kept until the supervisor has it.
    pub fn report(&mut self, event: Event) {
        let droppable = matches!(event, Event::Warning { .. } | Event::OomKilled { .. });
        if droppable
            && (self.events.len() >= MAX_EVENTS || self.events.iter().any(|(_, old)| *old == event))
        {
            return;
        }
        self.last_event += 1;
        let frame = AgentFrame::Event {
            seq: self.last_event,
            event: event.clone(),
        };
        self.events.push_back((self.last_event, event));
        self.send(&frame);
    }

    /// What was reported of an attempt that wants TLS is of no use to who comes
    /// after it is over, and would be kept for every one while nobody comes.
    pub fn forget_tls(&mut self, over: u32) {
        self.events.retain(
            |(_, event)| !matches!(event, Event::TlsWanted { attempt, .. } if *attempt == over),
        );
    }

    /// Answers a request, unless its supervisor is gone. Says whether it is not.
    pub fn reply(&mut self, to: Caller, result: Result<Reply, Fault>) -> bool {
        let heard = self.hears(to);
        if heard {
            self.send(&AgentFrame::Reply { id: to.id, result });
        }
        heard
    }

    /// Whether the supervisor that asked is still the one that listens.
    pub fn hears(&self, caller: Caller) -> bool {
        caller.connection == self.connections
            && self
                .connection
                .as_ref()
                .is_some_and(|c| c.phase == Phase::Ready)
    }

    fn send(&mut self, frame: &AgentFrame) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if connection.phase != Phase::Ready && !matches!(frame, AgentFrame::Hello(_)) {
            return;
        }
        let bytes = beluga_proto::encode(frame).or_else(|error| match frame {
            AgentFrame::Reply { id, .. } => beluga_proto::encode(&AgentFrame::Reply {
                id: *id,
                result: Err(Fault::from_error(FaultCode::ResourceExhausted, &error)),
            }),
            _ => Err(error),
        });
        if let Ok(bytes) = bytes {
            connection.unsent.extend_from_slice(&bytes);
        }
    }

    /// Does what can be done now without waiting.
    pub fn turn(&mut self, poller: &Poller) -> Turn {
        let mut turn = Turn::default();
        if self.connection.is_none() && Instant::now() >= self.retry_at {
            self.start_dialling(poller);
        }
        if let Err(error) = self.advance(&mut turn) {
            self.drop_connection(poller, &error);
        }
        turn
    }

    fn start_dialling(&mut self, poller: &Poller) {
        let dialled = (self.dial)(self.port).and_then(|socket| {
            poller.add(&socket, Token::Link)?;
            Ok(socket)
        });
        match dialled {
            Ok(socket) => {
                self.connections += 1;
                self.connection = Some(Connection {
                    socket,
                    phase: Phase::Dialling,
                    readable: false,
                    writable: false,
                    decoder: FrameDecoder::new(),
                    unsent: Vec::new(),
                });
            }
            Err(_) => self.retry_later(),
        }
    }

    fn retry_later(&mut self) {
        let pause = if self.was_welcomed() {
            LATER_RETRY
        } else {
            FIRST_RETRY
        };
        self.retry_at = Instant::now() + pause;
    }

    fn drop_connection(&mut self, poller: &Poller, error: &LinkError) {
        if let Some(connection) = self.connection.take() {
            poller.remove(&connection.socket);
            if connection.phase != Phase::Dialling {
                crate::log::write(crate::log::Level::Warning, &crate::log::chain(error));
            }
        }
        self.retry_later();
    }

    fn advance(&mut self, turn: &mut Turn) -> Result<(), LinkError> {
        self.greet(turn)?;
        self.flush()?;
        self.receive(turn)?;
        self.flush()
    }

    /// Says hello once the connection stands.
    fn greet(&mut self, turn: &mut Turn) -> Result<(), LinkError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let news = connection.readable || connection.writable;
        if connection.phase != Phase::Dialling || !news {
            return Ok(());
        }
        match rustix::net::sockopt::socket_error(&connection.socket) {
            Ok(Ok(())) if connection.writable => {}
            Ok(Ok(())) => return Ok(()),
            Ok(Err(errno)) | Err(errno) => {
                return Err(LinkError::Io {
                    source: errno.into(),
                });
            }
        }
        connection.phase = Phase::Greeted;
        turn.connected = true;
        let hello = AgentFrame::Hello(Hello {
            protocols: (PROTOCOL_MIN, PROTOCOL_MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
            token: self.token.clone(),
        });
        self.send(&hello);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let mut sent = 0;
        while connection.writable && sent < connection.unsent.len() {
            match rustix::io::write(&connection.socket, &connection.unsent[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(rustix::io::Errno::AGAIN) => connection.writable = false,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    return Err(LinkError::Io {
                        source: errno.into(),
                    });
                }
            }
        }
        if sent == connection.unsent.len() {
            connection.unsent = Vec::new();
        } else {
            connection.unsent.drain(..sent);
        }
        Ok(())
    }

    fn receive(&mut self, turn: &mut Turn) -> Result<(), LinkError> {
        let mut buffer = [0u8; READ];
        loop {
            let Some(connection) = &mut self.connection else {
                return Ok(());
            };
            if !connection.readable
                || connection.phase == Phase::Dialling
                || connection.unsent.len() > MAX_UNSENT
            {
                return Ok(());
            }
            match rustix::io::read(&connection.socket, &mut buffer) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(bytes) => connection.decoder.feed(&buffer[..bytes]),
                Err(rustix::io::Errno::AGAIN) => connection.readable = false,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    return Err(LinkError::Io {
                        source: errno.into(),
                    });
                }
            }
            while let Some(frame) = self.next_frame()? {
                self.take(frame, turn)?;
            }
        }
    }

    fn next_frame(&mut self) -> Result<Option<HostFrame>, LinkError> {
        match &mut self.connection {
            Some(connection) => connection
                .decoder
                .next_frame()
                .map_err(|source| LinkError::Frame { source }),
            None => Ok(None),
        }
    }

    fn take(&mut self, frame: HostFrame, turn: &mut Turn) -> Result<(), LinkError> {
        let phase = self.connection.as_ref().map(|connection| connection.phase);
        match (frame, phase) {
            (HostFrame::Welcome(welcome), Some(Phase::Greeted)) => self.welcomed(welcome, turn),
            (HostFrame::Refused(fault), _) => {
                turn.refused = Some(fault);
                Ok(())
            }
            (HostFrame::Request { id, request }, Some(Phase::Ready)) => {
                let connection = self.connections;
                turn.requests.push((Caller { connection, id }, request));
                Ok(())
            }
            (HostFrame::AckEvents { seq }, Some(Phase::Ready)) => {
                self.forget_events(seq);
                Ok(())
            }
            _ => Err(LinkError::Order),
        }
    }

    fn welcomed(&mut self, welcome: Welcome, turn: &mut Turn) -> Result<(), LinkError> {
        let protocol = welcome.protocol;
        if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&protocol) {
            return Err(LinkError::Protocol { protocol });
        }
        self.token = Some(welcome.token);
        self.forget_events(welcome.acked);
        if let Some(connection) = &mut self.connection {
            connection.phase = Phase::Ready;
        }
        turn.ready = true;
        let frames: Vec<AgentFrame> = self
            .events
            .iter()
            .map(|(seq, event)| AgentFrame::Event {
                seq: *seq,
                event: event.clone(),
            })
            .collect();
        for frame in &frames {
            self.send(frame);
        }
        Ok(())
    }

    fn forget_events(&mut self, up_to: u64) {
        while self.events.front().is_some_and(|(seq, _)| *seq <= up_to) {
            self.events.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
