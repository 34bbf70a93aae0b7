//! Bounded mutation of frames: whatever arrives, the decoder gives a message
//! or an error, holds at most one frame, and never panics.
//!
//! `FUZZ_SECONDS` sets how long (2 by default).

use beluga_proto::{AgentFrame, FrameDecoder, HostFrame, MAX_FRAME, encode};
use std::time::{Duration, Instant};

/// xorshift64*: a failing run fails again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1");
    let files = std::fs::read_dir(golden).expect("golden files are there");
    let mut seeds: Vec<_> = files
        .map(|file| file.expect("readable").path())
        // Records of a copy are lines of another shape.
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            let text = std::fs::read(path).expect("readable");
            let value: serde_json::Value = serde_json::from_slice(&text).expect("golden is JSON");
            encode(&value).expect("golden fits a frame")
        })
        .collect();
    seeds.sort();
    seeds
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.next() % 8 {
        let at = random.next() % bytes.len().max(1);
        match random.next() % 6 {
            0 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            1 if !bytes.is_empty() => bytes[at] ^= 1 << (random.next() % 8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at.min(bytes.len()), random.next() as u8),
            4 => bytes.extend_from_within(at..),
            _ => bytes
                .splice(..0, (random.next() as u32).to_le_bytes())
                .for_each(drop),
        }
        bytes.truncate(1 << 16);
    }
}

/// Says to the gate how much was tried: libtest keeps what a test prints.
fn tell(executions: u64) {
    use std::io::Write as _;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    let line = format!("FUZZED {name}: {executions} executions\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[test]
fn fuzz_frames() {
    let seconds = std::env::var("FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (seeds, mut random, mut rounds) = (seeds(), Random(0x9e37_79b9_7f4a_7c15), 0u64);
    while Instant::now() < end {
        let mut wire = seeds[random.next() % seeds.len()].clone();
        mutate(&mut wire, &mut random);
        let mut host = FrameDecoder::new();
        let mut agent = FrameDecoder::new();
        for chunk in wire.chunks(1 + random.next() % 4096) {
            host.feed(chunk);
            agent.feed(chunk);
            while let Ok(Some(frame)) = host.next_frame::<AgentFrame>() {
                assert!(encode(&frame).is_ok_and(|bytes| bytes.len() <= MAX_FRAME + 4));
            }
            while let Ok(Some(_)) = agent.next_frame::<HostFrame>() {}
        }
        rounds += 1;
    }
    tell(rounds);
    assert!(rounds > 100);
}
