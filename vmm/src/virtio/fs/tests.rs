//! The device between a driver in plain memory and a server that is made up.

use super::*;
use crate::sys::socket::{pair, receive, send};
use crate::virtio::testing::{Bench, RING_SPACE, numbers, rounds};
use vm_memory::{Bytes, GuestAddress};

const BUFFERS: u64 = 2 * RING_SPACE;
const ROOM: u64 = BUFFERS + 0x8000;
const REQUESTS: usize = 1;

struct Share {
    bench: Bench<Fs>,
    server: OwnedFd,
}

fn share() -> Share {
    let (ours, server) = pair();
    let device = Fs::new("share0", ours).expect("a device");
    let bench = Bench::new(device, 1, 0);
    Share { bench, server }
}

/// A request of `length` bytes under a number.
fn request(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0x5a; length];
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn answer(length: u32, error: i32, number: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(error.to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(data);
    bytes
}

impl Share {
    fn offer(&mut self, queue: usize, request: &[u8], room: &[u32]) {
        let memory = &self.bench.memory;
        memory
            .write_slice(request, GuestAddress(BUFFERS))
            .expect("inside");
        // In two pieces, the header cut in the middle.
        let cut = request.len().min(20);
        let mut pieces = vec![
            (BUFFERS, cut as u32, false),
            (BUFFERS + cut as u64, (request.len() - cut) as u32, false),
        ];
        let mut at = ROOM;
        for length in room {
            pieces.push((at, *length, true));
            at += u64::from(*length);
        }
        self.bench.drivers[queue].offer(&pieces).expect("room");
    }

    fn ask(&mut self, number: u64, room: &[u32]) {
        self.offer(REQUESTS, &request(number, 60), room);
        self.bench.kick(REQUESTS);
    }

    fn answer(&mut self, packet: &[u8]) {
        send(&self.server, packet, None).expect("sent");
        self.bench.pump(1000);
    }

    /// Bytes that the device wrote for the request that it gave back, and what.
    fn taken(&mut self) -> Option<(u32, Vec<u8>)> {
        let (_, written) = self.bench.drivers[REQUESTS].take_used()?;
        let mut bytes = vec![0; written as usize];
        let memory = &self.bench.memory;
        memory
            .read_slice(&mut bytes, GuestAddress(ROOM))
            .expect("inside");
        Some((written, bytes))
    }

    fn refused(&mut self, number: u64, errno: i32) {
        let expected = answer(16, -errno, number, &[]);
        assert_eq!(self.taken(), Some((16, expected)), "{number}");
    }

    fn at_server(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 1 << 18];
        let packet = receive(&self.server, &mut bytes).ok()?;
        bytes.truncate(packet.length);
        Some(bytes)
    }
}

#[test]
fn a_request_goes_out_and_its_answer_comes_back() {
    let mut share = share();
    share.ask(7, &[16, 10, 100]);
    assert_eq!(share.at_server(), Some(request(7, 60)));
    assert_eq!(share.taken(), None);
    let packet = answer(16 + 30, 0, 7, &[3; 30]);
    share.answer(&packet);
    assert_eq!(share.taken(), Some((46, packet)));
    assert!(share.bench.interrupt.count() > 0);
}

#[test]
fn what_has_no_room_is_given_back_at_once() {
    let mut share = share();
    share.offer(0, &request(9, 48), &[]);
    share.bench.kick(0);
    assert_eq!(share.at_server(), Some(request(9, 48)));
    let used = share.bench.drivers[0].take_used();
    assert_eq!(used.map(|(_, written)| written), Some(0));
}

