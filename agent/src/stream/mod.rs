//! Bytes between processes and the supervisor: one connection per stream.
//!
//! Nothing here waits. Each stream moves a bounded number of bytes per turn of
//! the loop, then the next one has its turn.

mod input;
mod output;
mod window;
mod wire;

use crate::link::Dial;
use crate::poller::{Poller, Readiness, Side, Token};
use beluga_proto::Nonce;
use beluga_proto::agent::ResumeStream;
use input::Input;
use output::Output;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;
pub use window::OutOfWindow;
use window::Window;
use wire::{End, Wire};

/// Bytes that one stream may move before the next one has its turn.
const TURN: usize = 512 << 10;
/// Size of the one buffer through which all bytes go.
const SCRATCH: usize = 64 << 10;

/// What a stream works with during its turn.
pub struct Context<'a> {
    poller: &'a Poller,
    scratch: &'a mut [u8],
    budget: usize,
}

impl Context<'_> {
    /// Notes bytes moved; true when the turn is over.
    fn spend(&mut self, bytes: usize) -> bool {
        self.budget = self.budget.saturating_sub(bytes);
        self.budget == 0
    }
}

/// How a stream's turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pumped {
    /// Until epoll has news.
    Waits,
    /// Its turn is over, its work is not.
    HasMore,
    /// The stream is over.
    Done,
}

enum Stream {
    Input(Input),
    Output(Output),
}

impl Stream {
    fn next_call(&self) -> Option<Instant> {
        match self {
            Self::Input(input) => input.next_call(),
            Self::Output(output) => output.next_call(),
        }
    }
}

/// Number of a stream, never used twice.
pub type StreamId = u32;

/// All streams.
pub struct Streams {
    dial: Dial,
    next: StreamId,
    streams: BTreeMap<StreamId, Stream>,
    turns: VecDeque<StreamId>,
    /// Streams whose call was refused, by when they call again.
    calls: BTreeSet<(Instant, StreamId)>,
    scratch: Vec<u8>,
}

impl Streams {
    /// No streams yet; new ones are dialled with `dial`.
    pub fn new(dial: Dial) -> Self {
        Self {
            dial,
            next: 1,
            streams: BTreeMap::new(),
            turns: VecDeque::new(),
            calls: BTreeSet::new(),
            scratch: Vec::new(),
        }
    }

    fn next_id(&mut self) -> StreamId {
        let id = self.next;
        self.next += 1;
        id
    }

    /// A connection for a stream.
    fn dial(&self, nonce: &Nonce, poller: &Poller, id: StreamId) -> Wire {
        Wire::dial(self.dial, nonce.clone(), poller, id)
    }

    fn insert(&mut self, id: StreamId, stream: Stream) -> StreamId {
        self.streams.insert(id, stream);
        self.turns.push_back(id);
        id
    }

    /// A stream to a process.
    pub fn open_input(
        &mut self,
        poller: &Poller,
        sink: OwnedFd,
        nonce: &Nonce,
        lasting: bool,
    ) -> std::io::Result<StreamId> {
        let id = self.next_id();
        let sink = End::new(sink, poller, Token::Stream(id, Side::Local))?;
        let wire = self.dial(nonce, poller, id);
        Ok(self.insert(id, Stream::Input(Input::new(sink, Some(wire), lasting))))
    }

    /// A stream from a process. `lasting`: acknowledged, outlives its supervisor.
    pub fn open_output(
        &mut self,
        poller: &Poller,
        source: OwnedFd,
        nonce: Option<&Nonce>,
        lasting: bool,
    ) -> std::io::Result<StreamId> {
        let id = self.next_id();
        let source = End::new(source, poller, Token::Stream(id, Side::Local))?;
        let wire = nonce.map(|nonce| self.dial(nonce, poller, id));
        let output = Output::new(Some(source), wire, Window::default(), lasting);
        Ok(self.insert(id, Stream::Output(output)))
    }

