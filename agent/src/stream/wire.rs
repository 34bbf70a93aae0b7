//! The supervisor's end of a stream: one connection that starts with a nonce.

use crate::link::Dial;
use crate::poller::{Poller, Readiness, Side, Token};
use beluga_proto::{Nonce, STREAM_PORT};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown, sockopt};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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
pub struct Wire {
    end: End,
    nonce: Option<Nonce>,
}

impl Wire {
    /// Dials.
    pub fn dial(dial: Dial, nonce: Nonce, poller: &Poller, stream: u32) -> std::io::Result<Self> {
        let socket = dial(STREAM_PORT)?;
        let mut end = End::new(socket, poller, Token::Stream(stream, Side::Wire))?;
        // Nothing is known before the connection stands.
        end.readable = false;
        end.writable = false;
        Ok(Self {
            end,
            nonce: Some(nonce),
        })
    }

    /// Notes what epoll said.
    pub fn mark(&mut self, readiness: Readiness) {
        self.end.mark(readiness);
    }

    /// Sends the nonce first of all. `Moved` when bytes may flow.
    pub fn open(&mut self) -> Flow {
        let Some(nonce) = &self.nonce else {
            return Flow::Moved(0);
        };
        if !self.end.writable {
            return Flow::Blocked;
        }
        if !matches!(sockopt::socket_error(&self.end.fd), Ok(Ok(()))) {
            return Flow::Broken;
        }
        match self.end.write(nonce.as_bytes()) {
            // A fresh connection takes sixteen bytes at once or not at all.
            Flow::Moved(Nonce::LEN) => {
                self.nonce = None;
                Flow::Moved(0)
            }
            Flow::Blocked => Flow::Blocked,
            _ => Flow::Broken,
        }
    }

    /// Reads what is there. A connection that broke and one whose other side
    /// is done both read as end of file; they are told apart here.
    pub fn read(&mut self, buffer: &mut [u8]) -> Flow {
        match self.end.read(buffer) {
            Flow::Ended if self.is_broken() => Flow::Broken,
            flow => flow,
        }
    }

    /// Writes what fits.
    pub fn write(&mut self, bytes: &[u8]) -> Flow {
        self.end.write(bytes)
    }

    /// Whether the other side takes nothing any more. After a reset a vsock
    /// socket reads as ended without an error; only sending shows it, and
    /// sending nothing is enough.
    fn is_broken(&self) -> bool {
        send(&self.end.fd, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_err()
    }

    /// Says that no more bytes will come from here.
    pub fn end_output(&self) {
        // A connection that is gone by now shows itself when read.
        let _ = shutdown(&self.end.fd, Shutdown::Write);
    }

    /// Closes it.
    pub fn close(self, poller: &Poller) {
        self.end.close(poller);
    }
}
