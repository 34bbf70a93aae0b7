//! The device against a driver in plain memory and real sockets.

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

#[test]
fn bytes_travel_both_ways_and_each_way_ends_on_its_own() {
    let mut guest = Guest::new();
    let (ports, far) = guest.open(1024, 5000);
    let mut far = far.expect("accepted");
    assert!(guest.socket(ports).open);
    assert_eq!(guest.write(ports, b"from the guest"), 14);
    guest.send(ports, Op::Shutdown, SHUTDOWN_SEND, &[]);
    let mut heard = String::new();
    far.read_to_string(&mut heard)
        .expect("an end after the data");
    assert_eq!(heard, "from the guest");
    far.write_all(b"from the host")
        .expect("the other way is open");
    far.shutdown(Shutdown::Write).expect("shuts");
    guest.settle();
    assert_eq!(guest.socket(ports).received, b"from the host");
    assert!(
        guest.socket(ports).reset,
        "both ways ended: nothing is left"
    );
    assert_eq!(guest.bench.device.streams.count(), 0);
}

#[test]
fn a_far_end_that_closes_at_once_is_heard_to_the_last_byte() {
    let mut guest = Guest::new();
    guest.reads_at_once = false;
    let (ports, far) = guest.open(1025, 77);
    let mut far = far.expect("accepted");
    let data: Vec<u8> = (0..100_000u32).map(|at| at as u8).collect();
    far.write_all(&data).expect("the socket's buffer is larger");
    drop(far);
    guest.settle();
    assert_eq!(guest.socket(ports).received.len(), WINDOW as usize);
    assert_eq!(guest.socket(ports).shut_by_host, 0);
    guest.read(ports);
    guest.settle();
    assert!(guest.socket(ports).received == data && guest.socket(ports).reset);
}

#[test]
fn what_nobody_listens_to_is_reset() {
    let mut guest = Guest::new();
    for (host_port, guest_port) in [(22, 1), (0, 2), (u32::MAX, 3)] {
        let (ports, far) = guest.open(host_port, guest_port);
        assert!(far.is_none() && guest.socket(ports).reset);
    }
    // Without a stream, with a wrong type, a wrong operation, a wrong address.
    guest.sockets.insert((1024, 9), Socket::default());
    guest.send((1024, 9), Op::Data, 0, b"x");
    assert!(guest.socket((1024, 9)).reset);
    let good = guest.header((1024, 10), Op::Request, 0, 0);
    let bad = [
        Header { kind: 2, ..good },
        Header { op: 0, ..good },
        Header { op: 99, ..good },
        Header { dst_cid: 7, ..good },
        Header { src_cid: 7, ..good },
        Header {
            len: 4096,
            op: 5,
            ..good
        },
    ];
    for header in bad {
        guest.sockets.insert((1024, 10), Socket::default());
        assert!(guest.queue(header, &[]));
        guest.bench.kick(TX);
        guest.settle();
        assert!(guest.socket((1024, 10)).reset, "{header:?}");
    }
    assert_eq!(guest.bench.device.streams.count(), 0);
}

#[test]
fn without_a_supervisor_there_are_no_streams() {
    let mut guest = Guest::new();
    let (ports, far) = guest.open(1024, 1);
    let mut far = far.expect("accepted");
    guest.supervisor(false);
    guest.settle();
    assert!(guest.socket(ports).reset);
    assert_eq!(far.read(&mut [0]).expect("an end"), 0);
    let (ports, far) = guest.open(1024, 2);
    assert!(far.is_none() && guest.socket(ports).reset);
    guest.supervisor(true);
    // The ports of a stream that is gone can be used again.
    let (ports, far) = guest.open(1024, 1);
    assert!(far.is_some() && guest.socket(ports).open);
}

fn connect(guest: &mut Guest, port: u32) -> UnixStream {
    let call = DeviceCall::ConnectVsock { port };
    let answer = guest
        .bench
        .with(|device, running| device.control(running, call));
    guest.settle();
    match answer.expect("connects") {
        DeviceAnswer::Stream(fd) => UnixStream::from(fd),
        DeviceAnswer::Done => unreachable!("a stream was asked for"),
    }
}

