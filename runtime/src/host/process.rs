//! Processes that are not our children: found, told apart, watched, ended.

use crate::store::ProcessRef;
use beluga_proto::PodUid;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Variable in a VMM's environment that says whose it is.
pub const POD_VARIABLE: &str = "BELUGA_POD";

/// The process of that PID as it is now; `None` when there is none.
#[must_use]
pub fn identify(pid: i32) -> Option<ProcessRef> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, even a parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    // Field 22; the state was field 3.
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some(ProcessRef { pid, start_ticks })
}

/// Whether somebody has stopped it (SIGSTOP), so that it does nothing.
#[must_use]
pub fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(')').map(|(_, fields)| fields);
    after.is_some_and(|fields| fields.trim_start().starts_with('T'))
}

/// How long the threads of a process could have run and had no CPU, together:
/// others had it, or a cgroup's limit was used up.
#[must_use]
pub fn waited_for_cpu(pid: i32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    // Documentation/scheduler/sched-stats.rst: the second number, in nanoseconds.
    let waited = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
    Duration::from_nanos(waited.fold(0, u64::saturating_add))
}

/// A descriptor of exactly this process; `None` when it is gone, whoever has
/// its number now.
#[must_use]
pub fn open(process: ProcessRef) -> Option<OwnedFd> {
    let pid = Pid::from_raw(process.pid)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    // Looked at after opening: the descriptor now holds the number.
    (identify(process.pid) == Some(process)).then_some(pidfd)
}

/// Sends SIGKILL. One that is gone is no error.
pub fn kill(pidfd: &OwnedFd) -> io::Result<()> {
    match rustix::process::pidfd_send_signal(pidfd, Signal::KILL) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the process ends within the time, in milliseconds.
#[must_use]
pub fn wait_end(pidfd: &OwnedFd, timeout_millis: u32) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec {
        tv_sec: i64::from(timeout_millis / 1000),
        tv_nsec: i64::from(timeout_millis % 1000) * 1_000_000,
    };
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(ready) if ready > 0)
}

/// Memory that the host holds for a process, in bytes, shared pages by their
/// share; 0 for one that is gone or not ours to look at.
#[must_use]
pub fn resident_bytes(pid: i32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kibibytes = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next());
    kibibytes.map_or(0, |text| text.parse::<u64>().unwrap_or(0) << 10)
}

/// All VMMs that carry a pod's UID in their environment.
#[must_use]
pub fn machines() -> Vec<(PodUid, ProcessRef)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
            let uid = environ.split(|byte| *byte == 0).find_map(|entry| {
                let value = entry.strip_prefix(POD_VARIABLE.as_bytes())?;
                let value = value.strip_prefix(b"=")?;
                PodUid::parse(std::str::from_utf8(value).ok()?).ok()
            })?;
            Some((uid, identify(pid)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let own = identify(std::process::id().cast_signed()).unwrap();
        assert!(open(own).is_some());
        let later = ProcessRef {
            start_ticks: own.start_ticks + 1,
            ..own
        };
        assert!(open(later).is_none());
        assert!(identify(0).is_none());
    }
}
