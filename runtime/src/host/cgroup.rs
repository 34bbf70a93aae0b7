//! The pod's cgroup on the host: VMM and supervisor run in it.

use crate::path_error::PathError;
use crate::plan::CgroupPlan;
use std::io;
use std::path::{Path, PathBuf};

/// Where cgroup v2 is mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// How the cgroups of all pods of a root begin.
const OURS: &[u8] = b"beluga-";

/// Controllers that the limits need.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Why a cgroup cannot be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file of it.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is no cgroup v2 here.
    #[error("cgroup v2 is not mounted at {MOUNT}")]
    NotMounted,
}

/// Absolute path of a cgroup.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    Path::new(MOUNT).join(path.strip_prefix("/").unwrap_or(path))
}

/// Makes the cgroup and sets its limits. Errors where cgroup v2 is missing or
/// not writable; limits whose controller is not to be had are in the result,
/// by name.
pub fn create(plan: &CgroupPlan) -> Result<Vec<&'static str>, CgroupError> {
    if !Path::new(MOUNT).join("cgroup.controllers").exists() {
        return Err(CgroupError::NotMounted);
    }
    let path = absolute(&plan.path);
    std::fs::create_dir_all(&path).map_err(PathError::on("make", &path))?;
    delegate(&path);
    let mut missing = Vec::new();
    let mut set = |file: &'static str, value: Option<String>| {
        if let Some(value) = value
            && std::fs::write(path.join(file), value).is_err()
        {
            missing.push(file);
        }
    };
    set("memory.max", plan.memory_max.map(|bytes| bytes.to_string()));
    set(
        "cpu.max",
        plan.cpu_quota_micros.map(|quota| format!("{quota} 100000")),
    );
    set(
        "cpu.weight",
        plan.cpu_weight.map(|weight| weight.to_string()),
    );
    set("pids.max", plan.pids_max.map(|most| most.to_string()));
    Ok(missing)
}

/// Enables the controllers on the way down. Where a parent holds processes of
/// its own the kernel refuses; the limit files are then missing, which
/// [`create`] reports.
fn delegate(path: &Path) {
    let mut parents: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|parent| parent.starts_with(MOUNT))
        .collect();
    parents.reverse();
    for parent in parents {
        let file = parent.join("cgroup.subtree_control");
        let enabled = std::fs::read_to_string(&file).unwrap_or_default();
        for controller in CONTROLLERS {
            if !enabled.split_whitespace().any(|name| name == controller) {
                let _ = std::fs::write(&file, format!("+{controller}"));
            }
        }
    }
}

/// Moves this process into the cgroup; children follow.
pub fn enter(path: &Path) -> Result<(), CgroupError> {
    let file = absolute(path).join("cgroup.procs");
    Ok(std::fs::write(&file, "0").map_err(PathError::on("write", &file))?)
}

/// Moves this process back to the top, so that the pod's cgroup can go.
pub fn leave() -> Result<(), CgroupError> {
    let file = Path::new(MOUNT).join("cgroup.procs");
    Ok(std::fs::write(&file, "0").map_err(PathError::on("write", &file))?)
}

/// How often the kernel's out-of-memory killer struck in the cgroup.
#[must_use]
pub fn oom_kills(path: &Path) -> u64 {
    let events = std::fs::read_to_string(absolute(path).join("memory.events"));
    events
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
        .unwrap_or(0)
}

/// Processes in the cgroup.
#[must_use]
pub fn processes(path: &Path) -> Vec<u32> {
    let list = std::fs::read_to_string(absolute(path).join("cgroup.procs"));
    list.unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect()
}

/// Removes the cgroup, and its parent when that is empty and ours.
/// One that is not there is no error.
pub fn remove(path: &Path) -> Result<(), CgroupError> {
    let path = absolute(path);
    match std::fs::remove_dir(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(PathError::on("remove", &path)(error).into());
        }
        _ => {}
    }
    if let Some(parent) = path.parent()
        && parent.parent() == Some(Path::new(MOUNT))
        && parent
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(OURS))
    {
        // Fails while another pod is in it, which is as it should be.
        let _ = std::fs::remove_dir(parent);
    }
    Ok(())
}

/// Names of the cgroups directly below one.
#[must_use]
pub fn children(path: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(absolute(path)) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
