//! All streams of the device: who they are, whose turn it is, what is to be
//! refused. Knows packets and sockets, no queues.
//!
//! Everything that a guest can make grow has a limit here: streams
//! and their buffers (in [`super::table`]), refusals ([`MAX_REFUSALS`]),
//! connections that no supervisor has taken yet
//! ([`MAX_OPENED`]).

use super::packet::{HOST_CID, Header, MAX_PAYLOAD, Op, TYPE_STREAM};
use super::stream::{Outcome, Phase, Read, Stream};
use super::table::{Entry, LARGE_ALLOC, Ports, Table};
use crate::virtio::buffer::GuestBuffer;
use crate::virtio::{DeviceError, EventRegistry, Interest, Outgoing, Places};
use beluga_proto::{CONTROL_PORT, ControlMessage, STREAM_PORT};
use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Refusals that wait for a buffer of the guest. When there are more, its
/// packets are left where they are.
const MAX_REFUSALS: usize = 256;

/// Streams that the guest opened and the supervisor has not been told of,
/// because it does not read as fast. Further calls are refused: a caller whose
/// call is refused has lost nothing and may call again.
const MAX_OPENED: usize = 256;

/// Bytes that a stream may send before another one has its turn.
const TURN: u32 = 64 << 10;

/// How long the guest may take to answer a REQUEST, or a SHUTDOWN of both
/// directions with a RST. Linux waits as long for its peer.
const PATIENCE: Duration = Duration::from_secs(8);

/// Ports on which the guest may call the host.
const GUEST_PORTS: [u32; 2] = [CONTROL_PORT, STREAM_PORT];

/// What is to be sent to the guest next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A packet without payload.
    Control(Header),
    /// Up to so many bytes of a stream; see [`Streams::read`].
    Data {
        /// Of which.
        token: u32,
        /// Bytes.
        most: u32,
    },
}

/// Counts for people.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Streams opened by the guest.
    pub accepted: u64,
    /// Streams opened by the host.
    pub connected: u64,
    /// Packets answered with a reset.
    pub refused: u64,
    /// Streams broken off for what the guest sent.
    pub broken: u64,
    /// Streams broken off because the guest did not answer.
    pub timed_out: u64,
    /// Bytes from the guest.
    pub bytes_in: u64,
    /// Bytes to the guest.
    pub bytes_out: u64,
}

/// The streams.
#[derive(Debug)]
pub struct Streams {
    guest_cid: u64,
    table: Table,
    turns: VecDeque<u32>,
    refusals: VecDeque<Header>,
    opened: VecDeque<Outgoing>,
    unheard: Places,
    deadlines: BTreeSet<(Instant, u32)>,
    supervisor: bool,
    counts: Counts,
}

impl Streams {
    /// No streams, and no supervisor.
    #[must_use]
    pub fn new(guest_cid: u64) -> Self {
        Self {
            guest_cid,
            table: Table::empty(),
            turns: VecDeque::new(),
            refusals: VecDeque::new(),
            opened: VecDeque::new(),
            unheard: Places::new(MAX_OPENED),
            deadlines: BTreeSet::new(),
            supervisor: false,
            counts: Counts::default(),
        }
    }

