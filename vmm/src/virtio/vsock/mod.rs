//! virtio-vsock (VIRTIO 1.2, 5.10) in user space: stream sockets whose host
//! side is a socket pair.
//!
//! ```text
//! guest ── tx queue ──► Streams ──► Stream ── sendmsg from guest memory ──► socket pair ─► supervisor
//! guest ◄─ rx queue ──────┘            └───── recvmsg into guest memory ◄── socket pair ◄─ supervisor
//! ```
//!
//! [`packet`] is the wire, [`credit`] the flow control, [`stream`] one
//! connection, [`table`] and [`streams`] all of them, [`room`] the guest's
//! buffers; this file has the queues and events.
//! Bytes go straight between guest memory and the socket; only what a full
//! socket does not take is copied, within the credit given.

pub mod credit;
pub mod packet;
pub mod room;
pub mod state;
pub mod stream;
pub mod streams;
pub mod table;
#[cfg(test)]
mod tests;

use super::buffer::GuestBuffer;
use super::{
    DeviceAnswer, DeviceCall, DeviceError, DeviceKind, EventRegistry, Interest, Outgoing, Running,
    Token, VirtQueue, VirtioDevice,
};
use crate::memory::GuestMemory;
use packet::{HEADER_LEN, Header};
use room::Room;
use state::VsockState;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use streams::{Next, Streams};
use table::FIRST_TOKEN;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

/// `VIRTIO_VSOCK_F_STREAM`.
const F_STREAM: u64 = 1 << 0;

const RX: usize = 0;
const TX: usize = 1;
const EVENT: usize = 2;

/// Linux fills the receive queue with buffers of 4 KiB (8 with what it needs
/// around them), so its length is guest memory: 128 hold two windows of credit.
const QUEUE_SIZES: [u16; 3] = [128, 128, 16];

/// Packets of the guest taken, and bytes sent to it, before other devices of
/// the thread have their turn.
const TX_BUDGET: u32 = 128;
const RX_BUDGET: u32 = 1 << 20;