#[test]
fn the_host_calls_and_is_answered_or_refused_or_ignored() {
    let mut guest = Guest::new();
    let mut far = connect(&mut guest, 80);
    far.write_all(b"early").expect("may be used at once");
    let ports = guest.called.pop_front().expect("called");
    assert_eq!(ports.1, 80);
    guest.settle();
    assert!(
        guest.socket(ports).received.is_empty(),
        "nothing before the answer"
    );
    guest.send(ports, Op::Response, 0, &[]);
    assert_eq!(guest.socket(ports).received, b"early");

    let mut refused = connect(&mut guest, 81);
    let ports = guest.called.pop_front().expect("called");
    guest.send(ports, Op::Reset, 0, &[]);
    assert_eq!(refused.read(&mut [0]).expect("an end"), 0);

    let mut ignored = connect(&mut guest, 82);
    let later = Instant::now() + Duration::from_secs(9);
    guest.bench.with(|device, running| {
        device.streams.expire(later, running.events);
        device.run(running);
    });
    guest.settle();
    assert_eq!(ignored.read(&mut [0]).expect("an end"), 0);
    assert_eq!(guest.bench.device.streams.count(), 1);
}

#[test]
fn a_reader_that_sleeps_costs_one_window_and_stops_one_stream() {
    let mut guest = Guest::new();
    let (slow, slow_far) = guest.open(1024, 1);
    let (fast, fast_far) = guest.open(1024, 2);
    let mut slow_far = slow_far.expect("accepted");
    let mut fast_far = fast_far.expect("accepted");
    let chunk = vec![7u8; 65_536];
    let mut sent = 0;
    loop {
        let len = guest.write(slow, &chunk);
        sent += len;
        if len == 0 {
            break;
        }
    }
    assert!(guest.bench.device.streams.backlog_len() <= 256 << 10);
    assert_eq!(guest.write(fast, b"still moving"), 12);
    let mut heard = [0u8; 12];
    fast_far.read_exact(&mut heard).expect("not held up");
    // The guest ends and forgets the stream; what it sent still arrives.
    guest.send(slow, Op::Shutdown, SHUTDOWN_BOTH, &[]);
    assert!(guest.socket(slow).reset);
    slow_far.set_nonblocking(true).expect("settable");
    let mut got = 0;
    let mut buffer = vec![0u8; 65_536];
    loop {
        match slow_far.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => got += len,
            Err(_) => assert!(guest.bench.pump(1000) > 0, "an event for the room made"),
        }
    }
    assert_eq!(got, sent);
    assert_eq!(guest.bench.device.streams.count(), 1);
}

#[test]
fn a_stream_whose_guest_does_not_answer_is_quiet_until_its_time_is_up() {
    let mut guest = Guest::new();
    let (ports, far) = guest.open(1024, 1);
    guest.send(ports, Op::Shutdown, SHUTDOWN_SEND, &[]);
    // From here on the guest says nothing.
    guest.sockets.remove(&ports);
    drop(far);
    guest.settle();
    assert_eq!(guest.bench.device.streams.count(), 1);
    assert_eq!(guest.bench.pump(50), 0, "nothing wakes the thread");
    let later = Instant::now() + Duration::from_secs(9);
    guest
        .bench
        .with(|device, running| device.streams.expire(later, running.events));
    assert_eq!(guest.bench.device.streams.count(), 0);
}

#[test]
fn a_guest_that_lies_about_credit_loses_the_stream() {
    let mut guest = Guest::new();
    guest.lies = true;
    let (ports, far) = guest.open(1024, 1);
    let chunk = vec![0u8; 65_536];
    for _ in 0..64 {
        guest.send(ports, Op::Data, 0, &chunk);
    }
    assert!(guest.socket(ports).reset);
    drop(far);
    let (ports, far) = guest.open(1024, 2);
    let header = Header {
        fwd_cnt: 1,
        ..guest.header(ports, Op::CreditUpdate, 0, 0)
    };
    assert!(guest.queue(header, &[]));
    guest.bench.kick(TX);
    guest.settle();
    assert!(guest.socket(ports).reset && far.is_some());
    assert_eq!(guest.bench.device.streams.backlog_len(), 0);
}

