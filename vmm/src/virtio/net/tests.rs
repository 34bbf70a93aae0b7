//! The device against a driver in plain memory. A socket that keeps message
//! boundaries stands in for the tap; what only a tap does (offloads) is left
//! to the lab.

use super::*;
use crate::virtio::testing::{Bench, RING_SPACE, numbers, rounds};
use beluga_proto::vm::Rate;
use std::os::unix::net::UnixDatagram;
use vm_memory::{Bytes, GuestAddress};

const BUFFERS: u64 = 2 * RING_SPACE;
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

fn bench(features: u64) -> (Bench<Net>, UnixDatagram) {
    let (ours, wire) = UnixDatagram::pair().expect("a pair");
    ours.set_nonblocking(true).expect("settable");
    wire.set_nonblocking(true).expect("settable");
    let device = Net::on(ours.into(), MAC, 1500, true).expect("a device");
    (Bench::new(device, 8, features), wire)
}

fn packet(len: usize) -> Vec<u8> {
    (0..len).map(|at| at as u8).collect()
}

#[test]
fn the_configuration_has_address_link_and_mtu() {
    let (bench, _wire) = bench(0);
    let mut config = [0u8; 16];
    bench.device.read_config(0, &mut config);
    assert_eq!(
        config,
        [2, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0xdc, 0x05, 0, 0, 0, 0]
    );
    let mut mtu = [0u8; 2];
    bench.device.read_config(10, &mut mtu);
    assert_eq!(u16::from_le_bytes(mtu), 1500);
    bench.device.read_config(usize::MAX, &mut mtu);
}

#[test]
fn a_packet_of_the_guest_leaves_as_it_is() {
    let (mut bench, wire) = bench(0);
    let data = packet(1000);
    bench
        .memory
        .write_slice(&data, GuestAddress(BUFFERS))
        .expect("inside");
    // Header alone, then the rest in two pieces.
    let pieces = [
        (BUFFERS, 12, false),
        (BUFFERS + 12, 500, false),
        (BUFFERS + 512, 488, false),
    ];
    bench.drivers[TX].offer(&pieces).expect("room");
    // Too short to be one.
    bench.drivers[TX]
        .offer(&[(BUFFERS, 12, false)])
        .expect("room");
    bench.kick(TX);
    let mut seen = [0u8; 2000];
    assert_eq!(wire.recv(&mut seen).expect("a packet"), 1000);
    assert_eq!(seen[..1000], data);
    assert!(bench.drivers[TX].take_used().is_some() && bench.drivers[TX].take_used().is_some());
    let counts = &bench.device.counts;
    assert_eq!(
        (counts.packets_in, counts.bytes_in, counts.dropped_in),
        (1, 988, 1)
    );
    assert!(bench.interrupt.count() > 0);
}

#[test]
fn a_large_packet_fills_several_buffers_and_the_rest_stay() {
    let (mut bench, wire) = bench(1 << bit::MRG_RXBUF);
    for at in 0..4 {
        bench.drivers[RX]
            .offer(&[(BUFFERS + at * 0x1000, 600, true)])
            .expect("room");
    }
    let data = packet(1400);
    wire.send(&data).expect("sent");
    bench.pump(0);
    let used: Vec<u32> =
        std::iter::from_fn(|| bench.drivers[RX].take_used().map(|(_, len)| len)).collect();
    assert_eq!(used, [600, 600, 200]);
    let mut seen = [0u8; 600];
    bench
        .memory
        .read_slice(&mut seen, GuestAddress(BUFFERS))
        .expect("inside");
    assert_eq!(seen[10..12], [3, 0], "num_buffers");
    assert_eq!(seen[12..], data[12..600]);
    bench
        .memory
        .read_slice(&mut seen[..200], GuestAddress(BUFFERS + 0x2000))
        .expect("inside");
    assert_eq!(seen[..200], data[1200..]);
    // One buffer is left: too little, so the packet waits for more.
    wire.send(&packet(100)).expect("sent");
    bench.pump(0);
    assert!(bench.drivers[RX].take_used().is_none());
    for at in 4..7 {
        bench.drivers[RX]
            .offer(&[(BUFFERS + at * 0x1000, 600, true)])
            .expect("room");
    }
    bench.kick(RX);
    assert_eq!(bench.drivers[RX].take_used().map(|(_, len)| len), Some(100));
}

