//! Cold page cache of an idle pod goes back: to the guest's free memory, and
//! from there, by free-page reporting, to the host.
//!
//! Every few seconds one look: when the containers have hardly computed since
//! the last one, nobody waited for memory or disks, and what was reclaimed
//! before has not been read again, a part of what is left is reclaimed. A pod
//! that has nothing to give, or wants it back, is looked at ever less often.

use crate::cgroup::{self, RECLAIM};
use std::time::{Duration, Instant};

/// From one look to the next while there is something to give.
const SHORTEST: Duration = Duration::from_secs(5);
/// The same where there was nothing to give for long.
const LONGEST: Duration = Duration::from_secs(15);
/// Cache that is left alone in bytes: what runs now and then, runs from it.
const FLOOR: u64 = 2 << 20;
/// Least and most bytes of one step.
const STEP: std::ops::RangeInclusive<u64> = 1 << 20..=256 << 20;
/// So much goes at once, and what is free then is moved together: the host gets
/// back huge pages only, and a big file leaves many of them half empty.
const LAST: u64 = 16 << 20;
/// How often that is done once more when there is nothing left to reclaim: what
/// was on its way to the free lists, or held by somebody, is there by and by.
const AFTERWARDS: u8 = 3;
const COMPACT: &str = "/proc/sys/vm/compact_memory";
/// Idle: no more than one part in so many of a CPU was used.
const IDLE_SHARE: u32 = 20;
/// Pressed: somebody waited for more than one part in so many of the time.
const WAIT_SHARE: u32 = 100;
/// Pages read again between two looks that are no sign of a working set.
const FEW_PAGES: u64 = 256;

/// What the kernel says of the pod's containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    /// CPU time in microseconds.
    cpu_micros: u64,
    /// Pages that had to be read again after they were reclaimed.
    refaults: u64,
    /// Page cache in bytes.
    cache: u64,
    /// How long somebody has waited for memory, in microseconds.
    memory_wait: u64,
    /// The same for disks.
    disk_wait: u64,
}

/// What a look comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// So many bytes are reclaimed.
    Reclaim(u64),
    /// Now is not the time.
    Busy,
    /// There is nothing to be had.
    Nothing,
}

/// Who looks.
#[derive(Debug)]
pub struct Reclaim {
    next: Instant,
    pause: Duration,
    seen: Usage,
    /// What the last look came to.
    last: Step,
    /// How often free memory is still to be moved together.
    afterwards: u8,
    /// The child that does what the last look came to, until it has ended.
    child: Option<u32>,
}

impl Reclaim {
    /// Looks for the first time when the pod has had time to start.
    pub fn new() -> Self {
        Self {
            next: Instant::now() + LONGEST,
            pause: SHORTEST,
            seen: Usage::default(),
            last: Step::Nothing,
            afterwards: 0,
            child: None,
        }
    }

    /// Learns that a process has ended, which may be its child.
    pub fn gone(&mut self, pid: u32) {
        self.child = self.child.filter(|child| *child != pid);
    }

    /// When [`Reclaim::turn`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.next)
    }

    /// Looks, if it is time.
    pub fn turn(&mut self) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        if self.child.is_some() {
            // What there is now says nothing of what it will have given.
            self.next = now + SHORTEST;
            return;
        }
        let usage = read().unwrap_or(self.seen);
        let seen = std::mem::replace(&mut self.seen, usage);
        let step = step(seen, usage, self.pause);
        let in_vain = matches!(self.last, Step::Reclaim(_)) && usage.cache >= seen.cache;
        self.pause = match step {
            Step::Reclaim(_) if !in_vain => SHORTEST,
            Step::Nothing if self.afterwards > 0 => SHORTEST,
            // It is awake anyway.
            Step::Busy => 2 * SHORTEST,
            Step::Reclaim(_) | Step::Nothing => (self.pause * 2).min(LONGEST),
        };
        self.next = now + self.pause;
        self.last = step;
        // It may wait for dirty pages to be written, or for others: a child does it.
        match step {
            Step::Reclaim(bytes) => {
                self.afterwards = AFTERWARDS;
                self.child = crate::sys::in_child(move || {
                    // Less than was asked for is an error, and as good.
                    let _ = std::fs::write(RECLAIM, bytes.to_string());
                    bytes > LAST || compact()
                })
                .ok();
            }
            Step::Nothing if self.afterwards > 0 => {
                self.afterwards -= 1;
                self.child = crate::sys::in_child(compact).ok();
            }
            Step::Busy | Step::Nothing => {}
        }
    }
}

