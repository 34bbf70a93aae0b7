//! The device against a driver in plain memory.

use super::*;
use crate::virtio::testing::{Bench, RING_SPACE, numbers, rounds};

const BUFFERS: u64 = RING_SPACE;

#[test]
fn a_request_is_filled_up_to_the_bound_and_not_beyond() {
    let mut bench = Bench::new(Rng::new(), 1, 0);
    let pieces = [(BUFFERS, 64, true), (BUFFERS + 0x1000, 0x2000, true)];
    bench.drivers[0].offer(&pieces).expect("room");
    bench.kick(0);
    let written = bench.drivers[0].take_used().map(|(_, written)| written);
    assert_eq!(written, Some(MAX_REQUEST as u32));
    let mut first = [0u8; 64];
    let mut second = [0u8; 0x2000];
    let memory = &bench.memory;
    memory
        .read_slice(&mut first, GuestAddress(BUFFERS))
        .expect("inside");
    memory
        .read_slice(&mut second, GuestAddress(BUFFERS + 0x1000))
        .expect("inside");
    assert_ne!(first, [0u8; 64]);
    assert_ne!(second[..MAX_REQUEST - 64], [0u8; MAX_REQUEST - 64]);
    assert!(second[MAX_REQUEST - 64..].iter().all(|byte| *byte == 0));
    assert!(bench.interrupt.count() > 0);
}

#[test]
fn what_is_left_after_a_turn_is_served_without_another_notification() {
    let mut bench = Bench::new(Rng::new(), 1, 0);
    for _ in 0..QUEUE_SIZE {
        bench.drivers[0]
            .offer(&[(BUFFERS, 64, true)])
            .expect("room");
    }
    bench.kick(0);
    let served =
        |bench: &mut Bench<Rng>| std::iter::from_fn(|| bench.drivers[0].take_used()).count();
    assert_eq!(served(&mut bench), MAX_BATCH);
    bench.pump(2000);
    assert_eq!(served(&mut bench), MAX_BATCH);
    let (max, none) = (usize::from(QUEUE_SIZE), 0);
    assert_eq!((2 * MAX_BATCH, served(&mut bench)), (max, none));
}

#[test]
fn what_cannot_be_written_is_given_back_empty() {
    let mut bench = Bench::new(Rng::new(), 1, 0);
    bench.drivers[0]
        .offer(&[(BUFFERS, 64, false)])
        .expect("room");
    bench.drivers[0]
        .offer(&[(u64::MAX - 8, 64, true)])
        .expect("room");
    bench.drivers[0]
        .offer(&[(1 << 30, u32::MAX, true)])
        .expect("room");
    bench.kick(0);
    for _ in 0..3 {
        assert_eq!(
            bench.drivers[0].take_used().map(|(_, written)| written),
            Some(0)
        );
    }
}

/// Rings of random rubbish: nothing panics.
#[test]
fn fuzz_rubbish_in_memory_does_no_harm() {
    let mut random = numbers(11);
    for _ in rounds(500) {
        let mut bench = Bench::new(Rng::new(), 1, 0);
        for at in 0..8 {
            let _ = bench.drivers[0].offer(&[(BUFFERS + at * 64, 64, true), (BUFFERS, 64, true)]);
        }
        for _ in 0..10 {
            bench.scribble(&mut random, 20, BUFFERS);
            bench.kick(random.below(2) as usize);
        }
    }
}
