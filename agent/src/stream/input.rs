//! From the supervisor to a process.

use super::wire::{End, Flow, Wire};
use super::{Context, Pumped};
use crate::poller::{Poller, Readiness, Side};
use rustix::net::{Shutdown, shutdown};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// An input stream.
pub struct Input {
    sink: End,
    wire: Option<Wire>,
    /// Read from the connection, not yet taken by the process.
    pending: Vec<u8>,
    /// The sink stays open when the supervisor is lost.
    lasting: bool,
    /// The process has closed its end.
    unread: bool,
}

impl Input {
    /// A stream to `sink`. `lasting`: it waits for the next supervisor when
    /// one is lost; otherwise the process then meets end of file.
    pub fn new(sink: End, wire: Option<Wire>, lasting: bool) -> Self {
        Self {
            sink,
            wire,
            pending: Vec::new(),
            lasting,
            unread: false,
        }
    }

    /// Notes what epoll said.
    pub fn mark(&mut self, side: Side, readiness: Readiness) {
        match (side, &mut self.wire) {
            (Side::Local, _) => {
                self.unread |= readiness.failed;
                self.sink.mark(readiness);
            }
            (Side::Wire, Some(wire)) => wire.mark(readiness),
            (Side::Wire, None) => {}
        }
    }

    /// Goes on over another connection.
    pub fn resume(&mut self, wire: Wire, poller: &Poller) {
        if let Some(old) = self.wire.replace(wire) {
            old.close(poller);
        }
    }

    /// Moves what can be moved.
    pub fn pump(&mut self, context: &mut Context<'_>) -> Pumped {
        if self.unread {
            return Pumped::Done;
        }
        loop {
            let flow = if self.pending.is_empty() {
                self.fetch(context)
            } else {
                self.deliver()
            };
            match flow {
                Flow::Moved(0) | Flow::Blocked => return Pumped::Waits,
                Flow::Moved(bytes) => {
                    if context.spend(bytes) {
                        return Pumped::HasMore;
                    }
                }
                Flow::Ended => return Pumped::Done,
                Flow::Broken if self.lasting => {
                    if let Some(wire) = self.wire.take() {
                        wire.close(context.poller);
                    }
                    return Pumped::Waits;
                }
                Flow::Broken => return Pumped::Done,
            }
        }
    }

    fn deliver(&mut self) -> Flow {
        match self.sink.write(&self.pending) {
            Flow::Moved(bytes) if bytes == self.pending.len() => {
                self.pending = Vec::new();
                Flow::Moved(bytes)
            }
            Flow::Moved(bytes) => {
                self.pending.drain(..bytes);
                Flow::Moved(bytes)
            }
            Flow::Blocked => Flow::Blocked,
            // The process does not read any more.
            Flow::Ended | Flow::Broken => Flow::Ended,
        }
    }

    fn fetch(&mut self, context: &mut Context<'_>) -> Flow {
        let Some(wire) = &mut self.wire else {
            return Flow::Blocked;
        };
        match wire.open(context.poller) {
            Flow::Moved(_) => {}
            other => return other,
        }
        let bytes = match wire.read(context.scratch) {
            Flow::Moved(bytes) => bytes,
            other => return other,
        };
        let taken = match self.sink.write(&context.scratch[..bytes]) {
            Flow::Moved(taken) => taken,
            Flow::Blocked => 0,
            Flow::Ended | Flow::Broken => return Flow::Ended,
        };
        self.pending
            .extend_from_slice(&context.scratch[taken..bytes]);
        Flow::Moved(bytes)
    }

    /// When it must have a turn although nothing is ready.
    pub fn next_call(&self) -> Option<Instant> {
        self.wire.as_ref().and_then(Wire::next_call)
    }

    /// The process's end.
    pub fn local(&self) -> BorrowedFd<'_> {
        self.sink.fd()
    }

    /// Closes both ends.
    pub fn close(self, poller: &Poller) {
        // A socket has another direction, which keeps it open; a pipe has not.
        let _ = shutdown(self.sink.fd(), Shutdown::Write);
        self.sink.close(poller);
        if let Some(wire) = self.wire {
            wire.close(poller);
        }
    }
}
