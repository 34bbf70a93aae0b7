//! How fast a device may be: a token bucket for bytes, one for packets or
//! requests.
//!
//! A bucket lends: what is larger than its content passes, and what comes next
//! waits until the debt is paid. So nothing has to be measured before it is moved,
//! and nothing is too large for a small bucket.

use crate::sys::process::Timer;
use beluga_proto::vm::Rate;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// Nanoseconds of a second.
const SECOND: i128 = 1_000_000_000;

/// Shortest sleep: a timer costs more than what it would wait for.
const SHORTEST: Duration = Duration::from_millis(1);

/// One bucket. The content is counted in billionths of a token, so that no rate
/// and no interval are rounded.
#[derive(Debug, Clone)]
struct Bucket {
    per_second: i128,
    burst: i128,
    content: i128,
    filled: Instant,
}

impl Bucket {
    fn new(per_second: u64, burst: u64, now: Instant) -> Self {
        let burst = i128::from(burst.max(1)) * SECOND;
        Self {
            per_second: i128::from(per_second.max(1)),
            burst,
            content: burst,
            filled: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled).as_nanos();
        let since = i128::try_from(since).unwrap_or(i128::MAX / self.per_second.max(1));
        let more = since.saturating_mul(self.per_second);
        self.content = self.content.saturating_add(more).min(self.burst);
        self.filled = now;
    }

    /// How long until there is something in it.
    fn wait(&self) -> Duration {
        if self.content > 0 {
            return Duration::ZERO;
        }
        let nanos = (-self.content) / self.per_second + 1;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(SHORTEST)
    }

    fn take(&mut self, tokens: u64) {
        self.content -= i128::from(tokens) * SECOND;
    }
}

/// A device's gate: it lets pass what the rate allows, and its descriptor tells
/// when to ask again.
#[derive(Debug)]
pub struct Gate {
    limiter: Limiter,
    timer: Timer,
}

impl Gate {
    /// An open gate.
    pub fn new(rate: &Rate) -> io::Result<Self> {
        Ok(Self {
            limiter: Limiter::new(rate, Instant::now()),
            timer: Timer::new()?,
        })
    }

    /// Whether what comes next must wait until the descriptor is ready.
    pub fn holds(&mut self) -> bool {
        let wait = self.limiter.wait(Instant::now());
        // Should the timer fail to be set, a limit is the lesser loss.
        !wait.is_zero() && self.timer.set(wait).is_ok()
    }

    /// One of so many bytes has passed.
    pub fn passed(&mut self, bytes: u64) {
        self.limiter.passed(bytes);
    }

    /// The descriptor was ready; now it is not.
    pub fn ask_again(&self) {
        let _ = self.timer.set(Duration::ZERO);
    }
}

impl AsRawFd for Gate {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }
}

/// The buckets of a gate.
#[derive(Debug, Clone)]
struct Limiter {
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
}

impl Limiter {
    fn new(rate: &Rate, now: Instant) -> Self {
        let bucket = |per_second: Option<u64>, burst: Option<u64>| {
            // A second's worth, unless another burst is asked for.
            per_second.map(|rate| Bucket::new(rate, burst.unwrap_or(rate), now))
        };
        Self {
            bytes: bucket(rate.bytes, rate.burst_bytes),
            operations: bucket(rate.operations, rate.burst_operations),
        }
    }

    /// How long to wait before the next one may pass: zero for now.
    fn wait(&mut self, now: Instant) -> Duration {
        let buckets = [&mut self.bytes, &mut self.operations];
        let waits = buckets.into_iter().flatten().map(|bucket| {
            bucket.fill(now);
            bucket.wait()
        });
        waits.max().unwrap_or_default()
    }

    fn passed(&mut self, bytes: u64) {
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes);
        }
        if let Some(bucket) = &mut self.operations {
            bucket.take(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bytes: u64, burst: u64) -> Rate {
        Rate {
            bytes: Some(bytes),
            burst_bytes: Some(burst),
            ..Rate::default()
        }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut limiter = Limiter::new(&rate(1000, 500), start);
        assert_eq!(limiter.wait(start), Duration::ZERO);
        limiter.passed(1500);
        // 1000 in debt: a second.
        let wait = limiter.wait(start);
        assert!(wait > Duration::from_secs(1) && wait < Duration::from_millis(1001));
        assert_ne!(
            limiter.wait(start + Duration::from_millis(999)),
            Duration::ZERO
        );
        assert_eq!(limiter.wait(start + wait), Duration::ZERO);
        assert_eq!(
            Limiter::new(&Rate::default(), start).wait(start),
            Duration::ZERO
        );
    }

    #[test]
    fn operations_are_counted_whatever_their_size() {
        let start = Instant::now();
        let rate = Rate {
            operations: Some(10),
            burst_operations: Some(2),
            ..Rate::default()
        };
        let mut limiter = Limiter::new(&rate, start);
        let mut passed = 0;
        while limiter.wait(start).is_zero() {
            limiter.passed(0);
            passed += 1;
        }
        assert_eq!(passed, 2);
    }

    #[test]
    fn never_more_than_rate_and_burst_and_one() {
        // Numbers of a linear congruential generator: any will do.
        let mut seed = 7u64;
        let mut next = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 20) % below + 1
        };
        for _ in 0..500 {
            let (per_second, burst) = (next(1 << 40), next(1 << 30));
            let start = Instant::now();
            let mut limiter = Limiter::new(&rate(per_second, burst), start);
            let (mut now, mut total, mut last) = (start, 0u128, 0);
            for _ in 0..next(200) {
                now += limiter.wait(now);
                assert!(limiter.wait(now).is_zero());
                last = next(1 << 20);
                limiter.passed(last);
                total += u128::from(last);
            }
            let elapsed = now.duration_since(start).as_nanos();
            let allowed = u128::from(burst) + elapsed * u128::from(per_second) / 1_000_000_000;
            assert!(
                total <= allowed + u128::from(last) + 1,
                "{total} of {allowed}"
            );
        }
    }
}