fn compact() -> bool {
    std::fs::write(COMPACT, "1").is_ok()
}

/// How much to reclaim after `pause`, if anything.
fn step(before: Usage, now: Usage, pause: Duration) -> Step {
    let used = Duration::from_micros(now.cpu_micros.saturating_sub(before.cpu_micros));
    let idle = used < pause / IDLE_SHARE;
    let missed = now.refaults.saturating_sub(before.refaults) > FEW_PAGES;
    // Not the kernel's averages: those of ten seconds say for forty that a big
    // file was read.
    let waited = |before, now: u64| Duration::from_micros(now.saturating_sub(before));
    let waited =
        waited(before.memory_wait, now.memory_wait).max(waited(before.disk_wait, now.disk_wait));
    if !idle || waited > pause / WAIT_SHARE {
        return Step::Busy;
    }
    let spare = now.cache.saturating_sub(FLOOR);
    let bytes = if spare > LAST { spare / 2 } else { spare }.min(*STEP.end());
    if missed || bytes < *STEP.start() {
        return Step::Nothing;
    }
    Step::Reclaim(bytes)
}

/// None before there is a pod, and on a kernel that does not account for waits.
fn read() -> Option<Usage> {
    let text = std::fs::read_to_string(cgroup::POD_MEMORY).ok()?;
    let number = |name| cgroup::lookup(&text, name).unwrap_or(0);
    Some(Usage {
        cpu_micros: cgroup::counter(cgroup::POD_CPU, "usage_usec")?,
        refaults: number("workingset_refault_file"),
        cache: number("inactive_file") + number("active_file"),
        memory_wait: wait("/proc/pressure/memory")?,
        disk_wait: wait("/proc/pressure/io")?,
    })
}

fn wait(path: &str) -> Option<u64> {
    waited(&std::fs::read_to_string(path).ok()?)
}

/// Microseconds that somebody has waited, from `some avg10=0.00 avg60=… total=…`.
fn waited(text: &str) -> Option<u64> {
    let total = text.lines().next()?.strip_prefix("some ")?;
    total
        .split_whitespace()
        .last()?
        .strip_prefix("total=")?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Usage = Usage {
        cpu_micros: 1_000_000,
        refaults: 100,
        cache: 0,
        memory_wait: 1_000_000,
        disk_wait: 1_000_000,
    };
    const IDLE: Usage = Usage {
        cpu_micros: 1_100_000,
        refaults: 100,
        cache: 40 << 20,
        memory_wait: 1_000_000,
        disk_wait: 1_010_000,
    };

    fn after(now: Usage) -> Step {
        step(BEFORE, now, SHORTEST)
    }

    #[test]
    fn an_idle_pod_gives_half_of_its_cache_at_a_time_down_to_a_floor() {
        assert_eq!(after(IDLE), Step::Reclaim(19 << 20));
        let cache = 1 << 30;
        assert_eq!(after(Usage { cache, ..IDLE }), Step::Reclaim(256 << 20));
        let cache = 16 << 20;
        assert_eq!(after(Usage { cache, ..IDLE }), Step::Reclaim(14 << 20));
        for cache in [2 << 20, 1 << 20] {
            assert_eq!(after(Usage { cache, ..IDLE }), Step::Nothing);
        }
    }

    #[test]
    fn a_busy_pod_and_one_that_misses_its_cache_keep_it() {
        let busy = Usage {
            cpu_micros: 1_300_000,
            ..IDLE
        };
        let missing = Usage {
            refaults: 400,
            ..IDLE
        };
        let pressed = |memory_wait, disk_wait| Usage {
            memory_wait,
            disk_wait,
            ..IDLE
        };
        assert_eq!(after(busy), Step::Busy);
        assert_eq!(after(pressed(1_100_000, 1_000_000)), Step::Busy);
        assert_eq!(after(pressed(1_000_000, 1_100_000)), Step::Busy);
        assert_eq!(after(missing), Step::Nothing);
    }

    #[test]
    fn waits_are_read_as_the_kernel_writes_them() {
        let text = "some avg10=12.50 avg60=0.00 avg300=0.00 total=4711\nfull avg10=0.00 total=1\n";
        assert_eq!(waited(text), Some(4711));
        assert_eq!(waited(""), None);
    }
}
