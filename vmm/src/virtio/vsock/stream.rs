//! One stream: what has been said on the wire, what is buffered, and what is
//! to be said next.
//!
//! ```text
//! host opens:  Connecting ──RESPONSE──► Open ──both directions ended──► Closing ──RST──► gone
//! guest opens: ─────REQUEST───────────► Open                              └─ time is up ──► reset
//! any state: RST of the guest, or a packet that may not come now ─────────► gone
//! ```
//!
//! The two directions end on their own. The guest's SHUTDOWN(SEND) becomes
//! `shutdown(SHUT_WR)` of our end once all that came before it has been
//! written; the far end's end of file becomes SHUTDOWN(SEND) once all that
//! came before it has been sent. So nothing in flight is lost.

use super::credit::{CreditError, Inbound, Outbound};
use super::packet::{Header, Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use crate::sys::vsock as sys;
use crate::virtio::buffer::GuestBuffer;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;
use vm_memory::VolatileSlice;

/// First guess of how much a read will give, in bytes.
const FIRST_BURST: u32 = 4096;

/// How far a stream is; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// REQUEST is sent or due, the guest has not answered.
    Connecting,
    /// Both ends agree that it exists.
    Open,
    /// SHUTDOWN of both directions is sent or due; the guest has to reset.
    Closing,
}

/// What a packet of the guest does to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Stays,
    /// The guest has ended it in order and waits for our reset.
    Ends,
    /// The guest has reset it: no answer.
    Gone,
    /// The packet may not come now: reset it.
    Breaks,
}

/// What came of reading a stream's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes for the guest.
    Data(u32),
    /// Nothing now; an event will tell.
    Nothing,
    /// The far end has ended; a SHUTDOWN is due.
    End,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    phase: Phase,
    socket: UnixStream,
    inbound: Inbound,
    outbound: Outbound,
    /// Guest → far end, not yet taken by the socket; at most the credit given.
    backlog: VecDeque<u8>,
    /// Directions that the guest has ended (`SHUTDOWN_*` as it sent them).
    guest_shut: u32,
    /// Directions that we have ended, or are about to.
    host_shut: u32,
    /// REQUEST, RESPONSE or SHUTDOWN that has yet to be sent.
    due: Option<Op>,
    credit_update_due: bool,
    /// Our end is shut for writing. Once is enough, and every further
    /// shutdown(2) would be a new event of the socket.
    far_input_ended: bool,
    /// The socket may have something to read.
    readable: bool,
    /// The far end will write no more: what is readable is the rest.
    far_ended: bool,
    /// The far end is gone altogether.
    hung_up: bool,
    /// How much the last reads gave: how many buffers the next one gets.
    burst: u32,
    /// Until when the guest must have answered.
    pub(super) deadline: Option<Instant>,
    /// Whether it stands in the queue of streams that have something to send.
    pub(super) queued: bool,
    /// Whether its socket is watched for room to write.
    pub(super) watched_for_room: bool,
}

impl Stream {
    /// A stream that the host opens: REQUEST is due.
    #[must_use]
    pub fn connecting(socket: UnixStream, alloc: u32) -> Self {
        Self::new(socket, alloc, Phase::Connecting, Op::Request)
    }

    /// A stream that the guest opened: RESPONSE is due.
    #[must_use]
    pub fn accepted(socket: UnixStream, alloc: u32) -> Self {
        Self::new(socket, alloc, Phase::Open, Op::Response)
    }

