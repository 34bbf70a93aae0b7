//! Traffic and rubbish by chance.

use super::*;
use crate::virtio::testing::rounds;

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

/// Rings and packets of random rubbish: nothing panics, nothing grows.
#[test]
fn fuzz_rubbish_in_memory_does_no_harm() {
    let mut random = Random::new(99);
    for round in rounds(400) {
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
