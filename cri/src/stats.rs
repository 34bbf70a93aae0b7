//! What sandboxes and containers use, by the guest's own account.

use crate::error::CallError;
use crate::metrics::number;
use crate::pods::{self, Pods, container_id, nanos};
use beluga_proto::agent::{ContainerStats, PodStats};
use beluga_runtime::engine::{self, PodView};
use beluga_runtime::pod::now;
use beluga_runtime::settings::Settings;
use beluga_runtime::store::status::Phase;
use k8s_cri::v1 as cri;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a guest may take to say what it uses: one that hangs holds nobody up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nanoseconds between two looks that tell how fast CPU time is used; whoever looks
/// again before hears what was told last.
const LEAST_APART: i64 = 1_000_000_000;

/// After so many nanoseconds nobody remembers how much it was.
const FORGOTTEN: i64 = 600 * 1_000_000_000;

/// What was seen last of a sandbox or a container.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// When, in nanoseconds since 1970.
    at: i64,
    /// CPU time until then, in nanoseconds.
    used: u64,
    /// Nanoseconds of CPU time in a second before, where that is known.
    rate: Option<u64>,
}

/// How fast sandboxes and containers use CPU time: what they have used since
/// somebody looked before.
#[derive(Debug, Clone, Default)]
pub struct Rates(Arc<Mutex<HashMap<String, Look>>>);

impl Rates {
    /// Nanoseconds of CPU time in a second; nothing at the first look.
    fn see(&self, id: &str, at: i64, used: u64) -> Option<u64> {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.retain(|_, look| at - look.at < FORGOTTEN);
        let last = looks.get(id).copied();
        let apart = last.map(|look| at - look.at);
        if let (Some(look), Some(apart)) = (last, apart)
            && apart < LEAST_APART
        {
            return look.rate;
        }
        let rate = last.zip(apart).and_then(|(look, apart)| {
            // Less than before is another run of it.
            let more = u128::from(used.checked_sub(look.used)?);
            let apart = u128::try_from(apart).ok()?;
            u64::try_from(more * 1_000_000_000 / apart).ok()
        });
        looks.insert(id.to_owned(), Look { at, used, rate });
        rate
    }
}

/// What a running pod and its containers use; nothing of one that does not run.
pub async fn of_pod(pods: &Pods, pod: &PodView) -> Result<Option<cri::PodSandboxStats>, CallError> {
    let usage = usage(&pods.settings, pod).await?;
    Ok(usage.map(|usage| show(pods, pod, &usage)))
}

/// The same in the guest's own words.
pub async fn usage(settings: &Settings, pod: &PodView) -> Result<Option<PodStats>, CallError> {
    if pod.status.phase != Phase::Running {
        return Ok(None);
    }
    let asked = engine::usage(settings, &pod.uid);
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(usage)) => Ok(Some(usage.guest)),
        // It has ended meanwhile.
        Ok(Err(engine::EngineError::Ended { .. } | engine::EngineError::Absent { .. })) => Ok(None),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            let message = format!("the guest of {} does not answer", pod.name);
            Err(CallError::Late { message })
        }
    }
}

fn show(pods: &Pods, pod: &PodView, usage: &PodStats) -> cri::PodSandboxStats {
    let timestamp = nanos(now().unix);
    let note = pods::note(pod);
    let interfaces: Vec<_> = usage.interfaces.iter().map(interface).collect();
    let used = usage.memory_total.saturating_sub(usage.memory_available);
    let processes = usage.containers.iter().map(|one| one.pids).sum();
    cri::PodSandboxStats {
        attributes: Some(cri::PodSandboxAttributes {
            id: pod.uid.to_string(),
            metadata: note.config.metadata,
            labels: note.config.labels,
            annotations: note.config.annotations,
        }),
        linux: Some(cri::LinuxPodSandboxStats {
            cpu: Some(cri::CpuUsage {
                usage_nano_cores: rate(pods, pod.uid.as_str(), timestamp, usage.cpu_nanos),
                ..cpu(timestamp, usage.cpu_nanos)
            }),
            memory: Some(cri::MemoryUsage {
                timestamp,
                working_set_bytes: value(used),
                available_bytes: value(usage.memory_available),
                usage_bytes: value(used),
                ..cri::MemoryUsage::default()
            }),
            network: Some(cri::NetworkUsage {
                timestamp,
                default_interface: interfaces.first().cloned(),
                interfaces,
            }),
            process: Some(cri::ProcessUsage {
                timestamp,
                process_count: value(processes),
            }),
            containers: containers(pods, pod, usage, timestamp),
        }),
        windows: None,
    }
}