#[test]
fn a_guest_that_hears_no_more_makes_the_far_end_fail_and_the_other_way_too() {
    let mut guest = Guest::new();
    let (ports, far) = guest.open(1024, 1);
    let mut far = far.expect("accepted");
    guest.send(ports, Op::Shutdown, packet::SHUTDOWN_RECEIVE, &[]);
    assert_eq!(
        far.write(b"x").expect_err("nobody reads").kind(),
        std::io::ErrorKind::BrokenPipe
    );
    assert_eq!(guest.write(ports, b"y"), 1);
    far.read_exact(&mut [0]).expect("the other way works");
    drop(far);
    guest.settle();
    assert!(guest.socket(ports).reset);
    assert_eq!(guest.bench.device.streams.count(), 0);
}

#[test]
fn streams_have_a_limit_and_a_hostile_one_frees_nothing_twice() {
    let mut guest = Guest::new();
    let mut ends = Vec::new();
    for port in 0..table::MAX_STREAMS as u32 {
        let (_, far) = guest.open(1025, port);
        ends.push(far.expect("below the limit"));
    }
    let (ports, far) = guest.open(1025, 1 << 20);
    assert!(far.is_none() && guest.socket(ports).reset);
    ends.clear();
    guest.settle();
    assert_eq!(guest.bench.device.streams.count(), 0);
    assert!(guest.open(1025, 1).1.is_some());
}

/// Many streams at once, random sizes, random ends: every byte arrives, once,
/// in order.
#[test]
fn a_flood_of_calls_is_refused_at_the_number_that_waits_for_the_supervisor() {
    let mut guest = Guest::new();
    let mut waiting = Vec::new();
    for port in 0..700 {
        let ports = (1025, 10_000 + port);
        guest.sockets.insert(ports, Socket::default());
        guest.send(ports, Op::Request, 0, &[]);
        // Taken out of the device, and not sent yet.
        waiting.extend(guest.bench.device.take_messages());
    }
    assert_eq!(waiting.len(), 256);
    let refused = |guest: &Guest| guest.bench.device.streams.counts().refused;
    assert_eq!(refused(&guest), 444);
    let (_, far) = guest.open(1025, 20_000);
    assert!(far.is_none());
    // The supervisor takes one: there is room for one.
    let heard = waiting.pop();
    drop(heard.map(|outgoing| outgoing.place));
    let (ports, far) = guest.open(1025, 20_001);
    assert!(far.is_some() && guest.socket(ports).open);
    assert_eq!(refused(&guest), 445);
}

#[test]
fn random_traffic_arrives_unchanged() {
    for seed in 1..=6 {
        random_traffic(&mut Random::new(seed));
    }
}

struct Pair {
    ports: (u32, u32),
    far: UnixStream,
    up: Vec<u8>,
    down: Vec<u8>,
    up_sent: usize,
    down_sent: usize,
    up_heard: Vec<u8>,
    up_shut: bool,
    down_shut: bool,
}

