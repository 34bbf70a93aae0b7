//! The device against a driver in plain memory and real sockets.

mod life;
mod limits;
mod random;

use super::packet::{HOST_CID, Op, SHUTDOWN_BOTH, SHUTDOWN_SEND, TYPE_STREAM};
use super::*;
use crate::virtio::testing::{Bench, RING_SPACE, Random};
use beluga_proto::ControlMessage;
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use vm_memory::{Bytes, GuestAddress};

const CID: u64 = 3;
const RX_SPACE: u64 = 3 * RING_SPACE;
const RX_SLOT: u64 = 0x1100;
const TX_SPACE: u64 = 1 << 20;
const TX_SLOT: u64 = 0x1_1000;
const WINDOW: u32 = 64 << 10;

/// One end of a stream as the guest has it.
#[derive(Default)]
struct Socket {
    outbound: credit::Outbound,
    received: Vec<u8>,
    /// Bytes that the guest's program has read.
    taken: u32,
    shut_by_host: u32,
    open: bool,
    reset: bool,
}

/// A guest that keeps the rules, and can be told to break them.
struct Guest {
    bench: Bench<Vsock>,
    rx_slots: BTreeMap<u16, u64>,
    tx_slots: BTreeMap<u16, u64>,
    tx_free: Vec<u64>,
    sockets: BTreeMap<(u32, u32), Socket>,
    /// Ports of streams that the host opens.
    called: VecDeque<(u32, u32)>,
    reads_at_once: bool,
    lies: bool,
}

impl Guest {
    fn new() -> Self {
        let device = Vsock::new(CID).expect("a device");
        let mut guest = Self {
            bench: Bench::new(device, 16, 0),
            rx_slots: BTreeMap::new(),
            tx_slots: BTreeMap::new(),
            tx_free: (0..128).map(|at| TX_SPACE + at * TX_SLOT).collect(),
            sockets: BTreeMap::new(),
            called: VecDeque::new(),
            reads_at_once: true,
            lies: false,
        };
        for at in 0..100 {
            guest.offer_room(RX_SPACE + at * RX_SLOT);
        }
        guest.bench.kick(RX);
        guest.supervisor(true);
        guest
    }

    fn supervisor(&mut self, there: bool) {
        let call = if there {
            DeviceCall::SupervisorArrived
        } else {
            DeviceCall::SupervisorGone
        };
        self.bench
            .with(|device, running| device.control(running, call))
            .expect("understood");
    }

    fn offer_room(&mut self, at: u64) {
        let head = self.bench.drivers[RX]
            .offer(&[(at, 44 + 4096, true)])
            .expect("room");
        self.rx_slots.insert(head, at);
    }

    /// Queues a packet; `false`: the ring is full.
    fn queue(&mut self, header: Header, payload: &[u8]) -> bool {
        let Some(at) = self.tx_free.pop() else {
            return false;
        };
        let memory = &self.bench.memory;
        memory
            .write_slice(&header.encode(), GuestAddress(at))
            .expect("fits");
        memory
            .write_slice(payload, GuestAddress(at + 44))
            .expect("fits");
        // Header and payload apart, the payload in two: as zero-copy does.
        let half = payload.len() as u32 / 2;
        let rest = payload.len() as u32 - half;
        let mut pieces = vec![(at, 44, false)];
        pieces.extend((half > 0).then_some((at + 44, half, false)));
        pieces.extend((rest > 0).then_some((at + 44 + u64::from(half), rest, false)));
        let Some(head) = self.bench.drivers[TX].offer(&pieces) else {
            self.tx_free.push(at);
            return false;
        };
        self.tx_slots.insert(head, at);
        true
    }

    fn header(&mut self, ports: (u32, u32), op: Op, flags: u32, len: usize) -> Header {
        let fwd_cnt = self.sockets.get(&ports).map_or(0, |socket| socket.taken);
        Header {
            src_cid: CID,
            dst_cid: HOST_CID,
            src_port: ports.1,
            dst_port: ports.0,
            len: len as u32,
            kind: TYPE_STREAM,
            op: op as u16,
            flags,
            buf_alloc: WINDOW,
            fwd_cnt,
        }
    }

    fn send(&mut self, ports: (u32, u32), op: Op, flags: u32, payload: &[u8]) {
        let header = self.header(ports, op, flags, payload.len());
        assert!(self.queue(header, payload), "the ring has room");
        self.bench.kick(TX);
        self.settle();
    }

