//! The guest's clock against the host's, which KVM shows the guest as a PTP clock.

use beluga_tests::{Pod, SOON, eventually, run, say, shared};
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
fn behind(pod: &Pod<'_>) -> i64 {
    let ran = pod.try_exec("main", &["python3", "-c", BEHIND]).ok();
    ran.text().parse().expect("a number")
}

fn since_1970() -> u128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("later than 1970").as_nanos()
}

#[test]
fn the_clock_is_right_after_ten_seconds_without_a_cpu() {
    let pod = shared().pod(MANIFEST);
    let first = behind(&pod);
    let [vmm, _] = pod.processes();
    let signal = |name: &str| run(Command::new("kill").args([name, &vmm.to_string()]), SOON).ok();
    signal("-STOP");
    // The pause is what this is about: there is nothing to wait for.
    std::thread::sleep(Duration::from_secs(10));
    signal("-CONT");
    let (before, there, after) = (since_1970(), pod.sh("main", "date +%s%N"), since_1970());
    let there: u128 = there.parse().expect("a number");
    assert!(
        before <= there + MOST.as_nanos() && there <= after + MOST.as_nanos(),
        "{before} {there} {after}"
    );
    let then = behind(&pod);
    say(&format!(
        "the guest's clock was {first} ns behind the host's, after a pause {then} ns"
    ));
    for nanos in [first, then] {
        assert!(
            Duration::from_nanos(nanos.unsigned_abs()) < MOST,
            "{nanos} ns"
        );
    }
}

/// A story of the soak: the agent looks once a minute.
pub fn is_right_again() {
    let pod = shared().pod(MANIFEST);
    pod.sh("main", "date -s @1000000000");
    let year = || pod.sh("main", "date +%Y");
    eventually("the year", || (year() != "2001").then_some(()));
    let nanos = behind(&pod);
    assert!(
        Duration::from_nanos(nanos.unsigned_abs()) < MOST,
        "{nanos} ns"
    );
}
