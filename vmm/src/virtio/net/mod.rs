//! virtio-net (VIRTIO 1.2, 5.1) on a tap.
//!
//! [`offload`] says who segments and sums, [`rx`] moves packets to the guest;
//! the other way is one `writev` from guest memory per packet. The header of a
//! packet is checked by the kernel's tap driver, not here.

pub mod offload;
pub mod rx;
pub mod state;
#[cfg(test)]
mod tests;

use super::buffer::GuestBuffer;
use super::rate::Gate;
use super::{DeviceError, DeviceKind, EventRegistry, Interest, Running, Token, VirtioDevice};
use crate::sys::net as sys;
use beluga_proto::vm::{MacAddress, NetLimits};
use offload::bit;
use rx::{Batch, Received};
use state::NetState;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Bytes of `virtio_net_hdr_v1`, in front of every packet.
pub const HEADER_LEN: usize = 12;

const RX: usize = 0;
const TX: usize = 1;
const QUEUE_SIZES: [u16; 2] = [256, 256];

/// Packets per direction before other devices of the thread have their turn.
const BUDGET: u32 = 256;

/// `VIRTIO_NET_S_LINK_UP`.
const LINK_UP: u16 = 1;

const TAP: Token = Token(0);
const AGAIN: Token = Token(1);
const MAY_SEND: Token = Token(2);
const MAY_RECEIVE: Token = Token(3);

#[derive(Debug, Default)]
struct Counts {
    packets_in: u64,
    bytes_in: u64,
    packets_out: u64,
    bytes_out: u64,
    dropped_in: u64,
    dropped_out: u64,
}

/// The device. "In" is from the guest, as in every counter of the VMM.
#[derive(Debug)]
pub struct Net {
    tap: OwnedFd,
    mac: MacAddress,
    mtu: u16,
    offered: u64,
    mergeable: bool,
    /// Longest packet out of the tap, header included.
    longest: usize,
    /// The tap may have packets.
    readable: bool,
    /// The tap takes no packet now; an event will tell.
    full: bool,
    again: EventFd,
    active: bool,
    counts: Counts,
    from_guest: Option<Gate>,
    to_guest: Option<Gate>,
}

impl Net {
    /// A card on `tap`, which is attached with `IFF_TAP | IFF_NO_PI |
    /// IFF_VNET_HDR`. Errors when the kernel does not take it as one.
    pub fn new(tap: OwnedFd, mac: MacAddress, mtu: u16) -> Result<Self, DeviceError> {
        let host = |action| move |source| DeviceError::Host { action, source };
        sys::set_nonblocking(tap.as_fd()).map_err(host("make the tap non-blocking"))?;
        sys::set_header_size(tap.as_fd(), HEADER_LEN as i32)
            .map_err(host("set the tap's packet header"))?;
        let all = sys::TUN_F_CSUM | sys::TUN_F_USO4 | sys::TUN_F_USO6;
        let uso = sys::set_offload(tap.as_fd(), all).is_ok();
        sys::set_offload(tap.as_fd(), 0).map_err(host("set the tap's offloads"))?;
        Self::on(tap, mac, mtu, uso)
    }

    fn on(tap: OwnedFd, mac: MacAddress, mtu: u16, uso: bool) -> Result<Self, DeviceError> {
        let again = EventFd::new(EFD_NONBLOCK).map_err(|source| DeviceError::Host {
            action: "make an eventfd",
            source,
        })?;
        Ok(Self {
            tap,
            mac,
            mtu,
            offered: offload::offered(uso, mtu),
            mergeable: false,
            longest: offload::longest_packet(0, mtu),
            readable: false,
            full: false,
            again,
            active: false,
            counts: Counts::default(),
            from_guest: None,
            to_guest: None,
        })
    }

    /// Limits what the card carries.
    pub fn limit(&mut self, limits: &NetLimits) -> Result<(), DeviceError> {
        let gate = |rate: &Option<_>| rate.as_ref().map(Gate::new).transpose();
        let host = |action| move |source| DeviceError::Host { action, source };
        self.from_guest = gate(&limits.from_guest).map_err(host("make a timer"))?;
        self.to_guest = gate(&limits.to_guest).map_err(host("make a timer"))?;
        Ok(())
    }

    fn gates(&self) -> impl Iterator<Item = (&Gate, Token)> {
        let of = |gate, token| Option::as_ref(gate).map(|gate| (gate, token));
        let both = [
            of(&self.from_guest, MAY_SEND),
            of(&self.to_guest, MAY_RECEIVE),
        ];
        both.into_iter().flatten()
    }

    /// Tap → guest.
    fn receive(&mut self, running: &mut Running<'_>) {
        let Some(queue) = running.queues.get_mut(RX) else {
            return;
        };
        let mut batch = Batch::new(queue, running.memory, self.mergeable, self.longest);
        let mut left = BUDGET;
        while self.readable {
            if left == 0 {
                let _ = self.again.write(1);
                break;
            }
            left -= 1;
            if self.to_guest.as_mut().is_some_and(Gate::holds) {
                break;
            }
            match batch.receive(self.tap.as_fd()) {
                Ok(Received::Packet(len)) => {
                    let len = len.saturating_sub(HEADER_LEN) as u64;
                    self.counts.packets_out += 1;
                    self.counts.bytes_out += len;
                    if let Some(gate) = &mut self.to_guest {
                        gate.passed(len);
                    }
                }
                Ok(Received::Dropped) => self.counts.dropped_out += 1,
                Ok(Received::Empty) => self.readable = false,
                // The tap is edge-triggered: no room, no events, until the
                // guest says that there is some.
                Ok(Received::NoRoom) if batch.rearm() => {}
                Ok(Received::NoRoom) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The tap is down or gone: an event tells when it is up.
                Err(_) => self.readable = false,
            }
        }
        drop(batch);
        running.signal_used(RX);
    }

