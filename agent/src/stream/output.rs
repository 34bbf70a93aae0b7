//! From a process to the supervisor.
//!
//! A container's output outlives its supervisor: what is not acknowledged is
//! held in a [`Window`] and sent again. A command's output dies with its
//! caller: the pipe is closed, and the process meets SIGPIPE or, at a
//! terminal, a hang-up, as with other container engines.

use super::window::{OutOfWindow, Window};
use super::wire::{End, Flow, Wire};
use super::{Context, Pumped};
use crate::poller::{Poller, Readiness, Side};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Little-endian counts, cut anywhere by the connection.
#[derive(Debug, Default)]
struct Acknowledgements {
    partial: Vec<u8>,
}

impl Acknowledgements {
    /// The last whole count in what has come; counts only grow, so the last
    /// one says it all.
    fn take(&mut self, bytes: &[u8]) -> Option<u64> {
        self.partial.extend_from_slice(bytes);
        let (whole, rest) = self.partial.as_chunks::<8>();
        let last = whole.last().map(|count| u64::from_le_bytes(*count));
        self.partial = rest.to_vec();
        last
    }
}

/// An output stream.
pub struct Output {
    source: Option<End>,
    wire: Option<Wire>,
    window: Window,
    /// None: nothing is acknowledged, nothing is kept.
    acknowledged: Option<Acknowledgements>,
    /// The supervisor has been told that no more will come.
    end_told: bool,
}

impl Output {
    /// A stream from `source`; without one it has ended before its first byte.
    /// `lasting`: it is acknowledged and outlives its supervisor.
    pub fn new(source: Option<End>, wire: Option<Wire>, window: Window, lasting: bool) -> Self {
        Self {
            source,
            wire,
            window,
            acknowledged: lasting.then(Acknowledgements::default),
            end_told: false,
        }
    }

    /// Notes what epoll said.
    pub fn mark(&mut self, side: Side, readiness: Readiness) {
        match (side, &mut self.source, &mut self.wire) {
            (Side::Local, Some(source), _) => source.mark(readiness),
            (Side::Wire, _, Some(wire)) => wire.mark(readiness),
            _ => {}
        }
    }

    /// Goes on over another connection from what is safe.
    pub fn resume(&mut self, wire: Wire, offset: u64, poller: &Poller) -> Result<(), OutOfWindow> {
        let resumed = self.window.resume(offset);
        self.lose_wire(poller);
        match resumed {
            Ok(()) => self.wire = Some(wire),
            Err(_) => wire.close(poller),
        }
        resumed
    }

    fn lose_wire(&mut self, poller: &Poller) {
        if let Some(wire) = self.wire.take() {
            wire.close(poller);
        }
        if let Some(acknowledged) = &mut self.acknowledged {
            *acknowledged = Acknowledgements::default();
        }
        self.end_told = false;
    }

    /// Moves what can be moved.
    pub fn pump(&mut self, context: &mut Context<'_>) -> Pumped {
        if self.wire.is_none() && self.acknowledged.is_none() {
            // A command whose caller could not be dialled.
            return Pumped::Done;
        }
        loop {
            let mut moved = 0;
            match self.open_wire(context.poller) {
                Flow::Broken | Flow::Ended => {
                    if let Some(done) = self.broken(context.poller) {
                        return done;
                    }
                }
                _ => {}
            }
            for step in [Self::take_acknowledgements, Self::send, Self::fetch] {
                match step(self, context) {
                    Flow::Moved(bytes) => moved += bytes,
                    Flow::Blocked | Flow::Ended => {}
                    Flow::Broken => {
                        if let Some(done) = self.broken(context.poller) {
                            return done;
                        }
                    }
                }
            }
            if self.finish() {
                return Pumped::Done;
            }
            if moved == 0 {
                return Pumped::Waits;
            }
            if context.spend(moved) {
                return Pumped::HasMore;
            }
        }
    }

    /// The connection is gone. That is the end of a command's stream.
    fn broken(&mut self, poller: &Poller) -> Option<Pumped> {
        self.lose_wire(poller);
        self.acknowledged.is_none().then_some(Pumped::Done)
    }

