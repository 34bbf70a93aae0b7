//! The pod's cgroup on the host: VMM and supervisor run in it.

use crate::path_error::PathError;
use crate::plan::CgroupPlan;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where cgroup v2 is mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// How the cgroups of all pods of a root begin.
const OURS: &[u8] = b"beluga-";

/// Controllers that the limits need.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// How long processes that have been told to end, or were killed, may take: the memory of a large
/// machine is given back page by page.
const LEAVING: Duration = Duration::from_secs(2);

/// How long those may take that are killed here.
const DYING: Duration = Duration::from_secs(3);

/// How often a cgroup is tried whose processes are waited for.
const LOOK: Duration = Duration::from_millis(200);

/// How often one is tried that is empty.
const STEP: Duration = Duration::from_millis(5);

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
/// One that is not there is no error. Blocks while its processes end: one that has been told to,
/// or was killed, gives back its memory first. Who has not ended by then is killed.
pub fn remove(path: &Path) -> Result<(), CgroupError> {
    let path = absolute(path);
    remove_when_empty(&path, [LEAVING, DYING]).map_err(PathError::on("remove", &path))?;
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

/// So long each: processes end by themselves, then they are killed.
fn remove_when_empty(path: &Path, patience: [Duration; 2]) -> io::Result<()> {
    let mut all = patience.into_iter();
    let mut until = all.next().map(|time| Instant::now() + time);
    loop {
        match std::fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let Some(end) = until else {
                    return Err(error);
                };
                let left = end.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    wait_for_change(path, left.min(LOOK));
                    continue;
                }
                until = all.next().map(|time| Instant::now() + time);
                if until.is_some() {
                    kill(path);
                }
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(()),
        }
    }
}

/// Kills all that is in the cgroup, unless that is us: who could not leave it has work to do yet.
fn kill(path: &Path) {
    let list = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let own = std::process::id().to_string();
    if list.lines().all(|pid| pid != own) {
        // Missing before Linux 5.14: then it stays, and the error says so.
        let _ = std::fs::write(path.join("cgroup.kill"), "1");
    }
}

/// Waits until the kernel says that the cgroup's last process has gone, no longer than `most`.
fn wait_for_change(path: &Path, most: Duration) {
    let watched = std::fs::File::open(path.join("cgroup.events")).and_then(|mut events| {
        // A change is one since the file was read.
        let mut text = String::new();
        events.read_to_string(&mut text)?;
        if text.lines().any(|line| line == "populated 0") {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let timeout = Timespec::try_from(most).map_err(io::Error::other)?;
        let mut changed = [PollFd::new(&events, PollFlags::PRI)];
        Ok(rustix::event::poll(&mut changed, Some(&timeout))?)
    });
    if watched.is_err() {
        // Empty, and not given up yet by the kernel; or nothing to watch.
        std::thread::sleep(STEP.min(most));
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// `None` where none of version 2 can be made: in a container, for one.
    fn made(name: &str) -> Option<PathBuf> {
        let name = format!("beluga-test-{name}-{}", std::process::id());
        // Beside version 1 it has a place of its own.
        let mounts = [
            Path::new(MOUNT).to_owned(),
            Path::new(MOUNT).join("unified"),
        ];
        mounts.into_iter().find_map(|mount| {
            let path = mount.join(&name);
            std::fs::create_dir(&path).ok()?;
            if path.join("cgroup.kill").exists() {
                return Some(path);
            }
            std::fs::remove_dir(path).unwrap();
            None
        })
    }

    #[test]
    fn a_cgroup_goes_with_the_last_of_its_processes_which_is_killed_in_the_end() {
        let Some(path) = made("left") else {
            println!("no cgroup of version 2 can be made here");
            return;
        };
        let mut sleeps: Vec<_> = ["0.2", "600"]
            .map(|time| {
                let mut sleep = Command::new("sleep");
                sleep.arg(time).stdout(Stdio::null()).stderr(Stdio::null());
                sleep.spawn().unwrap()
            })
            .into();
        for sleep in &sleeps {
            std::fs::write(path.join("cgroup.procs"), sleep.id().to_string()).unwrap();
        }
        let short = Duration::from_millis(300);
        remove_when_empty(&path, [short, DYING]).unwrap();
        assert!(!path.exists());
        for sleep in &mut sleeps {
            sleep.wait().unwrap();
        }
        // What is not there is gone.
        remove_when_empty(&path, [short, short]).unwrap();
    }
}
