//! Mutations that are the same on every run.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::time::{Duration, Instant};

/// How long without FUZZ_SECONDS. FUZZ_SEED chooses other mutations.
const SECONDS: u64 = 2;
const SEED: u64 = 0x0BE1_06A5;
/// Xorshift64*: enough for choosing bytes, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// When to end, and what to choose by.
pub fn begin() -> (Instant, Random) {
    let number =
        |name, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS", SECONDS));
    (end, Random(number("FUZZ_SEED", SEED).max(1)))
}

/// Says to the gate how much was tried: libtest keeps what a test prints.
pub fn tell(executions: u64) {
    use std::io::Write as _;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    let line = format!("FUZZED {name}: {executions} executions\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