    /// Streams there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.count()
    }

    /// Bytes of the guest that wait for room in sockets.
    #[must_use]
    pub fn backlog_len(&self) -> usize {
        self.table.backlog_len()
    }

    /// Counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Streams that the guest opened since the last call.
    pub fn take_opened(&mut self) -> VecDeque<Outgoing> {
        std::mem::take(&mut self.opened)
    }

    /// A supervisor has come, or gone: then every stream is reset.
    pub fn set_supervisor(&mut self, there: bool, events: &EventRegistry) {
        self.supervisor = there;
        if there {
            return;
        }
        self.opened.clear();
        for token in self.table.all() {
            self.reset(token, events);
        }
    }

    /// Forgets all streams without a word to the guest, which has forgotten
    /// them itself.
    pub fn clear(&mut self, events: &EventRegistry) {
        for token in self.table.all() {
            self.table.remove(token, events);
        }
        self.turns.clear();
        self.refusals.clear();
        self.opened.clear();
        self.deadlines.clear();
    }

    /// Whether packets of the guest can be taken: when refusals pile up, the
    /// guest has to make room for them first.
    #[must_use]
    pub fn accepts_packets(&self) -> bool {
        self.refusals.len() < MAX_REFUSALS
    }

    /// Takes a packet of the guest.
    pub fn packet(
        &mut self,
        header: &Header,
        mut payload: GuestBuffer<'_>,
        events: &EventRegistry,
    ) {
        let op = Op::from_wire(header.op);
        let len = header.len as usize;
        let whole = header.len <= MAX_PAYLOAD && len <= payload.len();
        let addressed = header.src_cid == self.guest_cid
            && header.dst_cid == HOST_CID
            && header.kind == TYPE_STREAM;
        let ports = Ports {
            host: header.dst_port,
            guest: header.src_port,
        };
        let known = self.table.find(ports).filter(|_| addressed);
        match (op, known) {
            (Some(op), Some(token)) if whole => {
                payload.truncate(len);
                self.packet_of(token, op, header, payload, events);
            }
            (Some(Op::Reset), None) => {}
            (Some(Op::Request), None) if addressed => self.open(ports, header, events),
            (_, Some(token)) => self.break_off(token, events),
            (_, None) => self.refuse(header),
        }
    }

    fn packet_of(
        &mut self,
        token: u32,
        op: Op,
        header: &Header,
        mut payload: GuestBuffer<'_>,
        events: &EventRegistry,
    ) {
        let Some(entry) = self.table.get_mut(token) else {
            return;
        };
        if op != Op::Reset && entry.stream.credit(header).is_err() {
            return self.break_off(token, events);
        }
        if op == Op::Data {
            self.counts.bytes_in += payload.len() as u64;
        }
        match entry.stream.packet(op, header.flags, &mut payload) {
            Outcome::Stays => {
                self.clear_deadline(token);
                self.refresh(token, events);
            }
            Outcome::Breaks => self.break_off(token, events),
            Outcome::Gone => self.detach(token, events),
            Outcome::Ends => {
                self.detach(token, events);
                self.refuse(header);
            }
        }
    }

    /// The guest calls.
    fn open(&mut self, ports: Ports, header: &Header, events: &EventRegistry) {
        let welcome = self.supervisor && GUEST_PORTS.contains(&ports.host);
        let Some(place) = welcome.then(|| self.unheard.take()).flatten() else {
            return self.refuse(header);
        };
        match self.insert(ports, Stream::accepted, events) {
            Ok((token, socket)) => {
                self.counts.accepted += 1;
                let Ports {
                    host: host_port,
                    guest: guest_port,
                } = ports;
                self.opened.push_back(Outgoing {
                    message: ControlMessage::VsockOpened {
                        host_port,
                        guest_port,
                    },
                    fd: Some(socket),
                    place: Some(place),
                });
                if let Some(entry) = self.table.get_mut(token)
                    && entry.stream.credit(header).is_err()
                {
                    self.break_off(token, events);
                }
            }
            Err(_) => self.refuse(header),
        }
    }

    /// The host calls. Returns the caller's end, which may be used at once.
    /// Errors without a supervisor and at the limit of streams.
    pub fn connect(
        &mut self,
        guest_port: u32,
        now: Instant,
        events: &EventRegistry,
    ) -> Result<OwnedFd, DeviceError> {
        let ports = self.table.free_ports(guest_port);
        let (token, socket) = self.insert(ports, Stream::connecting, events)?;
        self.counts.connected += 1;
        self.set_deadline(token, now);
        Ok(socket)
    }

    fn insert(
        &mut self,
        ports: Ports,
        make: fn(UnixStream, u32) -> Stream,
        events: &EventRegistry,
    ) -> Result<(u32, OwnedFd), DeviceError> {
        let (token, socket) = self.table.insert(ports, make, events)?;
        self.enqueue(token);
        Ok((token, socket))
    }

    /// An event of a stream's socket.
    pub fn event(&mut self, token: u32, interest: Interest, now: Instant, events: &EventRegistry) {
        let Some(entry) = self.table.get_mut(token) else {
            return;
        };
        let hung_up = interest.intersects(Interest::HANG_UP | Interest::ERROR);
        let far_ended = interest.contains(Interest::READ_HANG_UP);
        entry
            .stream
            .event(interest.contains(Interest::IN), far_ended, hung_up);
        if interest.contains(Interest::OUT) || hung_up {
            entry.stream.flush();
        }
        self.refresh(token, events);
        self.watch_closing(token, now);
    }

    /// Whether [`Streams::next`] may give something.
    #[must_use]
    pub fn has_next(&self) -> bool {
        !self.refusals.is_empty() || !self.turns.is_empty()
    }

    /// What to send to the guest next; `None`: nothing for now.
    pub fn next(&mut self, now: Instant) -> Option<Next> {
        if let Some(refusal) = self.refusals.pop_front() {
            return Some(Next::Control(refusal));
        }
        while let Some(token) = self.turns.pop_front() {
            let alone = self.turns.is_empty();
            let Some(entry) = self.table.get_mut(token) else {
                continue;
            };
            entry.stream.queued = false;
            let Some(ports) = entry.ports else { continue };
            // Payload first: it carries the credit along.
            if entry.stream.can_read() {
                let most = entry
                    .stream
                    .read_size(if alone { LARGE_ALLOC } else { TURN });
                return Some(Next::Data { token, most });
            }
            if let Some((op, flags)) = entry.stream.next_control() {
                let header = header(self.guest_cid, ports, &mut entry.stream, op, flags);
                self.requeue(token);
                self.watch_closing(token, now);
                return Some(Next::Control(header));
            }
        }
        None
    }

    /// Reads bytes of a stream into the guest's memory. Returns the header
    /// for them, its `len` being the bytes of all packets that they make.
    pub fn read(&mut self, token: u32, room: &GuestBuffer<'_>, now: Instant) -> Option<Header> {
        let entry = self.table.get_mut(token)?;
        let read = entry.stream.read(room);
        let header = match (read, entry.ports) {
            (Read::Data(len), Some(ports)) => {
                self.counts.bytes_out += u64::from(len);
                let mut header = header(self.guest_cid, ports, &mut entry.stream, Op::Data, 0);
                header.len = len;
                Some(header)
            }
            _ => None,
        };
        self.requeue(token);
        self.watch_closing(token, now);
        header
    }

    /// Resets streams whose time is up.
    pub fn expire(&mut self, now: Instant, events: &EventRegistry) {
        while let Some(&(deadline, token)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            self.counts.timed_out += 1;
            self.reset(token, events);
        }
    }

    /// When [`Streams::expire`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Brings the watched events and the queue of turns up to date.
    fn refresh(&mut self, token: u32, events: &EventRegistry) {
        let Some(entry) = self.table.get_mut(token) else {
            return;
        };
        if entry.stream.backlog_len() == 0 && entry.ports.is_none() {
            return self.remove(token, events);
        }
        self.table.watch(token, events);
        self.requeue(token);
    }

    fn watch_closing(&mut self, token: u32, now: Instant) {
        if let Some(entry) = self.table.get_mut(token)
            && entry.stream.phase() == Phase::Closing
            && entry.stream.deadline.is_none()
            && entry.ports.is_some()
        {
            self.set_deadline(token, now);
        }
    }

    fn set_deadline(&mut self, token: u32, now: Instant) {
        if let Some(entry) = self.table.get_mut(token) {
            let deadline = now + PATIENCE;
            entry.stream.deadline = Some(deadline);
            self.deadlines.insert((deadline, token));
        }
    }

    /// Drops the deadline of a stream that has none any more: the guest has
    /// answered its REQUEST, or has ended it.
    fn clear_deadline(&mut self, token: u32) {
        if let Some(entry) = self.table.get_mut(token)
            && (entry.stream.phase() == Phase::Open || entry.ports.is_none())
            && let Some(deadline) = entry.stream.deadline.take()
        {
            self.deadlines.remove(&(deadline, token));
        }
    }

    fn requeue(&mut self, token: u32) {
        let waits = |entry: &Entry| entry.stream.has_control() || entry.stream.can_read();
        if self.table.get_mut(token).is_some_and(|entry| waits(entry)) {
            self.enqueue(token);
        }
    }

    fn enqueue(&mut self, token: u32) {
        if let Some(entry) = self.table.get_mut(token)
            && !std::mem::replace(&mut entry.stream.queued, true)
        {
            self.turns.push_back(token);
        }
    }

    /// Forgets the stream as far as the guest is concerned; what it sent is
    /// still delivered.
    fn detach(&mut self, token: u32, events: &EventRegistry) {
        self.table.release_ports(token);
        self.clear_deadline(token);
        self.refresh(token, events);
    }

    /// Ends a stream whose guest breaks the protocol.
    fn break_off(&mut self, token: u32, events: &EventRegistry) {
        self.counts.broken += 1;
        self.reset(token, events);
    }

    /// Ends a stream at once, both ways.
    fn reset(&mut self, token: u32, events: &EventRegistry) {
        if let Some(ports) = self.table.get_mut(token).and_then(|entry| entry.ports) {
            self.refusals.push_back(Header {
                src_cid: HOST_CID,
                dst_cid: self.guest_cid,
                src_port: ports.host,
                dst_port: ports.guest,
                kind: TYPE_STREAM,
                op: Op::Reset as u16,
                ..Header::default()
            });
        }
        self.remove(token, events);
    }

    fn remove(&mut self, token: u32, events: &EventRegistry) {
        if let Some(entry) = self.table.get_mut(token)
            && let Some(deadline) = entry.stream.deadline
        {
            self.deadlines.remove(&(deadline, token));
        }
        self.table.remove(token, events);
    }

    /// Answers a packet with a reset, as if from whom it was addressed to.
    fn refuse(&mut self, header: &Header) {
        self.counts.refused += 1;
        self.refusals.push_back(Header {
            src_cid: header.dst_cid,
            dst_cid: self.guest_cid,
            src_port: header.dst_port,
            dst_port: header.src_port,
            kind: header.kind,
            op: Op::Reset as u16,
            ..Header::default()
        });
    }
}

fn header(guest_cid: u64, ports: Ports, stream: &mut Stream, op: Op, flags: u32) -> Header {
    let (buf_alloc, fwd_cnt) = stream.announce();
    Header {
        src_cid: HOST_CID,
        dst_cid: guest_cid,
        src_port: ports.host,
        dst_port: ports.guest,
        len: 0,
        kind: TYPE_STREAM,
        op: op as u16,
        flags,
        buf_alloc,
        fwd_cnt,
    }
}
