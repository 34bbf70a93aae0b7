//! cgroup v2: one group for the agent, one per container below `pod`.

use beluga_proto::container::CgroupLimits;
use std::io;

const MOUNT: &str = "/sys/fs/cgroup";
const POD: &str = "/sys/fs/cgroup/pod";
/// Bytes written here are reclaimed from what the containers hold.
pub const RECLAIM: &str = "/sys/fs/cgroup/pod/memory.reclaim";
/// Memory of all containers by kind.
pub const POD_MEMORY: &str = "/sys/fs/cgroup/pod/memory.stat";
/// CPU time of all containers.
pub const POD_CPU: &str = "/sys/fs/cgroup/pod/cpu.stat";
/// The agent's own.
const AGENT: &str = "/sys/fs/cgroup/agent";
/// Length of `cpu.max`'s period in microseconds.
const CPU_PERIOD_MICROS: u64 = 100_000;

/// Why a cgroup is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A group could not be made, opened or removed.
    #[error("cgroup {path}")]
    Group {
        /// Which.
        path: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// A value was refused.
    #[error("cannot write {value:?} to {path}")]
    Write {
        /// File.
        path: String,
        /// Value.
        value: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

fn write(path: String, value: &str) -> Result<(), CgroupError> {
    std::fs::write(&path, value).map_err(|source| CgroupError::Write {
        path,
        value: value.to_owned(),
        source,
    })
}

fn make(path: &str) -> Result<(), CgroupError> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(CgroupError::Group {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Makes the agent's and the pod's groups and hands every controller down.
pub fn set_up() -> Result<(), CgroupError> {
    let controllers =
        std::fs::read_to_string(format!("{MOUNT}/cgroup.controllers")).map_err(|source| {
            CgroupError::Group {
                path: MOUNT.to_owned(),
                source,
            }
        })?;
    let all: String = controllers
        .split_whitespace()
        .map(|name| format!("+{name} "))
        .collect();
    make(AGENT)?;
    make(POD)?;
    write(format!("{AGENT}/cgroup.procs"), "1")?;
    write(format!("{MOUNT}/cgroup.subtree_control"), all.trim_end())?;
    write(format!("{POD}/cgroup.subtree_control"), all.trim_end())?;
    // Here, where no container can change it: the agent removes what they make.
    write(format!("{POD}/cgroup.max.descendants"), MAX_GROUPS)?;
    write(format!("{POD}/cgroup.max.depth"), MAX_LEVELS)
}

/// Bounds all containers together. Who is out of memory by that ends alone: the
/// kernel chooses among the containers, and ends the one whole.
pub fn limit_pod(limits: &CgroupLimits) -> Result<(), CgroupError> {
    for (file, value) in bounds(limits) {
        write(format!("{POD}/{file}"), &value)?;
    }
    Ok(())
}

/// Most groups that the containers of a pod may have in all.
const MAX_GROUPS: &str = "1024";

/// Deepest nesting of them: a container's own group and [`MAX_DEPTH`] below.
const MAX_LEVELS: &str = "33";

/// Kills every process of every container.
pub fn kill_pod() -> Result<(), CgroupError> {
    write(format!("{POD}/cgroup.kill"), "1")
}

/// Whether any process of any container is left.
pub fn pod_is_populated() -> bool {
    populated(POD)
}

fn populated(path: &str) -> bool {
    // A group that cannot be read is gone, and its processes with it.
    counter(&format!("{path}/cgroup.events"), "populated").is_some_and(|count| count > 0)
}

/// The number behind a name in a file of `name number` lines.
pub fn counter(path: &str, name: &str) -> Option<u64> {
    lookup(&std::fs::read_to_string(path).ok()?, name)
}

/// The number behind a name in text of `name number` lines.
pub fn lookup(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok()).flatten()
    })
}

/// The group of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: String,
}

impl Cgroup {
    /// The group of that name below the pod's. Makes nothing.
    pub fn named(name: &str) -> Self {
        Self {
            path: format!("{POD}/{name}"),
        }
    }

    /// Absolute path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Makes the group. Errors leave nothing behind.
    pub fn create(&self, limits: &CgroupLimits) -> Result<(), CgroupError> {
        make(&self.path)?;
        self.limit(limits).inspect_err(|_| self.remove())
    }

    fn limit(&self, limits: &CgroupLimits) -> Result<(), CgroupError> {
        for (file, value) in values(limits) {
            write(format!("{}/{file}", self.path), &value)?;
        }
        Ok(())
    }

