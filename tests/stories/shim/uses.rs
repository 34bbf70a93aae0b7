//! What a container of a pod uses, as a kubelet asks for it.

use super::cri::limits;
use beluga_tests::cri::{
    Client, ContainerStats, ContainerStatsFilter, ContainerStatsRequest, ListContainerStatsRequest,
    UpdateContainerResourcesRequest,
};

pub fn what_it_uses_is_told(cri: &Client, id: &str, limit_mib: u64) {
    let request = ContainerStatsRequest {
        container_id: id.to_owned(),
    };
    let stats = cri.call(async { cri.runtime().container_stats(request).await });
    let one = stats.expect("stats").stats.expect("stats");
    let filter = ContainerStatsFilter {
        id: id.to_owned(),
        ..ContainerStatsFilter::default()
    };
    let request = ListContainerStatsRequest {
        filter: Some(filter),
    };
    let listed = cri.call(async { cri.runtime().list_container_stats(request).await });
    let listed = listed.expect("a list").stats;
    for stats in listed.iter().chain([&one]) {
        let [cpu, used, available, anon] = figures(stats);
        assert!(cpu > 0 && anon > 0 && used > anon, "{stats:?}");
        assert_eq!(used + available, limit_mib << 20, "{stats:?}");
    }
    assert_eq!(listed.len(), 1);
}

pub fn its_limits_change(cri: &Client, id: &str) {
    let request = UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(limits(80)),
        ..UpdateContainerResourcesRequest::default()
    };
    cri.call(async { cri.runtime().update_container_resources(request).await })
        .expect("updated");
    let most = cri.sh(id, "cat /sys/fs/cgroup/memory.max");
    assert_eq!(most, (80 << 20).to_string());
    what_it_uses_is_told(cri, id, 80);
}

/// CPU time, the working set, what is left of the limit, memory without files.
fn figures(stats: &ContainerStats) -> [u64; 4] {
    let memory = stats.memory.unwrap_or_default();
    let cpu = stats.cpu.unwrap_or_default();
    [
        cpu.usage_core_nano_seconds,
        memory.working_set_bytes,
        memory.available_bytes,
        memory.rss_bytes,
    ]
    .map(|one| one.map_or(0, |one| one.value))
}