#[test]
fn without_merging_a_packet_that_does_not_fit_is_dropped() {
    let (mut bench, wire) = bench(0);
    bench.drivers[RX]
        .offer(&[(BUFFERS, 12, true), (BUFFERS + 12, 88, true)])
        .expect("room");
    wire.send(&packet(101)).expect("sent");
    wire.send(&packet(100)).expect("sent");
    bench.pump(0);
    assert_eq!(bench.drivers[RX].take_used().map(|(_, len)| len), Some(100));
    assert_eq!(bench.device.counts.dropped_out, 1);
}

#[test]
fn a_guest_without_buffers_is_not_polled_for() {
    let (mut bench, wire) = bench(1 << bit::MRG_RXBUF);
    wire.send(&packet(64)).expect("sent");
    assert_eq!(bench.pump(0), 1);
    assert_eq!(bench.pump(0), 0, "no event until something changes");
    for at in 0..2 {
        bench.drivers[RX]
            .offer(&[(BUFFERS + at * 0x1000, 0x1000, true)])
            .expect("room");
    }
    bench.kick(RX);
    assert_eq!(bench.drivers[RX].take_used().map(|(_, len)| len), Some(64));
}

#[test]
fn a_full_tap_holds_the_packet_and_goes_on() {
    let (mut bench, wire) = bench(0);
    let data = packet(60_000);
    bench
        .memory
        .write_slice(&data, GuestAddress(BUFFERS))
        .expect("inside");
    for _ in 0..50 {
        bench.drivers[TX]
            .offer(&[(BUFFERS, 60_000, false)])
            .expect("room");
    }
    bench.kick(TX);
    assert!(bench.device.full);
    let (mut seen, mut count) = (vec![0u8; 65_536], 0);
    loop {
        while wire.recv(&mut seen).is_ok() {
            count += 1;
        }
        if bench.pump(0) == 0 {
            break;
        }
    }
    assert_eq!((count, bench.device.counts.dropped_in), (50, 0));
}

#[test]
fn a_saved_card_fits_only_itself() {
    let (mut bench, _wire) = bench(0);
    let state = bench.device.save();
    bench.device.reset(&bench.events);
    bench
        .with(|device, running| device.restore(running, state))
        .expect("its own");
    let other = serde_json::json!({"mac": "02:00:00:00:00:02", "mtu": 1500});
    assert!(
        bench
            .with(|device, running| device.restore(running, other))
            .is_err()
    );
}

/// Rings of random rubbish: nothing panics.
#[test]
fn fuzz_rubbish_in_memory_does_no_harm() {
    let mut random = numbers(5);
    for round in rounds(300) {
        let (mut bench, wire) = bench(u64::from(round % 2 == 0) << bit::MRG_RXBUF);
        for at in 0..40 {
            bench.drivers[RX]
                .offer(&[(BUFFERS + at * 0x1000, 0x1000, true)])
                .expect("room");
            bench.drivers[TX]
                .offer(&[(BUFFERS, 200, false)])
                .expect("room");
        }
        for _ in 0..20 {
            bench.scribble(&mut random, 20, BUFFERS);
            let _ = wire.send(&packet(random.below(5000) as usize));
            bench.kick(random.below(2) as usize);
            bench.pump(0);
            let mut sink = [0u8; 16];
            while wire.recv(&mut sink).is_ok() {}
        }
    }
}

#[test]
fn what_is_too_fast_waits_and_comes() {
    let (ours, wire) = UnixDatagram::pair().expect("a pair");
    ours.set_nonblocking(true).expect("settable");
    wire.set_nonblocking(true).expect("settable");
    let mut device = Net::on(ours.into(), MAC, 1500, true).expect("a device");
    // 100 bytes at 1000 a second are paid for after a tenth of one.
    let rate = Rate {
        bytes: Some(1000),
        burst_bytes: Some(1),
        ..Rate::default()
    };
    let limits = NetLimits {
        from_guest: Some(rate),
        to_guest: None,
    };
    device.limit(&limits).expect("a timer");
    let mut bench = Bench::new(device, 8, 0);
    for _ in 0..2 {
        let packet = [(BUFFERS, 12 + 100, false)];
        bench.drivers[TX].offer(&packet).expect("room");
    }
    let started = std::time::Instant::now();
    bench.kick(TX);
    let mut seen = [0u8; 2000];
    assert!(wire.recv(&mut seen).is_ok() && wire.recv(&mut seen).is_err());
    while wire.recv(&mut seen).is_err() {
        assert!(bench.pump(5000) > 0, "the second one");
    }
    assert!(started.elapsed() >= std::time::Duration::from_millis(99));
}
