//! The guest's clock follows the host's: KVM hands the host's time to the guest
//! as a PTP clock, at the price of one exit per look.

use crate::setup::set_clock;
use crate::sys;
use rustix::fs::{Mode, OFlags, open};
use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

const DEVICE: &str = "/dev/ptp0";
/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(60);
/// From here on the clock is set instead of slewed, in nanoseconds.
const STEP: i128 = 500_000_000;
/// Below this, looking costs more than it corrects, in nanoseconds.
const NOISE: i128 = 20_000;

/// Keeps the clock. Does nothing where the host offers no PTP clock.
pub struct Clock {
    host: Option<OwnedFd>,
    next: Instant,
}

impl Clock {
    /// A clock that looks for the first time after an interval.
    pub fn new() -> Self {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Self {
            host: open(DEVICE, flags, Mode::empty()).ok(),
            next: Instant::now() + INTERVAL,
        }
    }

    /// When [`Clock::turn`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.host.as_ref().map(|_| self.next)
    }

    /// Looks at the host's clock when it is time to.
    pub fn turn(&mut self) {
        let now = Instant::now();
        let Some(host) = self.host.as_ref().filter(|_| now >= self.next) else {
            return;
        };
        self.next = now + INTERVAL;
        let Ok(theirs) = clock_gettime_dynamic(DynamicClockId::Dynamic(host.as_fd())) else {
            // It does not get better by asking again.
            self.host = None;
            return;
        };
        let theirs = nanos(theirs);
        let offset = theirs - nanos(clock_gettime(ClockId::Realtime));
        // What cannot be corrected now is seen again in a minute.
        let _ = match u64::try_from(theirs) {
            Ok(theirs) if offset.abs() >= STEP => set_clock(theirs),
            _ if offset.abs() >= NOISE => sys::slew_clock(i64::try_from(offset).unwrap_or(0)),
            _ => Ok(()),
        };
    }
}

fn nanos(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
