//! What a task uses, in the form of cgroup v2.

use crate::error::ShimError;
use crate::events::any;
use crate::oci::{self, Kind};
use crate::service::Shim;
use beluga_proto::agent::{ContainerStats, PodStats};
use beluga_runtime::engine;
use containerd_shim_protos::cgroups_v2::metrics::{CPUStat, MemoryStat, Metrics, PidsStat};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use std::time::Duration;

/// How long a guest may take to say what it uses: one that hangs holds nobody up.
const PATIENCE: Duration = Duration::from_secs(10);

impl Shim {
    /// What a task uses.
    pub async fn stats(&self, id: &str) -> Result<Any, ShimError> {
        let (kind, limit) = self.table(|table| {
            let task = table.task(id)?;
            Ok::<_, ShimError>((task.kind.clone(), task.memory_limit))
        })?;
        let uid = self.uid()?;
        let asked = engine::usage(&self.settings, &uid);
        let usage = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(usage) => usage?.guest,
            Err(_) => {
                let message = "the guest does not answer".to_owned();
                return Err(ShimError::State { message });
            }
        };
        if kind == Kind::Sandbox {
            return Ok(any(&of_pod(&usage)));
        }
        let name = oci::container_name(id);
        let run = self.last(|status| {
            let mut all = status.iter().flat_map(|status| &status.containers);
            all.find(|one| one.name == name && !one.is_gone)
                .and_then(|one| one.id.clone())
        });
        let mut all = usage.containers.iter();
        let used = all.find(|one| Some(&one.id) == run.as_ref());
        let used = used.ok_or_else(|| ShimError::State {
            message: format!("the task {id} does not run"),
        })?;
        Ok(any(&of_container(used, limit)))
    }
}

fn of_pod(usage: &PodStats) -> Metrics {
    let memory = MemoryStat {
        usage: usage.memory_total.saturating_sub(usage.memory_available),
        usage_limit: usage.memory_total,
        ..MemoryStat::default()
    };
    let pids = usage.containers.iter().map(|one| one.pids).sum();
    metrics(usage.cpu_nanos, memory, pids)
}

fn of_container(used: &ContainerStats, limit: Option<u64>) -> Metrics {
    let told = |key| counter(used, "memory.stat", key);
    let memory = MemoryStat {
        usage: used.memory_bytes,
        inactive_file: used.memory_bytes.saturating_sub(used.working_set_bytes),
        // containerd takes what is in use from it: no limit is the greatest one.
        usage_limit: limit.unwrap_or(u64::MAX),
        anon: told("anon"),
        file: told("file"),
        pgfault: told("pgfault"),
        pgmajfault: told("pgmajfault"),
        ..MemoryStat::default()
    };
    metrics(used.cpu_nanos, memory, used.pids)
}

/// A line of a file of the container's cgroup; 0 where it is not there.
fn counter(used: &ContainerStats, file: &str, key: &str) -> u64 {
    let lines = used.files.get(file).map_or("", String::as_str).lines();
    let mut pairs = lines.filter_map(|line| line.split_once(' '));
    let found = pairs.find(|(name, _)| *name == key);
    let value = found.and_then(|(_, value)| value.trim().parse().ok());
    value.unwrap_or(0)
}

fn metrics(cpu_nanos: u64, memory: MemoryStat, pids: u64) -> Metrics {
    Metrics {
        pids: MessageField::some(PidsStat {
            current: pids,
            ..PidsStat::default()
        }),
        cpu: MessageField::some(CPUStat {
            usage_usec: cpu_nanos / 1000,
            ..CPUStat::default()
        }),
        memory: MessageField::some(memory),
        ..Metrics::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_left_of_a_limit_can_be_told_from_it() {
        let used = json!({
            "id": "0".repeat(32), "cpu_nanos": 5_000, "memory_bytes": 900, "working_set_bytes": 700,
            "pids": 3, "writable_bytes": 0, "read_bytes": 0, "write_bytes": 0, "processes": [],
            "files": {"memory.stat": "anon 400\nfile 300\npgfault 9\n"},
        });
        let used: ContainerStats = serde_json::from_value(used).unwrap();
        let memory = of_container(&used, Some(1000)).memory.unwrap();
        assert_eq!((memory.usage, memory.inactive_file), (900, 200));
        assert_eq!(
            (memory.usage_limit, memory.anon, memory.file),
            (1000, 400, 300)
        );
        assert_eq!((memory.pgfault, memory.pgmajfault), (9, 0));
        let memory = of_container(&used, None).memory.unwrap();
        assert_eq!(memory.usage_limit, u64::MAX);
    }
}
