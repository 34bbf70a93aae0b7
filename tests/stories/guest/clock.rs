//! The guest's clock against the host's, which KVM shows the guest as a PTP clock.

use super::POD;
use beluga_tests::{Pod, SOON, alone, eventually, run, say, shared};
use std::process::Command;
use std::time::{Duration, SystemTime};

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: clock}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: debian
    command: [sleep, infinity]
    securityContext: {privileged: true}
";

/// Nanoseconds that the guest's clock is behind the host's: of some looks the
/// one between whose begin and end the least time went by.
const BEHIND: &str = "
import os, time
host = ~os.open('/dev/ptp0', os.O_RDWR) << 3 | 3
looks = []
for _ in range(50):
    begin, there, end = time.time_ns(), time.clock_gettime_ns(host), time.time_ns()
    looks.append((end - begin, there - (begin + end) // 2))
print(min(looks)[1])
";
const MOST: Duration = Duration::from_millis(10);

/// How far the guest's clock is behind the host's, in nanoseconds.
fn behind(pod: &Pod<'_>, container: &str) -> i64 {
    let ran = pod.try_exec(container, &["python3", "-c", BEHIND]).ok();
    ran.text().parse().expect("a number")
}

/// Asserts that it is not behind by more than it may be.
#[track_caller]
fn is_right(nanos: i64) {
    let off = Duration::from_nanos(nanos.unsigned_abs());
    assert!(off < MOST, "{nanos} ns");
}

/// Lets a process stand still for so long.
fn pause(pid: u32, time: Duration) {
    let signal = |name: &str| run(Command::new("kill").args([name, &pid.to_string()]), SOON).ok();
    signal("-STOP");
    // The pause is what this is about: there is nothing to wait for.
    std::thread::sleep(time);
    signal("-CONT");
}

fn since_1970() -> u128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("later than 1970").as_nanos()
}

#[test]
fn the_clock_is_right_after_ten_seconds_without_a_cpu() {
    // Its pod is that of others, who would stand still too.
    alone();
    let first = behind(&POD, "root");
    let [vmm, _] = POD.processes();
    pause(vmm, Duration::from_secs(10));
    let (before, there, after) = (since_1970(), POD.sh("root", "date +%s%N"), since_1970());
    let (there, most): (u128, _) = (there.parse().expect("a number"), MOST.as_nanos());
    let is_now = before <= there + most && there <= after + most;
    assert!(is_now, "{before} {there} {after}");
    let then = behind(&POD, "root");
    say(&format!(
        "the guest's clock was {first} ns behind the host's, after a pause {then} ns"
    ));
    is_right(first);
    is_right(then);
}

/// A story of the soak: the agent looks once a minute.
pub fn is_right_again() {
    let pod = shared().pod(MANIFEST);
    pod.sh("main", "date -s @1000000000");
    let year = || pod.sh("main", "date +%Y");
    eventually("the year", || (year() != "2001").then_some(()));
    is_right(behind(&pod, "main"));
}