#[test]
fn the_largest_request_is_one_packet() {
    let mut share = share();
    let memory = &share.bench.memory;
    let largest = request(1, MAX_REQUEST);
    memory
        .write_slice(&largest, GuestAddress(BUFFERS))
        .expect("inside");
    let pieces = |length: usize| {
        [
            (BUFFERS, length as u32, false),
            (BUFFERS + MAX_REQUEST as u64 + 8, 16, true),
        ]
    };
    let driver = &mut share.bench.drivers[REQUESTS];
    driver.offer(&pieces(MAX_REQUEST)).expect("room");
    driver.offer(&pieces(MAX_REQUEST + 1)).expect("room");
    share.bench.kick(REQUESTS);
    assert_eq!(share.at_server(), Some(largest));
    assert_eq!(share.at_server(), None);
    let used = share.bench.drivers[REQUESTS].take_used();
    assert_eq!(used.map(|(_, written)| written), Some(16), "refused");
}

#[test]
fn a_server_that_lies_is_an_error_of_that_request() {
    let lies: [Vec<u8>; 7] = [
        answer(17, 0, 1, &[]),
        answer(16, 0, 1, &[1]),
        answer(16 + 33, 0, 1, &[0; 33]),
        answer(16, 5, 1, &[]),
        answer(16, -512, 1, &[]),
        answer(16, i32::MIN, 1, &[]),
        answer(20, -2, 1, &[0; 4]),
    ];
    let mut share = share();
    for lie in lies {
        share.ask(1, &[16, 32]);
        share.answer(&lie);
        share.refused(1, libc::EIO);
    }
    // None of these is anybody's answer.
    share.ask(2, &[16, 32]);
    for stray in [
        vec![0; 15],
        vec![1],
        answer(16, 0, 99, &[]),
        vec![0xff; 70_000],
    ] {
        share.answer(&stray);
        assert_eq!(share.taken(), None);
    }
    share.answer(&answer(16, 0, 2, &[]));
    assert_eq!(share.taken().map(|(written, _)| written), Some(16));
}

#[test]
fn a_server_that_is_gone_ends_everything_with_an_error() {
    let mut share = share();
    for number in 1..=3 {
        share.ask(number, &[16, 32]);
    }
    let (_, other) = pair();
    drop(std::mem::replace(&mut share.server, other));
    share.bench.pump(1000);
    for _ in 1..=3 {
        // They share their room: the header there is the last one's.
        share.refused(3, libc::ENOTCONN);
    }
    share.ask(4, &[16, 32]);
    share.refused(4, libc::ENOTCONN);
    share.offer(0, &request(5, 48), &[]);
    share.bench.kick(0);
    assert!(share.bench.drivers[0].take_used().is_some());
}

#[test]
fn requests_that_make_no_sense_are_not_sent() {
    let mut share = share();
    // No header; room for no answer.
    for (request, room) in [(vec![0; 39], vec![16]), (request(1, 40), vec![15])] {
        share.offer(REQUESTS, &request, &room);
        share.bench.kick(REQUESTS);
        assert_eq!(share.taken(), Some((0, Vec::new())));
    }
    // A number twice.
    share.ask(1, &[16]);
    share.ask(1, &[16]);
    share.refused(1, libc::EIO);
    // Outside of memory; more pieces than any driver has.
    let driver = &mut share.bench.drivers[REQUESTS];
    driver
        .offer(&[(BUFFERS, 60, false), (u64::MAX - 8, 64, true)])
        .expect("room");
    driver.offer(&[(ROOM, 16, true); 100]).expect("room");
    share.bench.kick(REQUESTS);
    assert_eq!(share.taken(), Some((0, Vec::new())));
    assert_eq!(share.taken(), Some((0, Vec::new())));
    assert!(share.at_server().is_some());
    assert_eq!(share.at_server(), None);
}