    /// Gives a group with processes other limits. The kernel would end processes
    /// that have more memory than they may: what is over is reclaimed first, and
    /// while there is still more, which is given back, they keep their limit.
    pub fn change(&self, limits: &CgroupLimits) -> Result<Option<u64>, CgroupError> {
        let mut used = None;
        for (file, value) in changed(limits) {
            if file == "memory.max"
                && let Some(limit) = limits.memory_max
            {
                let over = self.memory().saturating_sub(limit);
                if over > 0 {
                    let _ = write(format!("{}/memory.reclaim", self.path), &over.to_string());
                }
                let now = self.memory();
                if now > limit {
                    used = Some(now);
                    continue;
                }
            }
            write(format!("{}/{file}", self.path), &value)?;
        }
        Ok(used)
    }

    /// Bytes of memory in use.
    fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("{}/memory.current", self.path));
        text.ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    /// A group below it, made when it is missing, without limits of its own.
    pub fn below(&self, name: &str) -> Result<Self, CgroupError> {
        let path = format!("{}/{name}", self.path);
        make(&path)?;
        Ok(Self { path })
    }

    /// Kills every process in it and below.
    pub fn kill(&self) -> Result<(), CgroupError> {
        write(format!("{}/cgroup.kill", self.path), "1")
    }

    /// Lets every process in it and below stand still, or go on.
    pub fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        let value = if frozen { "1" } else { "0" };
        write(format!("{}/cgroup.freeze", self.path), value)
    }

    /// Whether a process is left in it or below.
    pub fn is_populated(&self) -> bool {
        populated(&self.path)
    }

    /// How often the out-of-memory killer struck in it or below.
    pub fn oom_kills(&self) -> u64 {
        counter(&self.events_path(), "oom_kill").unwrap_or(0)
    }

    /// The file that changes when the out-of-memory killer strikes.
    pub fn events_path(&self) -> String {
        format!("{}/memory.events", self.path)
    }

    /// The file that changes when the last process is gone.
    pub fn population_path(&self) -> String {
        format!("{}/cgroup.events", self.path)
    }

    /// PIDs of the processes in it and below, at most `limit`.
    pub fn processes(&self, limit: usize) -> Vec<u32> {
        let mut found = Vec::new();
        let mut groups = vec![(self.path.clone(), 0)];
        let mut visited = 0;
        while let Some((path, depth)) = groups.pop() {
            let text = std::fs::read_to_string(format!("{path}/cgroup.procs")).unwrap_or_default();
            let pids = text.lines().filter_map(|line| line.parse::<u32>().ok());
            found.extend(pids.take(limit - found.len()));
            visited += 1;
            if found.len() == limit || visited == MAX_SEARCHED {
                break;
            }
            if depth < MAX_DEPTH {
                groups.extend(below(&path).map(|path| (path, depth + 1)));
            }
        }
        found
    }

    /// Removes the group and what a privileged container made below it.
    /// Groups that still have processes stay.
    pub fn remove(&self) {
        remove_tree(&self.path, 0);
    }
}

/// Deepest nesting below a container's group that is looked into.
const MAX_DEPTH: usize = 32;

/// Most groups of a container that are searched for processes: a container that
/// makes more does not stall the agent.
const MAX_SEARCHED: usize = 1024;

/// Paths of the groups right below one.
fn below(path: &str) -> impl Iterator<Item = String> {
    std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path().to_string_lossy().into_owned())
}

fn remove_tree(path: &str, depth: usize) {
    if std::fs::remove_dir(path).is_ok() || depth == MAX_DEPTH {
        return;
    }
    for group in below(path) {
        remove_tree(&group, depth + 1);
    }
    let _ = std::fs::remove_dir(path);
}

/// What to write where for a container.
fn values(limits: &CgroupLimits) -> Vec<(&'static str, String)> {
    // As the kubelet has it: a container that is out of memory ends whole
    // instead of losing one process.
    let whole = ("memory.oom.group", "1".to_owned());
    std::iter::once(whole).chain(bounds(limits)).collect()
}

/// The limits alone.
fn bounds(limits: &CgroupLimits) -> Vec<(&'static str, String)> {
    let mut values = Vec::new();
    if let Some(quota) = limits.cpu_quota_micros {
        values.push(("cpu.max", format!("{quota} {CPU_PERIOD_MICROS}")));
    }
    if let Some(weight) = limits.cpu_weight {
        values.push(("cpu.weight", weight.clamp(1, 10_000).to_string()));
    }
    let plain = [
        ("memory.max", limits.memory_max),
        ("memory.low", limits.memory_low),
        ("memory.high", limits.memory_high),
        ("pids.max", limits.pids_max),
    ];
    values.extend(
        plain
            .into_iter()
            .filter_map(|(file, value)| Some((file, value?.to_string()))),
    );
    values
}