    fn open_wire(&mut self, poller: &Poller) -> Flow {
        self.wire
            .as_mut()
            .map_or(Flow::Blocked, |wire| wire.open(poller))
    }

    fn is_open(&self) -> bool {
        self.wire.as_ref().is_some_and(Wire::is_open)
    }

    /// When it must have a turn although nothing is ready.
    pub fn next_call(&self) -> Option<Instant> {
        self.wire.as_ref().and_then(Wire::next_call)
    }

    fn take_acknowledgements(&mut self, _: &mut Context<'_>) -> Flow {
        if !self.is_open() {
            return Flow::Blocked;
        }
        let Some(wire) = &mut self.wire else {
            return Flow::Blocked;
        };
        let mut buffer = [0u8; 512];
        match (wire.read(&mut buffer), &mut self.acknowledged) {
            (Flow::Moved(bytes), Some(counts)) => match counts.take(&buffer[..bytes]) {
                Some(offset) if self.window.acknowledge(offset).is_err() => Flow::Broken,
                _ => Flow::Moved(bytes),
            },
            (Flow::Moved(bytes), None) => Flow::Moved(bytes),
            // Without acknowledgements to come a lasting stream is stuck.
            (Flow::Ended, Some(_)) => Flow::Broken,
            (flow, _) => flow,
        }
    }

    fn send(&mut self, _: &mut Context<'_>) -> Flow {
        if self.window.is_sent() || !self.is_open() {
            return Flow::Blocked;
        }
        let Some(wire) = &mut self.wire else {
            return Flow::Blocked;
        };
        let flow = wire.write(self.window.unsent());
        if let Flow::Moved(bytes) = flow {
            self.window.sent(bytes);
            self.forget_sent();
        }
        flow
    }

    /// Where nothing is acknowledged, what is sent is forgotten.
    fn forget_sent(&mut self) {
        if self.acknowledged.is_none() {
            let unsent = self.window.unsent().len() as u64;
            if unsent == 0 || self.window.room() == 0 {
                let sent = self.window.sent_offset();
                let _ = self.window.acknowledge(sent);
            }
        }
    }

    fn fetch(&mut self, context: &mut Context<'_>) -> Flow {
        let lasting = self.acknowledged.is_some();
        let room = if lasting {
            self.window.room()
        } else if self.window.is_sent() {
            // One buffer at a time: the pipe holds the rest.
            context.scratch.len()
        } else {
            0
        };
        let Some(source) = &mut self.source else {
            return Flow::Blocked;
        };
        if room == 0 || !(lasting || self.wire.is_some()) {
            return Flow::Blocked;
        }
        let room = room.min(context.scratch.len());
        match source.read(&mut context.scratch[..room]) {
            Flow::Moved(bytes) => {
                let skip = self.send_directly(context, bytes);
                self.window.push(&context.scratch[skip..bytes]);
                Flow::Moved(bytes)
            }
            Flow::Blocked => Flow::Blocked,
            Flow::Ended | Flow::Broken => {
                if let Some(source) = self.source.take() {
                    source.close(context.poller);
                }
                Flow::Ended
            }
        }
    }

    /// Sends a fresh buffer of a command without a detour through the window.
    fn send_directly(&mut self, context: &mut Context<'_>, bytes: usize) -> usize {
        if self.acknowledged.is_some() || !self.window.is_empty() || !self.is_open() {
            return 0;
        }
        let Some(wire) = &mut self.wire else { return 0 };
        match wire.write(&context.scratch[..bytes]) {
            Flow::Moved(sent) => sent,
            // What this means shows when the rest is sent.
            _ => 0,
        }
    }

    /// Ends the stream when there is no more to come. True when all is done.
    fn finish(&mut self) -> bool {
        if self.source.is_some() || !self.window.is_sent() || !self.is_open() {
            return false;
        }
        let Some(wire) = &self.wire else { return false };
        if !self.end_told {
            wire.end_output();
            self.end_told = true;
        }
        self.acknowledged.is_none() || self.window.is_empty()
    }

    /// The process's end, until it has ended.
    pub fn local(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().map(End::fd)
    }

    /// Closes both ends.
    pub fn close(mut self, poller: &Poller) {
        self.lose_wire(poller);
        if let Some(source) = self.source {
            source.close(poller);
        }
    }
}
