//! What is kept of a workload.

use super::WorkloadError;
use crate::host::lock::FileLock;
use crate::objects::Applied;
use crate::path_error::PathError;
use crate::pod;
use crate::settings::Settings;
use crate::spec::{self, Workload, WorkloadKind};
use crate::store::{self, StoreError, atomic, private};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::path::PathBuf;

/// A workload that is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    /// The object with its defaults, without what the system adds.
    pub object: Value,
    /// Nobody else's, ever.
    pub uid: String,
    /// When it was made, nanoseconds since 1970.
    pub created: u64,
    /// Counts the changes of its `spec` from 1.
    pub generation: u64,
    /// Counts all of its changes from 1.
    pub revision: u64,
}

impl Kept {
    /// The workload, checked once more.
    pub fn workload(&self, kind: WorkloadKind, name: &str) -> Result<Workload, WorkloadError> {
        let source_name = format!("{kind}/{name}");
        let read = spec::read(&source_name, &self.object.to_string());
        let mut read = read.map_err(|source| WorkloadError::Kept {
            kind,
            name: name.to_owned(),
            source,
        })?;
        read.workloads.pop().ok_or_else(|| WorkloadError::Kept {
            kind,
            name: name.to_owned(),
            source: spec::ManifestError {
                source_name,
                issues: Vec::new(),
            },
        })
    }
}

/// Keeps a workload, durably. Errors when its selector would change.
pub fn apply(settings: &Settings, workload: &Workload) -> Result<(Kept, Applied), WorkloadError> {
    let path = path(settings, &workload.namespace, workload.kind, &workload.name)?;
    let present: Option<Kept> = store::read_json(&path)?;
    let (kept, applied) = match present {
        Some(present) if present.object == workload.object => {
            return Ok((present, Applied::Unchanged));
        }
        Some(present) => {
            let fixed: &[(&str, &'static str)] = match workload.kind {
                WorkloadKind::Job => &[
                    ("template", "spec.template"),
                    ("completions", "spec.completions"),
                    ("completionMode", "spec.completionMode"),
                    ("backoffLimitPerIndex", "spec.backoffLimitPerIndex"),
                    ("podFailurePolicy", "spec.podFailurePolicy"),
                    ("successPolicy", "spec.successPolicy"),
                ],
                _ => &[("selector", "spec.selector")],
            };
            for (key, field) in fixed {
                if present.object["spec"][key] != workload.object["spec"][key] {
                    return Err(WorkloadError::Immutable {
                        kind: workload.kind,
                        name: workload.name.clone(),
                        field,
                    });
                }
            }
            let is_news = present.object["spec"] != workload.object["spec"];
            let kept = Kept {
                object: workload.object.clone(),
                generation: present.generation + u64::from(is_news),
                revision: present.revision + 1,
                ..present
            };
            (kept, Applied::Configured)
        }
        None => {
            let kept = Kept {
                object: workload.object.clone(),
                uid: beluga_proto::PodUid::from_random(pod::random_bytes()).to_string(),
                created: pod::now().unix,
                generation: 1,
                revision: 1,
            };
            (kept, Applied::Created)
        }
    };
    let bytes = store::to_json(&path, &kept)?;
    atomic::replace_durably(&path, &bytes)
        .map_err(PathError::on("write", &path))
        .map_err(StoreError::from)?;
    Ok((kept, applied))
}

/// Held while a workload's pods are changed, so that two commands do not make
/// them twice.
pub fn lock(
    settings: &Settings,
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
) -> Result<FileLock, StoreError> {
    let path = path(settings, namespace, kind, name)?.with_extension("lock");
    if let Some(directory) = path.parent() {
        private::make(directory)?;
    }
    loop {
        let lock = FileLock::wait(&path).map_err(PathError::on("lock", &path))?;
        // Whoever held it before may have deleted the workload, and it with it.
        let held = rustix::fs::fstat(lock.file()).map(|stat| (stat.st_dev, stat.st_ino));
        let named = rustix::fs::stat(&path).map(|stat| (stat.st_dev, stat.st_ino));
        if held.is_ok() && held == named {
            return Ok(lock);
        }
    }
}

/// The workload of that name; `None` when there is none.
pub fn read(
    settings: &Settings,
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
) -> Result<Option<Kept>, StoreError> {
    store::read_json(&path(settings, namespace, kind, name)?)
}

/// All workloads of a kind, by namespace and name.
pub fn list(
    settings: &Settings,
    kind: WorkloadKind,
) -> Result<Vec<(String, String, Kept)>, StoreError> {
    let root = settings.root.join("workloads");
    let mut found = Vec::new();
    for namespace in entries(&root)? {
        let directory = root.join(&namespace).join(kind.kind());
        for file in entries(&directory)? {
            let Some(name) = file.strip_suffix(".json") else {
                continue;
            };
            let kept: Option<Kept> = store::read_json(&directory.join(&file))?;
            found.extend(kept.map(|kept| (namespace.clone(), name.to_owned(), kept)));
        }
    }
    found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    Ok(found)
}

/// Forgets a workload; whether there was one.
pub fn delete(
    settings: &Settings,
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
) -> Result<bool, StoreError> {
    let path = path(settings, namespace, kind, name)?;
    match std::fs::remove_file(&path) {
        Ok(()) => {
            PathError::remove_file(&path.with_extension("lock"))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(PathError::on("remove", &path)(error).into()),
    }
}

pub(super) fn path(
    settings: &Settings,
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
) -> Result<PathBuf, StoreError> {
    store::plain_name(namespace)?;
    store::plain_name(name)?;
    // A name may have dots, which are no extension.
    let directory = settings.root.join("workloads").join(namespace);
    Ok(directory.join(kind.kind()).join(format!("{name}.json")))
}

fn entries(path: &std::path::Path) -> Result<Vec<String>, StoreError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(PathError::on("list", path)(source).into()),
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.into_string().ok()).collect())
}
