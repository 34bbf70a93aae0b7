//! The device against a driver in plain memory.

use super::*;
use crate::virtio::testing::{Bench, RING_SPACE, numbers, rounds};

/// Page numbers stand here.
const LIST: u64 = 3 * RING_SPACE;
/// Memory that the guest gives away: page 256 on.
const GIVEN: u64 = 1 << 20;

fn bench() -> Bench<Balloon> {
    let bench = Bench::new(Balloon::new(), 4, 0);
    bench
        .memory
        .write_slice(&[7u8; 0x4000], GuestAddress(GIVEN))
        .expect("inside");
    bench
}

fn is_zero(bench: &Bench<Balloon>, at: u64, length: usize) -> bool {
    let mut bytes = vec![1u8; length];
    bench
        .memory
        .read_slice(&mut bytes, GuestAddress(at))
        .expect("inside");
    bytes.iter().all(|byte| *byte == 0)
}

#[test]
fn pages_of_the_list_are_given_back_and_no_others() {
    let mut bench = bench();
    let mut list = Vec::new();
    // Two of ours, one beyond memory, the largest number there is.
    for number in [256u32, 258, 4 << 20, u32::MAX] {
        list.extend(number.to_le_bytes());
    }
    bench
        .memory
        .write_slice(&list, GuestAddress(LIST))
        .expect("inside");
    bench.drivers[INFLATE]
        .offer(&[(LIST, list.len() as u32, false)])
        .expect("room");
    bench.kick(INFLATE);
    assert!(bench.drivers[INFLATE].take_used().is_some());
    assert!(is_zero(&bench, GIVEN, PAGE) && is_zero(&bench, GIVEN + 0x2000, PAGE));
    assert!(!is_zero(&bench, GIVEN + 0x1000, 1) && !is_zero(&bench, GIVEN + 0x3000, 1));
    assert_eq!(bench.device.inflated, 2 * PAGE as u64);
}

#[test]
fn a_report_gives_back_whole_pages_inside_of_its_ranges() {
    let mut bench = bench();
    let pieces = [
        (GIVEN, 0x2000, true),
        (GIVEN + 0x2800, 0x1000, true),
        (1 << 40, 0x1000, true),
    ];
    bench.drivers[REPORTING].offer(&pieces).expect("room");
    // What the device may not write is no report.
    bench.drivers[REPORTING]
        .offer(&[(GIVEN + 0x3000, 0x1000, false)])
        .expect("room");
    bench.kick(REPORTING);
    assert!(is_zero(&bench, GIVEN, 0x2000));
    // No whole page lies in the second range.
    assert!(!is_zero(&bench, GIVEN + 0x2800, 1) && !is_zero(&bench, GIVEN + 0x3000, 1));
    assert_eq!(bench.device.reported, 0x2000);
}

#[test]
fn the_configuration_keeps_what_the_driver_says() {
    let mut bench = bench();
    bench.device.write_config(4, &77u32.to_le_bytes());
    bench.device.write_config(0, &1u32.to_le_bytes());
    bench.device.write_config(usize::MAX, &[1]);
    let state = bench.device.save();
    bench.device.reset(&bench.events);
    bench
        .with(|device, running| device.restore(running, state))
        .expect("its own");
    let mut config = [9u8; 12];
    bench.device.read_config(0, &mut config);
    assert_eq!(config, [0, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0]);
    assert!(
        bench
            .with(|device, running| device.restore(running, "no".into()))
            .is_err()
    );
}

/// Rings of random rubbish: nothing panics.
#[test]
fn fuzz_rubbish_in_memory_does_no_harm() {
    let mut random = numbers(13);
    for _ in rounds(300) {
        let mut bench = bench();
        for at in 0..8 {
            let _ = bench.drivers[INFLATE].offer(&[(LIST, 1024, false)]);
            let _ = bench.drivers[REPORTING].offer(&[(GIVEN + at * 0x1000, 0x1000, true)]);
        }
        for _ in 0..10 {
            bench.scribble(&mut random, 20, LIST + 1024);
            bench.kick(random.below(4) as usize);
        }
    }
}
