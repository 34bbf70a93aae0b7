//! virtio-fs (VIRTIO 1.2, 5.11): a directory of the host, served by another
//! process.
//!
//! Requests go to that process as they are, one packet each, and its answers
//! back into the guest's buffers. What is in them is between the two: nothing
//! here knows an operation, and no system call here knows a file.
//!
//! **A server that lies.** An answer goes only where a request waits for it
//! (by number), only when its length is what its header says, fits the guest's
//! buffers, and its error is one; otherwise the request ends with `EIO`.
//! **A server that is gone** ends what waits and what comes with `ENOTCONN`.
//! **One that does not answer** makes the guest wait and nobody else.

mod request;
#[cfg(test)]
mod tests;

use super::buffer::GuestBuffer;
use super::{
    Again, Chain, DeviceError, DeviceKind, EventRegistry, Interest, Running, Token, VirtioDevice,
};
use crate::sys::fs as sys;
use crate::sys::socket::set_nonblocking;
use request::{IN_HEADER, OUT_HEADER, OutHeader, Pending, unique};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Bytes of a tag in the configuration space.
pub const TAG: usize = 36;

/// Longest request in bytes: 128 KiB of data and its headers, which one packet
/// of a socket holds.
const MAX_REQUEST: usize = (128 << 10) + 4096;

/// One queue for what must not wait (forgetting), one for requests.
const QUEUE_SIZES: [u16; 2] = [128, 128];

/// Requests, and answers, before other devices of the thread have their turn.
const BUDGET: u32 = 64;

/// Most requests that a driver has abandoned by a reset and that are still
/// unanswered. Beyond, the server is given up.
const MAX_ABANDONED: usize = 1024;

const SERVER: Token = Token(0);

#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    bytes_in: u64,
    bytes_out: u64,
    refused: u64,
}

/// A device as a plain value. What the guest has open lives in the server: one
/// that takes over knows nothing of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FsState {
    tag: String,
    /// By number.
    waiting: BTreeMap<u64, Pending>,
}

/// What came of a request.
enum Sent {
    /// It is on its way, or refused.
    Done,
    /// The socket is full.
    Full,
}

/// The device.
#[derive(Debug)]
pub struct Fs {
    tag: String,
    /// `None`: the server is gone.
    server: Option<OwnedFd>,
    waiting: BTreeMap<u64, Pending>,
    /// Numbers of requests of a driver that has reset the device since.
    abandoned: BTreeSet<u64>,
    /// The socket takes no packet now; an event will tell.
    full: bool,
    again: Again,
    counts: Counts,
}

impl Fs {
    /// A device whose requests go to `server`, a socket of packets. Errors for
    /// a tag that is empty or too long.
    pub fn new(tag: &str, server: OwnedFd) -> Result<Self, DeviceError> {
        if tag.is_empty() || tag.len() > TAG {
            let reason = format!("the tag {tag:?} is not 1 to {TAG} bytes long");
            return Err(DeviceError::Invalid { reason });
        }
        set_nonblocking(&server).map_err(|source| DeviceError::Host {
            action: "make a socket non-blocking",
            source,
        })?;
        Ok(Self {
            tag: tag.to_owned(),
            server: Some(server),
            waiting: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            full: false,
            again: Again::default(),
            counts: Counts::default(),
        })
    }

    /// Guest → server.
    fn send_all(&mut self, running: &mut Running<'_>, index: usize) {
        let mut left = BUDGET;
        while !self.full {
            let Some(queue) = running.queues.get_mut(index) else {
                return;
            };
            if left == 0 {
                self.again.ask(running.events);
                break;
            }
            let Some(chain) = queue.pop(running.memory) else {
                if queue.rearm(running.memory) {
                    continue;
                }
                break;
            };
            left -= 1;
            if let Sent::Full = self.send_one(running, index, chain) {
                running.queues[index].undo_pop();
                self.full = true;
            }
        }
        running.signal_used(index);
    }