/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`, little-endian.
const TRANSPORT_RESET: [u8; 4] = [0; 4];

const TIMER: Token = Token(0);
const AGAIN: Token = Token(1);

/// The device.
#[derive(Debug)]
pub struct Vsock {
    guest_cid: u64,
    streams: Streams,
    /// Fires at the first deadline of a stream.
    timer: TimerFd,
    timer_armed: Option<Instant>,
    /// Wakes the thread for work left over.
    again: EventFd,
    active: bool,
    reset_pending: bool,
}

impl Vsock {
    /// A device for a guest with that context ID. Makes its timer and its
    /// eventfd; errors when the host refuses them.
    pub fn new(guest_cid: u64) -> Result<Self, DeviceError> {
        let timer = TimerFd::new().map_err(|error| DeviceError::Host {
            action: "make a timer",
            source: error.into(),
        })?;
        let again = EventFd::new(EFD_NONBLOCK).map_err(|source| DeviceError::Host {
            action: "make an eventfd",
            source,
        })?;
        Ok(Self {
            guest_cid,
            streams: Streams::new(guest_cid),
            timer,
            timer_armed: None,
            again,
            active: false,
            reset_pending: false,
        })
    }

    /// Moves what can be moved, both ways.
    fn run(&mut self, running: &mut Running<'_>) {
        let mut tx_left = TX_BUDGET;
        let mut rx_left = RX_BUDGET;
        loop {
            let received = self.receive(running, &mut tx_left);
            let sent = self.send(running, &mut rx_left);
            if tx_left == 0 || rx_left == 0 {
                let _ = self.again.write(1);
                break;
            }
            // A packet taken may have something to send as its consequence,
            // and a refusal sent makes room for packets.
            if !received && !sent {
                break;
            }
        }
        // One interrupt serves both queues: the driver looks at all of them.
        let mut wanted = false;
        for index in [RX, TX] {
            if let Some(queue) = running.queues.get_mut(index) {
                wanted |= queue.needs_signal(running.memory);
            }
        }
        if wanted {
            running.interrupt.signal_used();
        }
        self.arm_timer();
    }

    /// Takes packets of the guest. Returns whether there were any.
    fn receive(&mut self, running: &mut Running<'_>, left: &mut u32) -> bool {
        let Some(queue) = running.queues.get_mut(TX) else {
            return false;
        };
        let mut any = false;
        while *left > 0 && self.streams.accepts_packets() {
            let Some(chain) = queue.pop(running.memory) else {
                if queue.rearm(running.memory) {
                    continue;
                }
                break;
            };
            let head = chain.head_index();
            if let Ok(mut payload) = GuestBuffer::readable(running.memory, chain) {
                let mut wire = [0u8; HEADER_LEN];
                if payload.take_front(HEADER_LEN).copy_to(&mut wire) == HEADER_LEN {
                    self.streams
                        .packet(&Header::decode(&wire), payload, running.events);
                }
            }
            queue.add_used(running.memory, head, 0);
            *left -= 1;
            any = true;
        }
        any
    }

    /// Fills buffers of the guest. Returns whether there was anything to send
    /// and room for it.
    fn send(&mut self, running: &mut Running<'_>, left: &mut u32) -> bool {
        let Some(queue) = running.queues.get_mut(RX) else {
            return false;
        };
        let memory = running.memory;
        let now = Instant::now();
        let mut any = false;
        while *left > 0 && self.streams.has_next() {
            let Some(chain) = queue.pop(memory) else {
                if queue.rearm(memory) {
                    continue;
                }
                break;
            };
            // Whatever it was for, a buffer costs: a driver that makes only
            // useless ones available does not keep the thread.
            *left = left.saturating_sub(HEADER_LEN as u32);
            let head = chain.head_index();
            let Some(room) = Room::new(memory, chain) else {
                queue.add_used(memory, head, 0);
                continue;
            };
            any = true;
            match self.streams.next(now) {
                Some(Next::Control(header)) => {
                    room.fill(queue, memory, &header);
                }
                Some(Next::Data { token, most }) => {
                    let sent = self.send_data(queue, memory, room, (token, most), now);
                    *left = left.saturating_sub(sent);
                }
                None => {
                    queue.undo_pop();
                    break;
                }
            }
        }
        any
    }

    /// Sends bytes of one stream with one system call into as many buffers as
    /// they fill. Returns how many.
    fn send_data(
        &mut self,
        queue: &mut VirtQueue,
        memory: &GuestMemory,
        first: Room<'_>,
        (token, most): (u32, u32),
        now: Instant,
    ) -> u32 {
        let mut all = GuestBuffer::default();
        let mut rooms = vec![first.share(&mut all)];
        while all.len() < most as usize && all.pieces().len() < crate::sys::vsock::MAX_PIECES {
            match Room::next(queue, memory) {
                Some(room) => rooms.push(room.share(&mut all)),
                None => break,
            }
        }
        all.truncate(most as usize);
        let header = self.streams.read(token, &all, now);
        let mut rest = header.map_or(0, |header| header.len);
        let sent = rest;
        for (room, capacity) in rooms {
            let len = rest.min(capacity);
            match header {
                Some(header) if len > 0 => room.fill(queue, memory, &Header { len, ..header }),
                // Nothing in it: the guest's next buffer is this one again.
                _ => queue.undo_pop(),
            }
            rest -= len;
        }
        sent
    }

    fn send_reset_event(&mut self, running: &mut Running<'_>) {
        if !self.reset_pending {
            return;
        }
        let Some(queue) = running.queues.get_mut(EVENT) else {
            return;
        };
        for _ in 0..QUEUE_SIZES[EVENT] {
            if !self.reset_pending {
                break;
            }
            let Some(chain) = queue.pop(running.memory) else {
                if queue.rearm(running.memory) {
                    continue;
                }
                break;
            };
            let head = chain.head_index();
            let written = match GuestBuffer::writable(running.memory, chain) {
                Ok(buffer) if buffer.len() >= TRANSPORT_RESET.len() => {
                    self.reset_pending = false;
                    buffer.copy_from(&TRANSPORT_RESET)
                }
                _ => 0,
            };
            queue.add_used(running.memory, head, u32::try_from(written).unwrap_or(0));
        }
        running.signal_used(EVENT);
    }

    fn arm_timer(&mut self) {
        // A deadline that was met leaves the timer as it is: one look too many
        // later costs less than a system call per stream.
        let wanted = self.streams.next_deadline();
        if let Some(deadline) = wanted
            && self.timer_armed.is_none_or(|armed| deadline < armed)
        {
            let wait = deadline.saturating_duration_since(Instant::now());
            if self
                .timer
                .reset(wait.max(Duration::from_millis(1)), None)
                .is_ok()
            {
                self.timer_armed = wanted;
            }
        }
    }
}

impl VirtioDevice for Vsock {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Vsock
    }

    fn features(&self) -> u64 {
        F_STREAM
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        let config = self.guest_cid.to_le_bytes();
        for (to, from) in data.iter_mut().zip(config.iter().skip(offset)) {
            *to = *from;
        }
    }

    fn activate(&mut self, running: &mut Running<'_>) -> Result<(), DeviceError> {
        let watch = |fd, token| {
            running
                .events
                .add(fd, token, Interest::IN)
                .map_err(|source| DeviceError::Host {
                    action: "watch a timer",
                    source,
                })
        };
        watch(self.timer.as_raw_fd(), TIMER)?;
        watch(self.again.as_raw_fd(), AGAIN)?;
        self.active = true;
        Ok(())
    }

    fn queue_notified(&mut self, running: &mut Running<'_>, index: usize) {
        if index == EVENT {
            self.send_reset_event(running);
        } else {
            self.run(running);
        }
    }

    fn ready(&mut self, running: &mut Running<'_>, token: Token, interest: Interest) {
        match token {
            TIMER => {
                let _ = self.timer.wait();
                self.timer_armed = None;
                self.streams.expire(Instant::now(), running.events);
            }
            AGAIN => {
                let _ = self.again.read();
            }
            Token(stream) if stream >= FIRST_TOKEN => {
                self.streams
                    .event(stream, interest, Instant::now(), running.events);
            }
            Token(_) => {}
        }
        self.run(running);
    }

    fn control(
        &mut self,
        running: &mut Running<'_>,
        call: DeviceCall,
    ) -> Result<DeviceAnswer, DeviceError> {
        let answer = match call {
            DeviceCall::SupervisorArrived => {
                self.streams.set_supervisor(true, running.events);
                DeviceAnswer::Done
            }
            DeviceCall::SupervisorGone => {
                self.streams.set_supervisor(false, running.events);
                DeviceAnswer::Done
            }
            DeviceCall::ConnectVsock { .. } if !self.active => {
                return Err(DeviceError::NotActive(DeviceKind::Vsock));
            }
            DeviceCall::ConnectVsock { port } => {
                let socket = self.streams.connect(port, Instant::now(), running.events)?;
                DeviceAnswer::Stream(socket)
            }
            DeviceCall::Grow(_) => return Err(DeviceError::NotThisKind(DeviceKind::Vsock)),
        };
        if self.active {
            self.run(running);
        }
        Ok(answer)
    }

    fn reset(&mut self, events: &EventRegistry) {
        self.streams.clear(events);
        if self.active {
            events.remove(self.timer.as_raw_fd());
            events.remove(self.again.as_raw_fd());
        }
        self.active = false;
        self.reset_pending = false;
    }

    fn take_messages(&mut self) -> Vec<Outgoing> {
        self.streams.take_opened().into()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counts = self.streams.counts();
        vec![
            ("bytes_in", counts.bytes_in),
            ("bytes_out", counts.bytes_out),
            ("streams", self.streams.count() as u64),
            ("accepted", counts.accepted),
            ("connected", counts.connected),
            ("refused", counts.refused),
            ("broken", counts.broken),
            ("timed_out", counts.timed_out),
            ("backlog", self.streams.backlog_len() as u64),
        ]
    }

    fn save(&self) -> serde_json::Value {
        let state = VsockState {
            guest_cid: self.guest_cid,
            reset_pending: self.reset_pending,
        };
        serde_json::to_value(state).unwrap_or_default()
    }

    fn restore(
        &mut self,
        running: &mut Running<'_>,
        state: serde_json::Value,
    ) -> Result<(), DeviceError> {
        let state: VsockState =
            serde_json::from_value(state).map_err(|error| DeviceError::State {
                reason: error.to_string(),
            })?;
        if state.guest_cid != self.guest_cid {
            let reason = format!("its guest is {}, not {}", state.guest_cid, self.guest_cid);
            return Err(DeviceError::State { reason });
        }
        self.activate(running)?;
        self.reset_pending = true;
        self.send_reset_event(running);
        Ok(())
    }
}
