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

#[test]
fn an_idle_pod_gives_half_a_gibibyte_of_page_cache_back_to_the_host() {
    alone();
    let pod = shared().pod(MANIFEST);
    let [vmm, _] = pod.processes();
    // What the guest takes for the first command is not the files'.
    pod.sh("main", "true");
    let start = resident_kib(vmm);
    // Holes: they fill the page cache and no disk.
    pod.sh(
        "main",
        "for i in 1 2 3 4; do truncate -s 128M /$i; cat /$i > /dev/null; done",
    );
    let (full, read) = (resident_kib(vmm), Instant::now());
    assert!(full > start + (448 << 10), "{start} KiB, then {full}");
    let most = start + start / 5;
    let end = eventually("a fifth more than at the start, at most", || {
        let now = resident_kib(vmm);
        (now <= most).then_some(now)
    });
    let took = read.elapsed();
    say(&format!(
        "KiB of the host: {start}, with 512 MiB read {full}, {end} after {took:.0?}"
    ));
    assert!(took <= MOST, "{took:?}");
}
