//! Finds what no record accounts for, and removes it.

use super::EngineError;
use crate::host::{self, HostError, cgroup, network, process, resolver, rules};
use crate::settings::Settings;
use crate::store::{self, Life};
use beluga_proto::PodUid;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is left over, one line each; removed unless `check`.
/// Errors when the host cannot be looked at.
pub async fn gc(settings: &Settings, check: bool) -> Result<Vec<String>, EngineError> {
    // Half-made pods are finished or undone by adopting them.
    if !check {
        for uid in store::uids(settings)? {
            super::owner::adopt(settings, &uid).await?;
        }
    }
    let known = Known::read(settings)?;
    let mut found = Vec::new();
    processes(&known, check, &mut found);
    directories(settings, &known, check, &mut found)?;
    network_objects(settings, &known, check, &mut found)?;
    cgroups(settings, &known, check, &mut found);
    names(settings, &known, check, &mut found);
    Ok(found)
}

/// Pods on record, and those of them whose VM may run.
struct Known {
    all: BTreeSet<PodUid>,
    live: BTreeSet<PodUid>,
    /// Directories without a readable record.
    broken: Vec<PodUid>,
}

impl Known {
    fn read(settings: &Settings) -> Result<Self, EngineError> {
        let mut known = Self {
            all: BTreeSet::new(),
            live: BTreeSet::new(),
            broken: Vec::new(),
        };
        let boot_id = host::boot_id();
        for uid in store::uids(settings)? {
            match store::read_record(settings, &uid) {
                Ok(Some(record)) => {
                    if record.life != Life::Ended && record.boot_id == boot_id {
                        known.live.insert(uid.clone());
                    }
                    known.all.insert(uid);
                }
                Ok(None) | Err(_) => known.broken.push(uid),
            }
        }
        Ok(known)
    }
}

fn processes(known: &Known, check: bool, found: &mut Vec<String>) {
    for (uid, machine) in process::machines() {
        // Another root's pods are another root's business.
        let is_ours = known.all.contains(&uid) || known.broken.contains(&uid);
        if known.live.contains(&uid) || !is_ours {
            continue;
        }
        found.push(format!(
            "process {} of the pod {uid}, which has ended",
            machine.pid
        ));
        if !check && let Some(pidfd) = process::open(machine) {
            let _ = process::kill(&pidfd);
            let _ = process::wait_end(&pidfd, 3000);
        }
    }
}

fn directories(
    settings: &Settings,
    known: &Known,
    check: bool,
    found: &mut Vec<String>,
) -> Result<(), EngineError> {
    for uid in &known.broken {
        // Its maker may hold it and be about to write the record.
        let path = settings.pod_dir(uid);
        let lock_path = path.join("owner.lock");
        let lock = host::lock::FileLock::try_take(&lock_path);
        if matches!(lock, Ok(None)) {
            continue;
        }
        found.push(format!("directory {} without a record", path.display()));
        if !check {
            store::remove_pod_directory(settings, uid)?;
        }
    }
    for path in entries(&settings.state.join("pods")) {
        if uid_of(&path).is_none_or(|uid| !known.live.contains(&uid)) {
            found.push(format!("directory {}", path.display()));
            if !check {
                store::remove_directory(&path)?;
            }
        }
    }
    for uid in known.all.difference(&known.live) {
        let scratch = settings.pod_dir(uid).join("scratch.img");
        if scratch.exists() {
            found.push(format!("disk {}", scratch.display()));
            if !check {
                let _ = std::fs::remove_file(&scratch);
            }
        }
    }
    Ok(())
}

fn network_objects(
    settings: &Settings,
    known: &Known,
    check: bool,
    found: &mut Vec<String>,
) -> Result<(), EngineError> {
    let boot_id = host::boot_id();
    let holders = network::holders(settings, &boot_id).map_err(HostError::from)?;
    let is_empty = known.live.is_empty();
    for uid in holders.iter().filter(|uid| !known.live.contains(uid)) {
        found.push(format!("address of the pod {uid}"));
        if !check {
            network::release(settings, uid, &boot_id).map_err(HostError::from)?;
        }
    }
    let mut wanted = BTreeSet::new();
    for uid in &known.live {
        if let Some(definition) = store::read_definition(settings, uid)? {
            for step in definition.plan.host {
                match step {
                    crate::plan::HostStep::Bridge { name, .. }
                    | crate::plan::HostStep::Tap { name, .. }
                    | crate::plan::HostStep::Publish { table: name, .. } => {
                        wanted.insert(name);
                    }
                    _ => {}
                }
            }
        }
    }
    for (family, name) in network::tables(settings) {
        if is_empty || !wanted.contains(&name) {
            found.push(format!("table {name} of the packet filter"));
            if !check {
                rules::remove(family, &name).map_err(HostError::from)?;
            }
        }
    }
    if wanted.is_empty()
        && let Some(process) = resolver::running(settings)
    {
        found.push(format!("process {} that resolves pods' names", process.pid));
        if !check {
            resolver::end(settings);
        }
    }
    // Without netlink there are no interfaces of ours either.
    let interfaces = network::interfaces(settings).unwrap_or_default();
    for name in interfaces
        .into_iter()
        .filter(|name| is_empty || !wanted.contains(name))
    {
        found.push(format!("interface {name}"));
        if !check {
            network::remove_interface(&name).map_err(HostError::from)?;
        }
    }
    Ok(())
}

fn cgroups(settings: &Settings, known: &Known, check: bool, found: &mut Vec<String>) {
    let parent = settings.cgroup();
    for name in cgroup::children(&parent) {
        let is_live = PodUid::parse(name.as_str()).is_ok_and(|uid| known.live.contains(&uid))
            || (name == resolver::CGROUP && resolver::running(settings).is_some());
        if !is_live {
            let path = parent.join(&name);
            found.push(format!("cgroup {}", cgroup::absolute(&path).display()));
            if !check {
                let _ = cgroup::remove(&path);
            }
        }
    }
}

fn names(settings: &Settings, known: &Known, check: bool, found: &mut Vec<String>) {
    for namespace in entries(&settings.root.join("names")) {
        for path in entries(&namespace) {
            let owner = std::fs::read_to_string(&path).unwrap_or_default();
            let is_known = PodUid::parse(owner).is_ok_and(|uid| known.all.contains(&uid));
            if !is_known {
                found.push(format!("name {}", path.display()));
                if !check {
                    let _ = std::fs::remove_file(&path);
                }
            }
        }
    }
}

fn entries(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            !path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        })
        .collect()
}

fn uid_of(path: &Path) -> Option<PodUid> {
    PodUid::parse(path.file_name()?.to_str()?).ok()
}