    fn send_one(&mut self, running: &mut Running<'_>, index: usize, chain: Chain<'_>) -> Sent {
        let (memory, head) = (running.memory, chain.head_index());
        let request = GuestBuffer::readable(memory, chain.clone());
        let pending = Pending::new(index, chain, memory);
        let (Ok(mut request), Ok((pending, room))) = (request, pending) else {
            return self.refuse(running, None, (index, head));
        };
        let mut header = [0; IN_HEADER];
        let length = request.len();
        // Copied once: what is looked at is what is sent.
        let is_whole = request.take_front(IN_HEADER).copy_to(&mut header) == IN_HEADER;
        let number = unique(&header);
        // Without room nobody waits for an answer.
        let waits = room > 0;
        if !is_whole
            || length > MAX_REQUEST
            || waits && (room < OUT_HEADER || self.is_taken(number))
        {
            let answer = is_whole.then_some((&pending, number, libc::EIO));
            return self.refuse(running, answer, (index, head));
        }
        let Some(server) = &self.server else {
            let answer = Some((&pending, number, libc::ENOTCONN));
            return self.refuse(running, answer, (index, head));
        };
        match sys::send(server.as_fd(), &mut header, request.pieces()) {
            Ok(()) => {
                self.counts.requests += 1;
                self.counts.bytes_in += length as u64;
                if waits {
                    self.waiting.insert(number, pending);
                } else {
                    running.queues[index].add_used(memory, head, 0);
                }
                Sent::Done
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Full,
            Err(error) => {
                let errno = match error.kind() {
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                        self.lose_server(running);
                        libc::ENOTCONN
                    }
                    // The host has no memory for it.
                    _ => libc::EIO,
                };
                self.refuse(running, Some((&pending, number, errno)), (index, head))
            }
        }
    }

    /// A driver gives each request a number of its own.
    fn is_taken(&self, number: u64) -> bool {
        self.waiting.contains_key(&number) || self.abandoned.contains(&number)
    }

    /// Gives a request back at once, with an error where there is room for one.
    fn refuse(
        &mut self,
        running: &mut Running<'_>,
        answer: Option<(&Pending, u64, i32)>,
        (index, head): (usize, u16),
    ) -> Sent {
        self.counts.refused += 1;
        let memory = running.memory;
        let written = answer.map_or(0, |(pending, number, errno)| {
            pending.refuse(memory, number, errno)
        });
        running.queues[index].add_used(memory, head, written);
        Sent::Done
    }

    /// Server → guest.
    fn receive_all(&mut self, running: &mut Running<'_>) {
        for _ in 0..BUDGET {
            let Some(server) = &self.server else {
                break;
            };
            let mut head = [0; OUT_HEADER];
            match sys::peek(server.as_fd(), &mut head) {
                Ok(0) => self.lose_server(running),
                Ok(length) => self.receive_one(running, OutHeader::parse(head), length),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.signal_all(running);
                }
                Err(_) => self.lose_server(running),
            }
        }
        self.signal_all(running);
        if self.server.is_some() {
            self.again.ask(running.events);
        }
    }

    fn signal_all(&self, running: &mut Running<'_>) {
        for index in 0..QUEUE_SIZES.len() {
            running.signal_used(index);
        }
    }

    /// Takes the packet that was looked at.
    fn receive_one(&mut self, running: &mut Running<'_>, header: OutHeader, length: usize) {
        let Some(server) = self.server.as_ref().map(AsFd::as_fd) else {
            return;
        };
        // Shorter than a header, it has no number; an unknown one was made up,
        // or is of a driver that has gone.
        let whole = length >= OUT_HEADER;
        let pending = whole.then(|| self.waiting.remove(&header.unique)).flatten();
        let Some(pending) = pending else {
            let is_late = whole && self.abandoned.remove(&header.unique);
            self.counts.refused += u64::from(!is_late);
            let _ = sys::receive(server, &[]);
            return;
        };
        let memory = running.memory;
        let written = match pending.buffer(memory) {
            Ok(mut room) if header.is_sound(length, room.len()) => {
                room.truncate(length);
                sys::receive(server, room.pieces()).ok()
            }
            _ => {
                let _ = sys::receive(server, &[]);
                None
            }
        };
        let written = match written {
            Some(written) if written == length => {
                self.counts.bytes_out += written as u64;
                written as u32
            }
            _ => {
                self.counts.refused += 1;
                pending.refuse(memory, header.unique, libc::EIO)
            }
        };
        if let Some(queue) = running.queues.get_mut(pending.queue) {
            queue.add_used(memory, pending.head, written);
        }
    }

    /// Nobody answers any more.
    fn lose_server(&mut self, running: &mut Running<'_>) {
        if let Some(server) = self.server.take() {
            running.events.remove(server.as_raw_fd());
            crate::log::line(format_args!("the server of the share {} is gone", self.tag));
        }
        self.full = false;
        self.abandoned.clear();
        self.end_waiting(running, libc::ENOTCONN);
    }

    fn end_waiting(&mut self, running: &mut Running<'_>, errno: i32) {
        for (number, pending) in std::mem::take(&mut self.waiting) {
            self.counts.refused += 1;
            let written = pending.refuse(running.memory, number, errno);
            if let Some(queue) = running.queues.get_mut(pending.queue) {
                queue.add_used(running.memory, pending.head, written);
            }
        }
    }
}

