//! The guest's clock follows the host's: KVM hands the host's time to the guest
//! as a PTP clock, at the price of one exit per look.

use crate::sys;
use rustix::fs::{Mode, OFlags, open};
use rustix::io;
use rustix::time::{
    ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic, clock_settime,
};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

const DEVICE: &str = "/dev/ptp0";
/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(60);
/// From here on the clock is set instead of slewed, in nanoseconds.
const STEP: u64 = 500_000_000;
/// Below this, looking costs more than it corrects, in nanoseconds.
const NOISE: u64 = 20_000;
/// Looks at the host's clock of which one counts.
const LOOKS: u32 = 5;

/// Keeps the clock. Does nothing where the host offers no PTP clock.
pub struct Clock {
    host: Option<OwnedFd>,
    next: Instant,
}

impl Clock {
    /// A clock that looks for the first time after an interval.
    pub fn new() -> Self {
        Self {
            host: open_host().ok(),
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
        let Ok(behind) = behind(host) else {
            // It does not get better by asking again.
            self.host = None;
            return;
        };
        // What cannot be corrected now is seen again in a minute.
        let _ = match behind.unsigned_abs() {
            STEP.. => sys::step_clock(behind),
            NOISE.. => sys::slew_clock(behind),
            _ => Ok(()),
        };
    }
}

/// Sets the clock at a pod's start and when its machine goes on after a pause.
/// What the host `said` is as late as the message came: its clock is asked where
/// it can be.
pub fn set(said_unix_nanos: u64) -> std::io::Result<()> {
    let host = open_host().ok();
    match host.and_then(|host| behind(&host).ok()) {
        Some(nanos) => sys::step_clock(nanos),
        None => set_to(said_unix_nanos),
    }
}

fn set_to(unix_nanos: u64) -> std::io::Result<()> {
    let invalid = |_| std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let time = Timespec {
        tv_sec: i64::try_from(unix_nanos / 1_000_000_000).map_err(invalid)?,
        tv_nsec: (unix_nanos % 1_000_000_000) as _,
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

fn open_host() -> io::Result<OwnedFd> {
    open(DEVICE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// By how many nanoseconds the guest's clock is behind the host's. A busy host
/// may take the CPU away between two looks: of some the quickest one counts.
fn behind(host: &OwnedFd) -> io::Result<i64> {
    let mut best = (i64::MAX, 0);
    for _ in 0..LOOKS {
        let begin = nanos(clock_gettime(ClockId::Realtime));
        let theirs = clock_gettime_dynamic(DynamicClockId::Dynamic(host.as_fd())).map(nanos)?;
        let took = nanos(clock_gettime(ClockId::Realtime)) - begin;
        best = best.min((took, theirs - (begin + took / 2)));
    }
    Ok(best.1)
}

/// Since 1970, for as long as 64 bits last: until 2262.
fn nanos(time: Timespec) -> i64 {
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}