    fn new(socket: UnixStream, alloc: u32, phase: Phase, due: Op) -> Self {
        Self {
            phase,
            socket,
            inbound: Inbound::new(alloc),
            outbound: Outbound::default(),
            backlog: VecDeque::new(),
            guest_shut: 0,
            host_shut: 0,
            due: Some(due),
            credit_update_due: false,
            far_input_ended: false,
            readable: false,
            far_ended: false,
            hung_up: false,
            burst: FIRST_BURST,
            deadline: None,
            queued: false,
            watched_for_room: false,
        }
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Bytes of the guest that wait for room in the socket.
    #[must_use]
    pub fn backlog_len(&self) -> usize {
        self.backlog.len()
    }

    /// The descriptor to watch.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Believes the guest's account of its buffer. Comes before
    /// [`Stream::packet`] for every packet.
    pub fn credit(&mut self, header: &Header) -> Result<(), CreditError> {
        self.outbound.update(header.buf_alloc, header.fwd_cnt)
    }

    /// Takes a packet of the guest.
    pub fn packet(&mut self, op: Op, flags: u32, payload: &mut GuestBuffer<'_>) -> Outcome {
        match (self.phase, op) {
            (_, Op::Reset) => Outcome::Gone,
            (Phase::Connecting, Op::Response) if self.due.is_none() => {
                self.phase = Phase::Open;
                // The far end may have written before there was anybody to read.
                self.readable = true;
                Outcome::Stays
            }
            (Phase::Connecting, _) | (_, Op::Request | Op::Response) => Outcome::Breaks,
            (_, Op::Data) => self.data(payload),
            (_, Op::Shutdown) => self.shutdown(flags),
            (_, Op::CreditUpdate) => Outcome::Stays,
            (_, Op::CreditRequest) => {
                self.credit_update_due = true;
                Outcome::Stays
            }
        }
    }

    fn data(&mut self, payload: &mut GuestBuffer<'_>) -> Outcome {
        let Ok(len) = u32::try_from(payload.len()) else {
            return Outcome::Breaks;
        };
        if self.guest_shut & SHUTDOWN_SEND != 0 || self.inbound.receive(len).is_err() {
            return Outcome::Breaks;
        }
        if self.backlog.is_empty() && self.host_shut & SHUTDOWN_RECEIVE == 0 {
            match sys::send(self.socket.as_fd(), payload.pieces()) {
                Ok(sent) => {
                    payload.take_front(sent);
                    self.forwarded(sent);
                }
                Err(error) if is_for_now(error.kind()) => {}
                Err(_) => self.far_refuses(),
            }
        }
        if self.host_shut & SHUTDOWN_RECEIVE != 0 {
            // It was sent before the guest knew that nobody wants it.
            self.forwarded(payload.len());
        } else {
            self.keep(payload);
        }
        Outcome::Stays
    }

    /// Copies to the backlog what the socket did not take.
    fn keep(&mut self, payload: &GuestBuffer<'_>) {
        let start = self.backlog.len();
        self.backlog.resize(start + payload.len(), 0);
        let bytes = &mut self.backlog.make_contiguous()[start..];
        payload.copy_to(bytes);
    }

    fn forwarded(&mut self, len: usize) {
        self.inbound.forward(u32::try_from(len).unwrap_or(u32::MAX));
        if self.inbound.is_update_due() {
            self.credit_update_due = true;
        }
    }

    fn shutdown(&mut self, flags: u32) -> Outcome {
        let news = flags & SHUTDOWN_BOTH & !self.guest_shut;
        self.guest_shut |= news;
        if news & SHUTDOWN_RECEIVE != 0 {
            // The far end learns with its next write.
            let _ = self.socket.shutdown(Shutdown::Read);
        }
        if self.guest_shut == SHUTDOWN_BOTH {
            self.end_far_input();
            return Outcome::Ends;
        }
        self.end_far_input();
        self.settle();
        Outcome::Stays
    }

    /// Ends the far end's input when the guest has ended it and all is written.
    fn end_far_input(&mut self) {
        let over = self.guest_shut & SHUTDOWN_SEND != 0 && self.backlog.is_empty();
        if over && !self.far_input_ended {
            self.far_input_ended = true;
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// The far end reads no more.
    fn far_refuses(&mut self) {
        let lost = self.backlog.len();
        self.backlog = VecDeque::new();
        self.forwarded(lost);
        self.end(SHUTDOWN_RECEIVE);
    }

    /// Ends directions of ours; the guest is told.
    fn end(&mut self, directions: u32) {
        if self.host_shut | directions != self.host_shut {
            self.host_shut |= directions;
            if self.due.is_none() {
                self.due = Some(Op::Shutdown);
            }
        }
        self.settle();
    }

    /// Draws the conclusions from which directions have ended.
    fn settle(&mut self) {
        let to_guest_over =
            self.host_shut & SHUTDOWN_SEND != 0 || self.guest_shut & SHUTDOWN_RECEIVE != 0;
        let from_guest_over = self.guest_shut & SHUTDOWN_SEND != 0
            || self.hung_up
            || self.host_shut & SHUTDOWN_RECEIVE != 0;
        if to_guest_over && from_guest_over && self.phase == Phase::Open {
            self.phase = Phase::Closing;
            self.host_shut = SHUTDOWN_BOTH;
            // After a RESPONSE that is still due: see `next_control`.
            if self.due.is_none() {
                self.due = Some(Op::Shutdown);
            }
        }
    }

    /// An event of the socket.
    pub fn event(&mut self, readable: bool, far_ended: bool, hung_up: bool) {
        self.readable |= readable || far_ended || hung_up;
        self.far_ended |= far_ended || hung_up;
        self.hung_up |= hung_up;
        self.settle();
    }

    /// Writes backlog to the socket, as much as it takes.
    pub fn flush(&mut self) {
        while !self.backlog.is_empty() {
            let (front, _) = self.backlog.as_mut_slices();
            let pieces = [VolatileSlice::from(front)];
            match sys::send(self.socket.as_fd(), &pieces) {
                Ok(sent) => {
                    self.backlog.drain(..sent);
                    self.forwarded(sent);
                }
                Err(error) if is_for_now(error.kind()) => break,
                Err(_) => self.far_refuses(),
            }
        }
        if self.backlog.is_empty() {
            // An idle stream holds no memory.
            self.backlog = VecDeque::new();
            self.end_far_input();
        }
    }

    /// Whether there is a packet without payload to send.
    #[must_use]
    pub fn has_control(&self) -> bool {
        self.due.is_some() || self.credit_update_due
    }

    /// Whether a read may give something that the guest has room for.
    #[must_use]
    pub fn can_read(&self) -> bool {
        self.readable
            && self.phase != Phase::Connecting
            && !matches!(self.due, Some(Op::Request | Op::Response))
            && self.host_shut & SHUTDOWN_SEND == 0
            && self.guest_shut & SHUTDOWN_RECEIVE == 0
            && self.outbound.free() > 0
    }

    /// Bytes that the next read should have room for.
    #[must_use]
    pub fn read_size(&self, most: u32) -> u32 {
        self.outbound.free().min(self.burst).min(most)
    }

    /// Reads into the guest's memory, at most [`Stream::read_size`] bytes.
    pub fn read(&mut self, room: &GuestBuffer<'_>) -> Read {
        let received = match sys::receive(self.socket.as_fd(), room.pieces()) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Read::Nothing,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return Read::Nothing;
            }
            // The far end closed with unread data: for the guest an end like any.
            Err(_) => sys::Received {
                len: 0,
                cut_short: false,
            },
        };
        if received.len == 0 {
            self.end(SHUTDOWN_SEND);
            return Read::End;
        }
        let len = u32::try_from(received.len).unwrap_or(u32::MAX);
        if received.len < room.len() {
            // The socket was empty at that moment, and what comes later is a
            // new edge. The end of file is not, once it has been seen.
            self.readable = received.cut_short || self.far_ended;
            self.burst = len.max(FIRST_BURST);
        } else {
            self.burst = self.burst.saturating_mul(2).max(len);
        }
        self.outbound.send(len);
        Read::Data(len)
    }

    /// The next packet without payload: operation and flags.
    pub fn next_control(&mut self) -> Option<(Op, u32)> {
        if let Some(op) = self.due.take() {
            if op != Op::Shutdown && self.host_shut != 0 {
                self.due = Some(Op::Shutdown);
            }
            let flags = if op == Op::Shutdown {
                self.host_shut
            } else {
                0
            };
            return Some((op, flags));
        }
        self.credit_update_due.then_some((Op::CreditUpdate, 0))
    }

    /// (`buf_alloc`, `fwd_cnt`) for a packet that goes out now.
    pub fn announce(&mut self) -> (u32, u32) {
        self.credit_update_due = false;
        self.inbound.announce()
    }
}

fn is_for_now(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