impl VirtioDevice for Fs {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Fs
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    /// The tag, padded with zeroes, and the number of request queues.
    fn read_config(&self, offset: usize, data: &mut [u8]) {
        let mut config = [0u8; TAG + 4];
        config[..self.tag.len()].copy_from_slice(self.tag.as_bytes());
        config[TAG..].copy_from_slice(&1u32.to_le_bytes());
        for (to, from) in data.iter_mut().zip(config.iter().skip(offset)) {
            *to = *from;
        }
    }

    fn activate(&mut self, running: &mut Running<'_>) -> Result<(), DeviceError> {
        let Some(server) = &self.server else {
            return Ok(());
        };
        let edges = Interest::IN | Interest::OUT | Interest::EDGE_TRIGGERED;
        running
            .events
            .add(server.as_raw_fd(), SERVER, edges)
            .map_err(|source| DeviceError::Host {
                action: "watch a socket",
                source,
            })
    }

    fn queue_notified(&mut self, running: &mut Running<'_>, index: usize) {
        self.send_all(running, index);
    }

    fn ready(&mut self, running: &mut Running<'_>, token: Token, interest: Interest) {
        if token == Again::TOKEN || self.full && interest.contains(Interest::OUT) {
            self.full = false;
        }
        self.receive_all(running);
        for index in 0..QUEUE_SIZES.len() {
            self.send_all(running, index);
        }
    }

    fn reset(&mut self, events: &EventRegistry) {
        self.again.reset(events);
        self.full = false;
        // Their answers may still come, and must not pass for those of requests
        // of the next driver.
        self.abandoned
            .extend(std::mem::take(&mut self.waiting).into_keys());
        if let Some(server) = &self.server {
            events.remove(server.as_raw_fd());
            if self.abandoned.len() > MAX_ABANDONED {
                self.server = None;
                self.abandoned.clear();
            }
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("requests", self.counts.requests),
            ("waiting", self.waiting.len() as u64),
            ("bytes_in", self.counts.bytes_in),
            ("bytes_out", self.counts.bytes_out),
            ("refused", self.counts.refused),
        ]
    }

    fn save(&self) -> serde_json::Value {
        serde_json::to_value(FsState {
            tag: self.tag.clone(),
            waiting: self.waiting.clone(),
        })
        .unwrap_or_default()
    }

    /// What waited was asked of the server of the machine that was saved.
    fn restore(
        &mut self,
        running: &mut Running<'_>,
        state: serde_json::Value,
    ) -> Result<(), DeviceError> {
        let state: FsState = serde_json::from_value(state).map_err(|error| DeviceError::State {
            reason: error.to_string(),
        })?;
        if state.tag != self.tag {
            let reason = format!("it is of the share {:?}, not {:?}", state.tag, self.tag);
            return Err(DeviceError::State { reason });
        }
        self.activate(running)?;
        self.waiting = state.waiting;
        self.end_waiting(running, libc::EIO);
        self.signal_all(running);
        for index in 0..QUEUE_SIZES.len() {
            self.send_all(running, index);
        }
        Ok(())
    }
}
