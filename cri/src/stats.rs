//! What sandboxes and containers use, by the guest's own account.

use crate::error::CallError;
use crate::pods::{self, container_id, nanos};
use beluga_proto::agent::{ContainerStats, PodStats};
use beluga_runtime::engine::{self, PodView};
use beluga_runtime::pod::now;
use beluga_runtime::settings::Settings;
use beluga_runtime::store::status::Phase;
use k8s_cri::v1 as cri;
use std::time::Duration;

/// How long a guest may take to say what it uses: one that hangs holds nobody up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a running pod and its containers use; nothing of one that does not run.
pub async fn of_pod(
    settings: &Settings,
    pod: &PodView,
) -> Result<Option<cri::PodSandboxStats>, CallError> {
    let usage = usage(settings, pod).await?;
    Ok(usage.map(|usage| show(settings, pod, &usage)))
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

fn show(settings: &Settings, pod: &PodView, usage: &PodStats) -> cri::PodSandboxStats {
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
            cpu: Some(cpu(timestamp, usage.cpu_nanos)),
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
            containers: containers(settings, pod, usage, timestamp),
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
    settings: &Settings,
    pod: &PodView,
    usage: &PodStats,
    timestamp: i64,
) -> Vec<cri::ContainerStats> {
    let place = settings.pod_dir(&pod.uid).display().to_string();
    pods::containers(pod)
        .filter_map(|(spec, note, status)| {
            let run = status.id.as_ref()?;
            let used = usage.containers.iter().find(|one| one.id == *run)?;
            let attributes = cri::ContainerAttributes {
                id: container_id(&pod.uid, &spec.name),
                metadata: note.config.metadata,
                labels: note.config.labels,
                annotations: note.config.annotations,
            };
            let mut shown = container(used, timestamp, &place);
            shown.attributes = Some(attributes);
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
            ..cri::MemoryUsage::default()
        }),
        writable_layer: Some(cri::FilesystemUsage {
            timestamp,
            fs_id: Some(cri::FilesystemIdentifier {
                mountpoint: place.to_owned(),
            }),
            used_bytes: value(used.writable_bytes),
            inodes_used: None,
        }),
        swap: None,
    }
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
