//! Traffic and rubbish by chance.

use super::*;
use crate::virtio::testing::{numbers, rounds};

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

impl Pair {
    fn open(guest: &mut Guest, port: u32, random: &mut Random) -> Self {
        let (ports, far) = guest.open(1025, port);
        let far = far.expect("accepted");
        far.set_nonblocking(true).expect("settable");
        let mut bytes = |most| {
            let bytes = (0..random.below(most)).map(|_| random.number() as u8);
            bytes.collect()
        };
        Pair {
            ports,
            far,
            up: bytes(400_000),
            down: bytes(400_000),
            up_sent: 0,
            down_sent: 0,
            up_heard: Vec::new(),
            up_shut: false,
            down_shut: false,
        }
    }

    /// The guest sends, the host sends, or the host reads: some.
    fn turn(&mut self, guest: &mut Guest, random: &mut Random, buffer: &mut [u8]) {
        match random.below(3) {
            0 => {
                let end = (self.up_sent + random.below(70_000) as usize).min(self.up.len());
                self.up_sent += guest.write(self.ports, &self.up[self.up_sent..end]);
                if self.up_sent == self.up.len() && !self.up_shut {
                    self.up_shut = true;
                    guest.send(self.ports, Op::Shutdown, SHUTDOWN_SEND, &[]);
                }
            }
            1 => {
                let end = (self.down_sent + random.below(70_000) as usize).min(self.down.len());
                if let Ok(len) = self.far.write(&self.down[self.down_sent..end]) {
                    self.down_sent += len;
                }
                if self.down_sent == self.down.len() && !self.down_shut {
                    self.down_shut = true;
                    self.far.shutdown(Shutdown::Write).expect("shuts");
                }
            }
            _ => {
                let most = random.below(100_000) as usize;
                if let Ok(len) = self.far.read(&mut buffer[..most]) {
                    self.up_heard.extend_from_slice(&buffer[..len]);
                }
            }
        }
    }
}

fn random_traffic(random: &mut Random) {
    let mut guest = Guest::new();
    let mut pairs = Vec::new();
    for port in 100..120 {
        pairs.push(Pair::open(&mut guest, port, random));
    }
    let mut buffer = vec![0u8; 100_000];
    for _ in 0..20_000 {
        let at = random.below(pairs.len() as u32) as usize;
        pairs[at].turn(&mut guest, random, &mut buffer);
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
    let mut random = numbers(99);
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