#[test]
fn a_server_that_is_slow_gets_everything_in_order() {
    let mut share = share();
    let big = request(0, 60_000);
    let memory = &share.bench.memory;
    memory
        .write_slice(&big, GuestAddress(BUFFERS + 0x1000))
        .expect("inside");
    let mut header = [0; 24];
    for number in 0..40u64 {
        // Each with a header of its own and the same data.
        let at = BUFFERS + 24 * number;
        header[8..16].copy_from_slice(&number.to_le_bytes());
        share
            .bench
            .memory
            .write_slice(&header, GuestAddress(at))
            .expect("inside");
        let pieces = [
            (at, 24, false),
            (BUFFERS + 0x1000, 60_000, false),
            (ROOM, 16, true),
        ];
        share.bench.drivers[REQUESTS].offer(&pieces).expect("room");
    }
    share.bench.kick(REQUESTS);
    assert!(share.bench.device.full, "a socket does not hold 2 MB");
    for number in 0..40u64 {
        let packet = share.at_server().expect("there is one");
        assert_eq!(packet[8..16], number.to_le_bytes());
        share.bench.pump(0);
    }
    assert_eq!(share.bench.device.waiting.len(), 40);
}

#[test]
fn an_answer_to_an_earlier_driver_reaches_nobody() {
    let mut share = share();
    share.ask(1, &[16, 32]);
    let events = share.bench.events.clone();
    share.bench.device.reset(&events);
    share
        .bench
        .with(|device, running| device.activate(running))
        .expect("activates");
    // The number is not free before its answer has come.
    share.ask(1, &[16, 32]);
    share.refused(1, libc::EIO);
    share.answer(&answer(16 + 8, 0, 1, &[0; 8]));
    assert_eq!(share.taken(), None);
    share.ask(1, &[16, 32]);
    share.answer(&answer(16, 0, 1, &[]));
    assert_eq!(share.taken().map(|(written, _)| written), Some(16));
}

#[test]
fn a_saved_device_says_that_its_server_was_another() {
    let mut one = share();
    one.ask(1, &[16, 32]);
    let state = one.bench.device.save();
    let (ours, _server) = pair();
    one.bench.device = Fs::new("share0", ours).expect("a device");
    let restored = one
        .bench
        .with(|device, running| device.restore(running, state.clone()));
    restored.expect("fits");
    one.refused(1, libc::EIO);
    let (ours, _server) = pair();
    one.bench.device = Fs::new("other", ours).expect("a device");
    let restored = one
        .bench
        .with(|device, running| device.restore(running, state));
    assert!(restored.is_err());
}

#[test]
fn a_tag_has_a_length() {
    for tag in ["", &"x".repeat(TAG + 1)] {
        assert!(Fs::new(tag, pair().0).is_err());
    }
    let device = Fs::new(&"x".repeat(TAG), pair().0).expect("fits");
    let mut config = [0xff; TAG + 8];
    device.read_config(0, &mut config);
    assert_eq!(config[..TAG], [b'x'; TAG]);
    assert_eq!(config[TAG..TAG + 4], [1, 0, 0, 0]);
}

/// Rings and answers of random rubbish: nothing panics, nothing is answered
/// twice.
#[test]
fn fuzz_rubbish_from_both_sides_does_no_harm() {
    let mut random = numbers(17);
    for _ in rounds(300) {
        let mut share = share();
        for at in 0..8u64 {
            let number = u64::from(random.below(4));
            let bytes = request(number, 60);
            let memory = &share.bench.memory;
            memory
                .write_slice(&bytes, GuestAddress(BUFFERS + at * 64))
                .expect("inside");
            let room = (ROOM, random.below(100), true);
            let pieces = [(BUFFERS + at * 64, 60, false), room];
            let _ = share.bench.drivers[REQUESTS].offer(&pieces);
        }
        for _ in 0..10 {
            share.bench.scribble(&mut random, 10, BUFFERS + 0x200);
            share.bench.kick(random.below(2) as usize);
            let length = random.below(64);
            let error = -(random.below(3) as i32);
            let number = u64::from(random.below(4));
            let packet = answer(length, error, number, &[0; 64]);
            let cut = random.below(packet.len() as u32) as usize;
            let _ = send(&share.server, &packet[..cut.max(1)], None);
            share.bench.pump(0);
        }
    }
}
