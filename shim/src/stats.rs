//! What a task uses, in the form of cgroup v2.

use crate::error::ShimError;
use crate::events::any;
use crate::oci::{self, Kind};
use crate::service::Shim;
use beluga_proto::agent::PodStats;
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
        let kind = self.table(|table| Ok::<_, ShimError>(table.task(id)?.kind.clone()))?;
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
        let inactive = used.memory_bytes.saturating_sub(used.working_set_bytes);
        Ok(any(&metrics(
            used.cpu_nanos,
            (used.memory_bytes, inactive),
            used.pids,
        )))
    }
}

fn of_pod(usage: &PodStats) -> Metrics {
    let used = usage.memory_total.saturating_sub(usage.memory_available);
    let pids = usage.containers.iter().map(|one| one.pids).sum();
    metrics(usage.cpu_nanos, (used, 0), pids)
}

fn metrics(cpu_nanos: u64, (memory, inactive_file): (u64, u64), pids: u64) -> Metrics {
    Metrics {
        pids: MessageField::some(PidsStat {
            current: pids,
            ..PidsStat::default()
        }),
        cpu: MessageField::some(CPUStat {
            usage_usec: cpu_nanos / 1000,
            ..CPUStat::default()
        }),
        memory: MessageField::some(MemoryStat {
            usage: memory,
            inactive_file,
            ..MemoryStat::default()
        }),
        ..Metrics::default()
    }
}