fn random_traffic(random: &mut Random) {
    let mut guest = Guest::new();
    let mut pairs: Vec<Pair> = (0..20)
        .map(|port| {
            let (ports, far) = guest.open(1025, 100 + port);
            let far = far.expect("accepted");
            far.set_nonblocking(true).expect("settable");
            let mut bytes = |most| {
                (0..random.below(most))
                    .map(|_| random.number() as u8)
                    .collect()
            };
            let (up, down) = (bytes(400_000), bytes(400_000));
            Pair {
                ports,
                far,
                up,
                down,
                up_sent: 0,
                down_sent: 0,
                up_heard: Vec::new(),
                up_shut: false,
                down_shut: false,
            }
        })
        .collect();
    let mut buffer = vec![0u8; 100_000];
    for _ in 0..20_000 {
        let at = random.below(pairs.len() as u32) as usize;
        let pair = &mut pairs[at];
        match random.below(3) {
            0 => {
                let end = (pair.up_sent + random.below(70_000) as usize).min(pair.up.len());
                pair.up_sent += guest.write(pair.ports, &pair.up[pair.up_sent..end]);
                if pair.up_sent == pair.up.len() && !pair.up_shut {
                    pair.up_shut = true;
                    guest.send(pair.ports, Op::Shutdown, SHUTDOWN_SEND, &[]);
                }
            }
            1 => {
                let end = (pair.down_sent + random.below(70_000) as usize).min(pair.down.len());
                if let Ok(len) = pair.far.write(&pair.down[pair.down_sent..end]) {
                    pair.down_sent += len;
                }
                if pair.down_sent == pair.down.len() && !pair.down_shut {
                    pair.down_shut = true;
                    pair.far.shutdown(Shutdown::Write).expect("shuts");
                }
            }
            _ => {
                let most = random.below(100_000) as usize;
                if let Ok(len) = pair.far.read(&mut buffer[..most]) {
                    pair.up_heard.extend_from_slice(&buffer[..len]);
                }
            }
        }
        guest.settle();
    }
    for pair in &mut pairs {
        while let Ok(len @ 1..) = pair.far.read(&mut buffer) {
            pair.up_heard.extend_from_slice(&buffer[..len]);
            guest.settle();
        }
        let socket = guest.socket(pair.ports);
        assert!(
            pair.up_shut && pair.down_shut,
            "the test gave it enough turns"
        );
        assert!(pair.up_heard == pair.up, "guest to host");
        assert!(socket.received == pair.down, "host to guest");
        assert!(socket.reset);
    }
    assert_eq!(guest.bench.device.streams.count(), 0);
}

#[test]
fn a_restored_guest_is_told_that_its_streams_are_gone() {
    let guest = Guest::new();
    let state = guest.bench.device.save();
    let mut bench = Bench::new(Vsock::new(CID).expect("a device"), 4, 0);
    bench.device.reset(&bench.events);
    bench
        .with(|device, running| device.restore(running, state))
        .expect("fits");
    let at = RX_SPACE;
    bench
        .memory
        .write_slice(&[0xff; 8], GuestAddress(at))
        .expect("inside");
    bench.drivers[EVENT].offer(&[(at, 4, true)]).expect("room");
    bench.kick(EVENT);
    assert_eq!(
        bench.drivers[EVENT].take_used().map(|(_, len)| len),
        Some(4)
    );
    let mut event = [0u8; 8];
    bench
        .memory
        .read_slice(&mut event, GuestAddress(at))
        .expect("inside");
    assert_eq!(event, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    let other = serde_json::json!({"guest_cid": 4, "reset_pending": false});
    assert!(
        bench
            .with(|device, running| device.restore(running, other))
            .is_err()
    );
}

/// Rings and packets of random rubbish: nothing panics, nothing grows.
#[test]
fn rubbish_in_memory_does_no_harm() {
    let mut random = Random::new(99);
    for round in 0..400 {
        let mut guest = Guest::new();
        let mut ends = Vec::new();
        for port in 0..4 {
            ends.push(guest.open(1025, port).1);
        }
        for far in ends.iter_mut().flatten() {
            far.set_nonblocking(true).expect("settable");
            let _ = far.write(&[1u8; 3000]);
        }
        for _ in 0..10 {
            // Rings and the first packets: where it hurts.
            let end = if round % 2 == 0 {
                3 * RING_SPACE
            } else {
                TX_SPACE + 4 * TX_SLOT
            };
            guest.bench.scribble(&mut random, 40, end);
            let good = guest.header((1025, random.below(6)), Op::Data, random.below(4), 100);
            let op = random.below(9) as u16;
            guest.queue(
                Header {
                    op,
                    buf_alloc: random.number() as u32,
                    ..good
                },
                &[0; 100],
            );
            guest.bench.kick(random.below(3) as usize);
            guest.bench.pump(0);
            assert!(guest.bench.device.streams.backlog_len() <= 5 * (256 << 10));
        }
    }
}
