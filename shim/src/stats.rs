//! What a task uses, in the form of cgroup v2.

use crate::error::ShimError;
use crate::events::any;
use crate::oci::{self, Kind};
use crate::service::Shim;
use beluga_proto::agent::{ContainerStats, PodStats};
use beluga_runtime::engine;
use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, IOEntry, IOStat, MemoryStat, Metrics, PidsStat,
};
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
    let pids = PidsStat {
        current: usage.containers.iter().map(|one| one.pids).sum(),
        ..PidsStat::default()
    };
    let cpu = CPUStat {
        usage_usec: usage.cpu_nanos / 1000,
        ..CPUStat::default()
    };
    metrics(cpu, memory, pids)
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
    let told = |key| counter(used, "cpu.stat", key);
    let cpu = CPUStat {
        usage_usec: used.cpu_nanos / 1000,
        user_usec: told("user_usec"),
        system_usec: told("system_usec"),
        nr_periods: told("nr_periods"),
        nr_throttled: told("nr_throttled"),
        throttled_usec: told("throttled_usec"),
        ..CPUStat::default()
    };
    let most = used.files.get("pids.max").map_or("", |text| text.trim());
    let pids = PidsStat {
        current: used.pids,
        limit: most.parse().unwrap_or(u64::MAX),
        ..PidsStat::default()
    };
    let disks = used.files.get("io.stat").map_or("", String::as_str).lines();
    Metrics {
        io: MessageField::some(IOStat {
            usage: disks.filter_map(transfers).collect(),
            ..IOStat::default()
        }),
        ..metrics(cpu, memory, pids)
    }
}

/// A disk of the guest in io.stat: `253:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn transfers(line: &str) -> Option<IOEntry> {
    let (disk, figures) = line.split_once(' ')?;
    let (major, minor) = disk.split_once(':')?;
    let figure = |key: &str| {
        let mut pairs = figures.split(' ').filter_map(|one| one.split_once('='));
        let found = pairs.find(|(name, _)| *name == key);
        found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    };
    Some(IOEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        rbytes: figure("rbytes"),
        wbytes: figure("wbytes"),
        rios: figure("rios"),
        wios: figure("wios"),
        ..IOEntry::default()
    })
}

/// A line of a file of the container's cgroup; 0 where it is not there.
fn counter(used: &ContainerStats, file: &str, key: &str) -> u64 {
    let lines = used.files.get(file).map_or("", String::as_str).lines();
    let mut pairs = lines.filter_map(|line| line.split_once(' '));
    let found = pairs.find(|(name, _)| *name == key);
    let value = found.and_then(|(_, value)| value.trim().parse().ok());
    value.unwrap_or(0)
}

fn metrics(cpu: CPUStat, memory: MemoryStat, pids: PidsStat) -> Metrics {
    Metrics {
        pids: MessageField::some(pids),
        cpu: MessageField::some(cpu),
        memory: MessageField::some(memory),
        ..Metrics::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn time_processes_and_transfers_are_those_of_the_guests_cgroup() {
        let used = json!({
            "id": "0".repeat(32), "cpu_nanos": 9_000, "memory_bytes": 0, "working_set_bytes": 0,
            "pids": 3, "writable_bytes": 0, "read_bytes": 0, "write_bytes": 0, "processes": [],
            "files": {
                "cpu.stat": "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1\n",
                "pids.max": "100\n",
                "io.stat": "254:16 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n",
            },
        });
        let mut used: ContainerStats = serde_json::from_value(used).unwrap();
        let told = of_container(&used, None);
        let cpu = told.cpu.unwrap();
        assert_eq!((cpu.usage_usec, cpu.user_usec, cpu.system_usec), (9, 5, 4));
        assert_eq!(
            (cpu.nr_periods, cpu.nr_throttled, cpu.throttled_usec),
            (3, 2, 1)
        );
        assert_eq!(told.pids.unwrap().limit, 100);
        let disk = &told.io.unwrap().usage[0];
        assert_eq!((disk.major, disk.minor), (254, 16));
        assert_eq!((disk.rbytes, disk.wbytes), (4096, 8192));
        assert_eq!((disk.rios, disk.wios), (1, 2));
        used.files.insert("pids.max".to_owned(), "max\n".to_owned());
        assert_eq!(of_container(&used, None).pids.unwrap().limit, u64::MAX);
    }

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