/// The same for a group that may have other limits now.
fn changed(limits: &CgroupLimits) -> Vec<(&'static str, String)> {
    let set = values(limits);
    let reset = [
        ("cpu.max", "max 100000"),
        ("cpu.weight", "100"),
        // Before the limit: no more than that is protected.
        ("memory.low", "0"),
        ("memory.high", "max"),
        ("memory.max", "max"),
        ("pids.max", "max"),
    ];
    let of = |file| set.iter().find(|(name, _)| *name == file);
    reset
        .into_iter()
        .map(|(file, none)| {
            (
                file,
                of(file).map_or_else(|| none.to_owned(), |(_, value)| value.clone()),
            )
        })
        .collect()
}

/// The group in which a process is now: containers that manage cgroups of
/// their own move their first process, and a process beside it must go there.
pub fn of_process(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    (path.starts_with("/pod/") && !path.contains("/..")).then(|| format!("{MOUNT}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_what_the_kernel_reads() {
        let limits = CgroupLimits {
            cpu_quota_micros: Some(50_000),
            cpu_weight: Some(20_000),
            memory_max: Some(1 << 20),
            memory_low: None,
            memory_high: Some(4096),
            pids_max: Some(7),
        };
        assert_eq!(
            values(&limits),
            [
                ("memory.oom.group", "1".to_owned()),
                ("cpu.max", "50000 100000".to_owned()),
                ("cpu.weight", "10000".to_owned()),
                ("memory.max", "1048576".to_owned()),
                ("memory.high", "4096".to_owned()),
                ("pids.max", "7".to_owned()),
            ]
        );
        // A pod that is out of memory does not end whole.
        assert_eq!(bounds(&limits), values(&limits)[1..]);
        assert!(bounds(&CgroupLimits::default()).is_empty());
    }

    #[test]
    fn limits_that_are_gone_are_lifted() {
        let limits = CgroupLimits {
            cpu_weight: Some(20),
            memory_max: Some(1 << 20),
            ..CgroupLimits::default()
        };
        assert_eq!(
            changed(&limits),
            [
                ("cpu.max", "max 100000".to_owned()),
                ("cpu.weight", "20".to_owned()),
                ("memory.low", "0".to_owned()),
                ("memory.high", "max".to_owned()),
                ("memory.max", "1048576".to_owned()),
                ("pids.max", "max".to_owned()),
            ]
        );
    }

    #[test]
    fn processes_keep_a_limit_that_they_are_over() {
        let base = std::env::temp_dir().join(format!("limits-{}", std::process::id()));
        std::fs::create_dir_all(&base).unwrap();
        let file = |name: &str| base.join(name);
        for (name, text) in [("memory.current", "2000000\n"), ("memory.max", "4000000")] {
            std::fs::write(file(name), text).unwrap();
        }
        let group = Cgroup {
            path: base.to_string_lossy().into_owned(),
        };
        let limits = |memory_max| CgroupLimits {
            memory_max,
            ..CgroupLimits::default()
        };
        let max = || std::fs::read_to_string(file("memory.max")).unwrap();
        assert_eq!(
            group.change(&limits(Some(1_000_000))).unwrap(),
            Some(2_000_000)
        );
        assert_eq!(max(), "4000000");
        assert_eq!(
            std::fs::read_to_string(file("memory.reclaim")).unwrap(),
            "1000000"
        );
        assert_eq!(group.change(&limits(Some(3_000_000))).unwrap(), None);
        assert_eq!(max(), "3000000");
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn processes_of_groups_below_are_found_too() {
        // Any directories will do: only their files are read.
        let base = std::env::temp_dir().join(format!("cgroup-{}", std::process::id()));
        std::fs::create_dir_all(base.join("a/b")).unwrap();
        for (group, pids) in [("", "1\n2\n"), ("a", ""), ("a/b", "7\n8\n9\n")] {
            std::fs::write(base.join(group).join("cgroup.procs"), pids).unwrap();
        }
        let group = Cgroup {
            path: base.to_string_lossy().into_owned(),
        };
        assert_eq!(group.processes(usize::MAX), [1, 2, 7, 8, 9]);
        assert_eq!(group.processes(4), [1, 2, 7, 8]);
        assert_eq!(group.processes(2), [1, 2]);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let text = "oom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(lookup(text, "oom_kill"), Some(2));
        assert_eq!(lookup(text, "oom_"), None);
        assert_eq!(lookup("", "oom"), None);
    }
}