    /// Sends as much of `data` as credit allows; returns how much.
    fn write(&mut self, ports: (u32, u32), data: &[u8]) -> usize {
        let free = self
            .sockets
            .get(&ports)
            .map_or(0, |socket| socket.outbound.free());
        let len = data.len().min(free as usize).min(65_536);
        if len > 0 {
            self.sockets
                .get_mut(&ports)
                .expect("open")
                .outbound
                .send(len as u32);
            self.send(ports, Op::Data, 0, &data[..len]);
        }
        len
    }

    /// Handles all that the device has sent, and its events.
    fn settle(&mut self) {
        loop {
            while let Some((head, _)) = self.bench.drivers[TX].take_used() {
                self.tx_free
                    .push(self.tx_slots.remove(&head).expect("ours"));
            }
            let mut any = false;
            while let Some((head, written)) = self.bench.drivers[RX].take_used() {
                any = true;
                let at = self.rx_slots.remove(&head).expect("ours");
                let mut packet = vec![0u8; written as usize];
                self.bench
                    .memory
                    .read_slice(&mut packet, GuestAddress(at))
                    .expect("inside");
                self.offer_room(at);
                self.receive(&packet);
            }
            if any {
                self.bench.kick(RX);
            } else if self.bench.pump(0) == 0 {
                break;
            }
        }
    }

    fn receive(&mut self, packet: &[u8]) {
        let (wire, payload) = packet.split_first_chunk::<HEADER_LEN>().expect("a header");
        let header = Header::decode(wire);
        assert_eq!((header.dst_cid, header.len as usize), (CID, payload.len()));
        let ports = (header.src_port, header.dst_port);
        let op = Op::from_wire(header.op).expect("an operation");
        if op == Op::Request {
            self.called.push_back(ports);
            self.sockets.insert(ports, Socket::default());
        }
        let Some(socket) = self.sockets.get_mut(&ports) else {
            return;
        };
        if op != Op::Reset {
            let credit = socket.outbound.update(header.buf_alloc, header.fwd_cnt);
            assert!(credit.is_ok() || self.lies, "an honest device");
        }
        match op {
            Op::Response => socket.open = true,
            Op::Reset => socket.reset = true,
            Op::Shutdown => {
                socket.shut_by_host |= header.flags;
                if socket.shut_by_host == SHUTDOWN_BOTH {
                    // As Linux does.
                    self.sockets.get_mut(&ports).expect("there").reset = true;
                    let answer = self.header(ports, Op::Reset, 0, 0);
                    self.queue(answer, &[]);
                    self.bench.kick(TX);
                }
            }
            Op::Data => {
                assert_eq!(
                    socket.shut_by_host & SHUTDOWN_SEND,
                    0,
                    "no data after the end"
                );
                socket.received.extend_from_slice(payload);
                let held = (socket.received.len() as u32).wrapping_sub(socket.taken);
                assert!(held <= WINDOW, "more than there is room for");
                if self.reads_at_once {
                    self.read(ports);
                }
            }
            _ => {}
        }
    }

    /// The guest's program reads all there is; the host is told now and then.
    fn read(&mut self, ports: (u32, u32)) {
        let socket = self.sockets.get_mut(&ports).expect("open");
        let before = socket.taken;
        socket.taken = socket.received.len() as u32;
        if socket.taken / 16_384 != before / 16_384 {
            let header = self.header(ports, Op::CreditUpdate, 0, 0);
            if self.queue(header, &[]) {
                self.bench.kick(TX);
            }
        }
    }

    /// Opens a stream; gives its ports and the supervisor's end.
    fn open(&mut self, host_port: u32, guest_port: u32) -> ((u32, u32), Option<UnixStream>) {
        let ports = (host_port, guest_port);
        self.sockets.insert(ports, Socket::default());
        self.send(ports, Op::Request, 0, &[]);
        let socket =
            self.bench
                .device
                .take_messages()
                .pop()
                .map(|Outgoing { message, fd, .. }| {
                    assert_eq!(
                        message,
                        ControlMessage::VsockOpened {
                            host_port,
                            guest_port
                        }
                    );
                    UnixStream::from(fd.expect("a descriptor"))
                });
        (ports, socket)
    }

    fn socket(&self, ports: (u32, u32)) -> &Socket {
        &self.sockets[&ports]
    }
}