fn interface(one: &beluga_proto::agent::InterfaceStats) -> cri::NetworkInterfaceUsage {
    cri::NetworkInterfaceUsage {
        name: one.name.clone(),
        rx_bytes: value(one.rx_bytes),
        tx_bytes: value(one.tx_bytes),
        ..cri::NetworkInterfaceUsage::default()
    }
}

fn containers(
    pods: &Pods,
    pod: &PodView,
    usage: &PodStats,
    timestamp: i64,
) -> Vec<cri::ContainerStats> {
    let place = pods.settings.pod_dir(&pod.uid).display().to_string();
    pods::containers(pod)
        .filter_map(|(spec, note, status)| {
            let run = status.id.as_ref()?;
            let used = usage.containers.iter().find(|one| one.id == *run)?;
            let id = container_id(&pod.uid, &spec.name);
            let nano_cores = rate(pods, &id, timestamp, used.cpu_nanos);
            let attributes = cri::ContainerAttributes {
                id,
                metadata: note.config.metadata,
                labels: note.config.labels,
                annotations: note.config.annotations,
            };
            let mut shown = container(used, timestamp, &place);
            shown.attributes = Some(attributes);
            if let Some(cpu) = &mut shown.cpu {
                cpu.usage_nano_cores = nano_cores;
            }
            if let (Some(memory), Some(limit)) = (&mut shown.memory, spec.resources.memory_limit) {
                memory.available_bytes = value(limit.saturating_sub(used.working_set_bytes));
            }
            Some(shown)
        })
        .collect()
}

fn container(used: &ContainerStats, timestamp: i64, place: &str) -> cri::ContainerStats {
    cri::ContainerStats {
        attributes: None,
        cpu: Some(cpu(timestamp, used.cpu_nanos)),
        memory: Some(cri::MemoryUsage {
            timestamp,
            working_set_bytes: value(used.working_set_bytes),
            usage_bytes: value(used.memory_bytes),
            rss_bytes: value(number(used, "memory.stat", "anon")),
            page_faults: value(number(used, "memory.stat", "pgfault")),
            major_page_faults: value(number(used, "memory.stat", "pgmajfault")),
            available_bytes: None,
        }),
        writable_layer: Some(cri::FilesystemUsage {
            timestamp,
            fs_id: Some(cri::FilesystemIdentifier {
                mountpoint: place.to_owned(),
            }),
            used_bytes: value(used.writable_bytes),
            inodes_used: None,
        }),
        // A pod's machine has none.
        swap: Some(cri::SwapUsage {
            timestamp,
            swap_available_bytes: value(0),
            swap_usage_bytes: value(0),
        }),
    }
}

fn rate(pods: &Pods, id: &str, at: i64, used: u64) -> Option<cri::UInt64Value> {
    pods.rates.see(id, at, used).and_then(value)
}

fn cpu(timestamp: i64, nanos: u64) -> cri::CpuUsage {
    cri::CpuUsage {
        timestamp,
        usage_core_nano_seconds: value(nanos),
        usage_nano_cores: None,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "messages have it so")]
fn value(value: u64) -> Option<cri::UInt64Value> {
    Some(cri::UInt64Value { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_fast_cpu_time_is_used_is_told_from_the_second_look_on() {
        const SECOND: i64 = 1_000_000_000;
        let rates = Rates::default();
        assert_eq!(rates.see("a", SECOND, 5), None);
        assert_eq!(rates.see("a", 3 * SECOND, 1_000_000_005), Some(500_000_000));
        // Too soon to be told anew; and nobody else's.
        let soon = 3 * SECOND + 1;
        assert_eq!(rates.see("a", soon, 1_900_000_000), Some(500_000_000));
        assert_eq!(rates.see("b", soon, 7), None);
        assert_eq!(rates.see("a", 5 * SECOND, 0), None, "it was run again");
    }
}
