//! What an idle pod does not keep.

use beluga_tests::{alone, eventually, resident_kib, say, shared};
use std::time::{Duration, Instant};

/// Longest that it keeps it.
const MOST: Duration = Duration::from_secs(60);

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: idle}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox
    command: [sleep, infinity]
    resources: {limits: {memory: 640Mi}}
";

/// Reads half a gibibyte into the guest's page cache, and into no disk: files are holes.
const READ: &str = "for i in 1 2 3 4; do truncate -s 128M /$i; cat /$i > /dev/null; done";

#[test]
fn an_idle_pod_gives_half_a_gibibyte_of_page_cache_back_to_the_host() {
    alone();
    let pod = shared().pod(MANIFEST);
    let [vmm, _] = pod.processes();
    // What the guest takes for the first command is not the files'.
    pod.sh("main", "true");
    let start = resident_kib(vmm);
    pod.sh("main", READ);
    let (full, read) = (resident_kib(vmm), Instant::now());
    assert!(full > start + (448 << 10), "{start} KiB, then {full}");
    let end = falls_to(vmm, start + start / 5);
    let took = read.elapsed();
    say(&format!(
        "KiB of the host: {start}, with 512 MiB read {full}, {end} after {took:.0?}"
    ));
    assert!(took <= MOST, "{took:?}");
}

/// Waits until a process has no more than these KiB; how many it has.
fn falls_to(pid: u32, most: u32) -> u32 {
    eventually("a fifth more than at the start, at most", || {
        let now = resident_kib(pid);
        (now <= most).then_some(now)
    })
}
