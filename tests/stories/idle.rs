//! What an idle pod does not keep.

use beluga_tests::{eventually, shared};

#[test]
fn an_idle_pod_gives_its_page_cache_back() {
    let line = "dd if=/dev/zero of=/file bs=1M count=48 2>/dev/null; sync; \
        while :; do awk '/^Cached:/ { print $2 }' /proc/meminfo; sleep 8; done";
    let pod = shared().pod(&crate::lifecycle::one("idle-cache", "Never", line));
    eventually("32 MiB less of page cache", || {
        let logs = pod.logs("main");
        let seen: Vec<u32> = logs.lines().filter_map(|line| line.parse().ok()).collect();
        (seen.first()?.saturating_sub(*seen.last()?) > 32 << 10).then_some(())
    });
}
