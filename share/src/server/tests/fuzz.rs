//! Requests of random rubbish: nothing panics, every answer is whole, and
//! nothing outside of the shared directory is touched.

use super::*;

/// A small deterministic source of numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.number() >> 33) as usize % bound.max(1)
    }
}

const NAMES: [&[u8]; 9] = [
    b"note\0",
    b"a\0",
    b"b\0",
    b"d\0",
    b"link\0",
    b"..\0",
    b"../secret\0",
    b"\0",
    b"no end",
];

/// Opcodes that do nothing which lasts beyond the shared directory: all.
fn request(random: &mut Random) -> Vec<u8> {
    let numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 1 << 12, 1 << 63, u64::MAX];
    let header = fuse_in_header {
        len: 0,
        opcode: random.below(54) as u32,
        unique: random.number(),
        nodeid: numbers[random.below(9)],
        ..fuse_in_header::default()
    };
    let mut packet = header.as_bytes().to_vec();
    for _ in 0..random.below(8) {
        let word = match random.below(4) {
            0 => random.number(),
            1 => random.number() >> 40,
            _ => numbers[random.below(numbers.len())],
        };
        packet.extend(&word.to_le_bytes()[..4 << random.below(2)]);
    }
    for _ in 0..random.below(3) {
        packet.extend(NAMES[random.below(NAMES.len())]);
    }
    let length = if random.below(20) == 0 {
        random.number() as u32
    } else {
        packet.len() as u32
    };
    packet[..4].copy_from_slice(&length.to_le_bytes());
    for _ in 0..random.below(8).saturating_sub(6) {
        let at = random.below(packet.len());
        packet[at] = random.number() as u8;
    }
    if random.below(30) == 0 {
        packet.truncate(random.below(packet.len()));
    }
    packet
}

fn rounds(usual: u32) -> impl Iterator<Item = u32> {
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok());
    let begun = std::time::Instant::now();
    let mut told = Tried(0);
    (0..).take_while(move |round| {
        // All of it, or only a copy of its number would be here.
        let told = &mut told;
        told.0 = *round;
        match seconds {
            Some(seconds) => begun.elapsed() < std::time::Duration::from_secs(seconds),
            None => *round < usual,
        }
    })
}

/// Says at the end to the gate how often a target was run: libtest keeps what a
/// test prints.
struct Tried(u32);

impl Drop for Tried {
    fn drop(&mut self) {
        use std::io::Write as _;
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        let line = format!("FUZZED {name}: {} executions\n", self.0);
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

#[test]
fn fuzz_requests_of_rubbish_stay_inside() {
    let mut random = Random(0x5eed);
    for round in rounds(200) {
        let view = View {
            read_only: round % 7 == 3,
            single_file: round % 7 == 5,
        };
        let mut guest = Guest::with(view, 64 + 40);
        if !view.single_file {
            symlink("../secret", guest.path("link")).unwrap();
            symlink("..", guest.path("d")).unwrap();
        }
        for _ in 0..100 {
            let packet = request(&mut random);
            if guest.server.serve(&packet, &mut guest.output) {
                let answer = guest.output.packet();
                let (header, _) = fuse_out_header::read_from_prefix(answer).unwrap();
                assert_eq!(header.len as usize, answer.len());
                assert!((-511..=0).contains(&header.error));
                assert!(header.error == 0 || answer.len() == size_of::<fuse_out_header>());
            }
            assert!(guest.server.table.len() <= 40);
        }
        let outside = fs::read_dir(guest.place.path()).unwrap();
        let mut outside: Vec<_> = outside.map(|entry| entry.unwrap().file_name()).collect();
        outside.sort();
        assert_eq!(outside, ["secret", "shared"]);
        let secret = guest.place.path().join("secret");
        assert_eq!(fs::read(&secret).unwrap(), b"not shared");
        assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1);
        if view.read_only {
            assert_eq!(fs::read(guest.path("note")).unwrap(), b"hello");
        }
    }
}