    /// Guest → tap.
    fn send(&mut self, running: &mut Running<'_>) {
        let Some(queue) = running.queues.get_mut(TX) else {
            return;
        };
        let mut left = BUDGET;
        while !self.full {
            if left == 0 {
                let _ = self.again.write(1);
                break;
            }
            if self.from_guest.as_mut().is_some_and(Gate::holds) {
                break;
            }
            let Some(chain) = queue.pop(running.memory) else {
                if queue.rearm(running.memory) {
                    continue;
                }
                break;
            };
            left -= 1;
            let head = chain.head_index();
            let sent = GuestBuffer::readable(running.memory, chain)
                .ok()
                .filter(|packet| packet.len() > HEADER_LEN)
                .map(|packet| {
                    (
                        packet.len(),
                        sys::write_packet(self.tap.as_fd(), packet.pieces()),
                    )
                });
            match sent {
                Some((len, Ok(()))) => {
                    let len = (len - HEADER_LEN) as u64;
                    self.counts.packets_in += 1;
                    self.counts.bytes_in += len;
                    if let Some(gate) = &mut self.from_guest {
                        gate.passed(len);
                    }
                }
                Some((_, Err(error))) if error.kind() == ErrorKind::WouldBlock => {
                    queue.undo_pop();
                    self.full = true;
                    break;
                }
                // No packet (the kernel's opinion or ours), or a tap that is
                // down: dropped, as a wire would.
                _ => self.counts.dropped_in += 1,
            }
            queue.add_used(running.memory, head, 0);
        }
        running.signal_used(TX);
    }
}

impl VirtioDevice for Net {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Net
    }

    fn features(&self) -> u64 {
        self.offered
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        let mut config = [0u8; 12];
        config[0..6].copy_from_slice(&self.mac.0);
        config[6..8].copy_from_slice(&LINK_UP.to_le_bytes());
        config[8..10].copy_from_slice(&1u16.to_le_bytes());
        config[10..12].copy_from_slice(&self.mtu.to_le_bytes());
        for (to, from) in data.iter_mut().zip(config.iter().skip(offset)) {
            *to = *from;
        }
    }

    fn activate(&mut self, running: &mut Running<'_>) -> Result<(), DeviceError> {
        let host = |action| move |source| DeviceError::Host { action, source };
        let flags = offload::tap_flags(running.features);
        if flags != 0 {
            sys::set_offload(self.tap.as_fd(), flags).map_err(host("set the tap's offloads"))?;
        }
        self.mergeable = running.has_feature(bit::MRG_RXBUF);
        self.longest = offload::longest_packet(flags, self.mtu);
        self.readable = true;
        self.full = false;
        let edges = Interest::IN | Interest::OUT | Interest::EDGE_TRIGGERED;
        let events = running.events;
        events
            .add(self.tap.as_raw_fd(), TAP, edges)
            .map_err(host("watch the tap"))?;
        events
            .add(self.again.as_raw_fd(), AGAIN, Interest::IN)
            .map_err(host("watch an eventfd"))?;
        for (gate, token) in self.gates() {
            events
                .add(gate.as_raw_fd(), token, Interest::IN)
                .map_err(host("watch a timer"))?;
        }
        self.active = true;
        Ok(())
    }

    fn queue_notified(&mut self, running: &mut Running<'_>, index: usize) {
        if index == TX {
            self.send(running);
        } else {
            self.receive(running);
        }
    }

    fn ready(&mut self, running: &mut Running<'_>, token: Token, interest: Interest) {
        if matches!(token, MAY_SEND | MAY_RECEIVE) {
            for (gate, _) in self.gates().filter(|(_, own)| *own == token) {
                gate.ask_again();
            }
            self.send(running);
        } else if token == AGAIN {
            let _ = self.again.read();
            self.send(running);
        } else {
            self.readable |= interest.contains(Interest::IN);
            if self.full && interest.contains(Interest::OUT) {
                self.full = false;
                self.send(running);
            }
        }
        self.receive(running);
    }

    fn reset(&mut self, events: &EventRegistry) {
        if self.active {
            events.remove(self.tap.as_raw_fd());
            events.remove(self.again.as_raw_fd());
            for (gate, _) in self.gates() {
                events.remove(gate.as_raw_fd());
            }
        }
        self.active = false;
        self.readable = false;
        // What comes until the next driver must be what any driver understands.
        let _ = sys::set_offload(self.tap.as_fd(), 0);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counts {
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
            dropped_in,
            dropped_out,
        } = self.counts;
        vec![
            ("bytes_in", bytes_in),
            ("bytes_out", bytes_out),
            ("packets_in", packets_in),
            ("packets_out", packets_out),
            ("dropped_in", dropped_in),
            ("dropped_out", dropped_out),
        ]
    }

    fn save(&self) -> serde_json::Value {
        serde_json::to_value(NetState {
            mac: self.mac,
            mtu: self.mtu,
        })
        .unwrap_or_default()
    }

    fn restore(
        &mut self,
        running: &mut Running<'_>,
        state: serde_json::Value,
    ) -> Result<(), DeviceError> {
        let state: NetState =
            serde_json::from_value(state).map_err(|error| DeviceError::State {
                reason: error.to_string(),
            })?;
        if state
            != (NetState {
                mac: self.mac,
                mtu: self.mtu,
            })
        {
            return Err(DeviceError::State {
                reason: "it is of another card".to_owned(),
            });
        }
        self.activate(running)?;
        self.receive(running);
        self.send(running);
        Ok(())
    }
}