    /// Goes on with an output stream over a new connection. One that is over
    /// is dialled all the same, so that the supervisor sees its end.
    pub fn resume_output(
        &mut self,
        poller: &Poller,
        id: Option<StreamId>,
        resume: &ResumeStream,
    ) -> Result<(), OutOfWindow> {
        let known = id.filter(|id| self.streams.contains_key(id));
        let id = known.unwrap_or_else(|| self.next_id());
        let wire = self.dial(&resume.nonce, poller, id);
        self.turns.push_back(id);
        match self.streams.get_mut(&id) {
            Some(Stream::Output(output)) => output.resume(wire, resume.offset, poller),
            Some(Stream::Input(_)) => {
                wire.close(poller);
                Ok(())
            }
            None => {
                let window = Window::at(resume.offset);
                let ended = Output::new(None, Some(wire), window, false);
                self.streams.insert(id, Stream::Output(ended));
                Ok(())
            }
        }
    }

    /// Goes on with an input stream over a new connection.
    pub fn resume_input(&mut self, poller: &Poller, id: StreamId, nonce: &Nonce) {
        let wire = self.dial(nonce, poller, id);
        match self.streams.get_mut(&id) {
            Some(Stream::Input(input)) => {
                input.resume(wire, poller);
                self.turns.push_back(id);
            }
            _ => wire.close(poller),
        }
    }

    /// Notes what epoll said.
    pub fn mark(&mut self, id: StreamId, side: Side, readiness: Readiness) {
        match self.streams.get_mut(&id) {
            Some(Stream::Input(input)) => input.mark(side, readiness),
            Some(Stream::Output(output)) => output.mark(side, readiness),
            None => return,
        }
        if !self.turns.contains(&id) {
            self.turns.push_back(id);
        }
    }

    /// When [`Streams::pump`] must be called although nothing is ready.
    pub fn deadline(&self) -> Option<Instant> {
        self.calls.first().map(|(at, _)| *at)
    }

    /// Those whose time has come call again.
    fn take_calls(&mut self) {
        while let Some(&(at, id)) = self.calls.first() {
            if at > Instant::now() {
                break;
            }
            self.calls.pop_first();
            self.turns.push_back(id);
        }
    }

    /// Gives every stream that has news one turn. True when some have more to
    /// do, so that the loop must not wait.
    pub fn pump(&mut self, poller: &Poller) -> bool {
        self.take_calls();
        if self.turns.is_empty() {
            return false;
        }
        if self.scratch.is_empty() {
            self.scratch = vec![0; SCRATCH];
        }
        for _ in 0..self.turns.len() {
            let Some(id) = self.turns.pop_front() else {
                break;
            };
            let mut context = Context {
                poller,
                scratch: &mut self.scratch,
                budget: TURN,
            };
            let pumped = match self.streams.get_mut(&id) {
                Some(Stream::Input(input)) => input.pump(&mut context),
                Some(Stream::Output(output)) => output.pump(&mut context),
                None => continue,
            };
            match pumped {
                Pumped::Waits => {
                    let next_call = self.streams.get(&id).and_then(Stream::next_call);
                    self.calls.extend(next_call.map(|at| (at, id)));
                }
                Pumped::HasMore => self.turns.push_back(id),
                Pumped::Done => self.close(poller, id),
            }
        }
        !self.turns.is_empty()
    }

    /// The process's end of a stream: its terminal, where it has one.
    pub fn local(&self, id: StreamId) -> Option<BorrowedFd<'_>> {
        match self.streams.get(&id)? {
            Stream::Input(input) => Some(input.local()),
            Stream::Output(output) => output.local(),
        }
    }

    /// Closes a stream at once.
    pub fn close(&mut self, poller: &Poller, id: StreamId) {
        match self.streams.remove(&id) {
            Some(Stream::Input(input)) => input.close(poller),
            Some(Stream::Output(output)) => output.close(poller),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
