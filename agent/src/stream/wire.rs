//! The supervisor's end of a stream: one connection that starts with a nonce.

use crate::link::Dial;
use crate::poller::{Poller, Readiness, Side, Token};
use beluga_proto::{Nonce, STREAM_PORT};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown, sockopt};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Between the first call that was refused and the second.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause between two calls; each is twice as long as the one before.
const LONGEST_PAUSE: Duration = Duration::from_millis(320);
/// How long calls are repeated. The supervisor waits three times as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one attempt to move bytes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// So many bytes went.
    Moved(usize),
    /// None can go now.
    Blocked,
    /// None will go any more: the other side said that it is done.
    Ended,
    /// None will go any more: the other side is gone.
    Broken,
}

/// One end of a byte stream and what epoll last said about it.
pub struct End {
    fd: OwnedFd,
    readable: bool,
    writable: bool,
}

impl End {
    /// An end in the poller's care. Both directions are tried at first.
    pub fn new(fd: OwnedFd, poller: &Poller, token: Token) -> std::io::Result<Self> {
        poller.add(&fd, token)?;
        Ok(Self {
            fd,
            readable: true,
            writable: true,
        })
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Notes what epoll said.
    pub fn mark(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
    }

    /// Reads what is there.
    pub fn read(&mut self, buffer: &mut [u8]) -> Flow {
        if !self.readable {
            return Flow::Blocked;
        }
        loop {
            return match rustix::io::read(&self.fd, &mut *buffer) {
                Ok(0) => Flow::Ended,
                Ok(bytes) => Flow::Moved(bytes),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    Flow::Blocked
                }
                // A terminal whose last process has gone reads as an I/O error.
                Err(_) => Flow::Broken,
            };
        }
    }

    /// Writes what fits.
    pub fn write(&mut self, bytes: &[u8]) -> Flow {
        if !self.writable {
            return Flow::Blocked;
        }
        loop {
            return match rustix::io::write(&self.fd, bytes) {
                Ok(bytes) => Flow::Moved(bytes),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    self.writable = false;
                    Flow::Blocked
                }
                Err(_) => Flow::Broken,
            };
        }
    }

    /// Closes it.
    pub fn close(self, poller: &Poller) {
        poller.remove(&self.fd);
    }
}

/// A connection to the supervisor: bytes flow when the nonce has gone.
///
/// The host answers a call with a reset when more come at once than it holds
/// for its supervisor, or while there is none. Before the nonce has gone
/// nothing is lost by calling again, so that is done, less and less often.
pub struct Wire {
    dial: Dial,
    stream: u32,
    /// None between two calls.
    end: Option<End>,
    /// None once it has gone.
    nonce: Option<Nonce>,
    next_call: Instant,
    pause: Duration,
    give_up: Instant,
}

impl Wire {
    /// Dials.
    pub fn dial(dial: Dial, nonce: Nonce, poller: &Poller, stream: u32) -> Self {
        let now = Instant::now();
        let mut wire = Self {
            dial,
            stream,
            end: None,
            nonce: Some(nonce),
            next_call: now,
            pause: FIRST_PAUSE,
            give_up: now + PATIENCE,
        };
        wire.call(poller);
        wire
    }

    fn call(&mut self, poller: &Poller) -> Flow {
        let token = Token::Stream(self.stream, Side::Wire);
        match (self.dial)(STREAM_PORT).and_then(|socket| End::new(socket, poller, token)) {
            Ok(mut end) => {
                // Nothing is known before the connection stands.
                end.readable = false;
                end.writable = false;
                self.end = Some(end);
                Flow::Blocked
            }
            Err(_) => self.call_later(poller),
        }
    }

    fn call_later(&mut self, poller: &Poller) -> Flow {
        if let Some(end) = self.end.take() {
            end.close(poller);
        }
        let now = Instant::now();
        if now >= self.give_up {
            return Flow::Broken;
        }
        self.next_call = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Flow::Blocked
    }

    /// When [`Wire::open`] must be called although nothing is ready.
    pub fn next_call(&self) -> Option<Instant> {
        self.end.is_none().then_some(self.next_call)
    }

    /// Notes what epoll said.
    pub fn mark(&mut self, readiness: Readiness) {
        if let Some(end) = &mut self.end {
            end.mark(readiness);
        }
    }

    /// Whether bytes may flow.
    pub fn is_open(&self) -> bool {
        self.nonce.is_none()
    }

    /// Sends the nonce first of all. `Moved` when bytes may flow.
    pub fn open(&mut self, poller: &Poller) -> Flow {
        let Some(nonce) = &self.nonce else {
            return Flow::Moved(0);
        };
        let Some(end) = &mut self.end else {
            if Instant::now() < self.next_call {
                return Flow::Blocked;
            }
            return self.call(poller);
        };
        if !end.writable {
            return Flow::Blocked;
        }
        if !matches!(sockopt::socket_error(&end.fd), Ok(Ok(()))) {
            return self.call_later(poller);
        }
        match end.write(nonce.as_bytes()) {
            Flow::Moved(Nonce::LEN) => {
                self.nonce = None;
                Flow::Moved(0)
            }
            Flow::Blocked => Flow::Blocked,
            // A fresh connection takes sixteen bytes at once or not at all.
            Flow::Moved(_) => Flow::Broken,
            Flow::Ended | Flow::Broken => self.call_later(poller),
        }
    }

    /// Reads what is there. A connection that broke and one whose other side
    /// is done both read as end of file; they are told apart here.
    pub fn read(&mut self, buffer: &mut [u8]) -> Flow {
        let Some(end) = &mut self.end else {
            return Flow::Blocked;
        };
        match end.read(buffer) {
            Flow::Ended if is_broken(end) => Flow::Broken,
            flow => flow,
        }
    }

    /// Writes what fits.
    pub fn write(&mut self, bytes: &[u8]) -> Flow {
        self.end
            .as_mut()
            .map_or(Flow::Blocked, |end| end.write(bytes))
    }

    /// Says that no more bytes will come from here.
    pub fn end_output(&self) {
        if let Some(end) = &self.end {
            // A connection that is gone by now shows itself when read.
            let _ = shutdown(&end.fd, Shutdown::Write);
        }
    }

    /// Closes it.
    pub fn close(self, poller: &Poller) {
        if let Some(end) = self.end {
            end.close(poller);
        }
    }
}

/// Whether the other side takes nothing any more. After a reset a vsock socket
/// reads as ended without an error; only sending shows it, and sending nothing
/// is enough.
fn is_broken(end: &End) -> bool {
    send(&end.fd, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_err()
}
