//! Pod records: what a supervisor, its successor and every command agree on.
//!
//! ```text
//! <root>/pods/<uid>/definition.json  manifest, spec and plan; written before anything is made, and by
//!                                    the pod's owner when the running pod is changed
//! <root>/pods/<uid>/record.json      life, VM, token, status; replaced whole at each change
//! <state>/pods/<uid>/record.json     a newer one while the root is full
//! <root>/pods/<uid>/owner.lock       held by the pod's supervisor: whoever gets it owns the pod
//! <root>/pods/<uid>/exit.json        the VMM's own exit record
//! <root>/names/<namespace>/<name>    the UID that has this name
//! ```
//! The plan names every host object, so it is the journal of intents too:
//! undoing a half-made pod is undoing its plan.

mod aside;
pub mod atomic;
pub mod change;
pub mod files;
pub mod private;
pub mod room;
pub mod status;
mod tree;

use crate::host::lock::FileLock;
use crate::path_error::PathError;
use crate::plan::Plan;
use crate::pod::PodState;
use crate::settings::Settings;
use crate::spec::PodSpec;
use beluga_proto::{Nonce, PodUid};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use status::PodStatus;
use std::io;
use std::path::{Path, PathBuf};

/// What a pod's directory is renamed to before it is removed.
const REMOVED: &str = ".removed-";

/// Version of the records; another one is refused.
const RECORD_VERSION: u32 = 1;

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory of the store.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A record is not what this version writes.
    #[error("the record {path} cannot be understood", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A record of another version of Beluga.
    #[error("the record {path} is of version {version}; this Beluga knows {RECORD_VERSION}", path = .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The name is in use.
    #[error("the pod {namespace}/{name} exists already: delete it first, or use another name")]
    NameTaken {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// Pods would be promised more than the host has.
    #[error(
        "the pod's volumes and writable layers may hold {}, those of other pods {}, and {} has room for {}",
        room::mebibytes(*asked), room::mebibytes(*promised), root.display(), room::mebibytes(*there)
    )]
    NoRoom {
        /// Bytes that the pod asks for.
        asked: u64,
        /// Bytes that others have asked for.
        promised: u64,
        /// Bytes that there are for all.
        there: u64,
        /// Where.
        root: PathBuf,
    },
    /// The name cannot be a file's.
    #[error("{name:?} cannot be the name of an object or namespace")]
    BadName {
        /// What was given.
        name: String,
    },
}

impl StoreError {
    /// What one pod has on record cannot be understood. It is no other pod's business.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Malformed { .. } | Self::Version { .. })
    }

    /// Another version of Beluga understands it.
    #[must_use]
    pub fn is_of_another_version(&self) -> bool {
        matches!(self, Self::Version { .. })
    }
}

/// What a pod is to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Definition {
    /// Counts the changes of the running pod.
    #[serde(default)]
    pub generation: u64,
    /// The manifest as the API type has it, defaults filled in.
    pub manifest: serde_json::Value,
    /// The same, checked.
    pub spec: PodSpec,
    /// What was decided from it.
    pub plan: Plan,
}

/// Where a pod is in the life of its host objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// Host objects are being made, the VM boots. Without an owner: undone.
    Starting,
    /// The agent is ready. Without an owner: adopted.
    Running,
    /// The VM has ended; what is left is released.
    Ending,
    /// Nothing is left but records and logs.
    Ended,
}

/// A process, told from a later one of the same number by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Its PID.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub start_ticks: u64,
}

/// The server of a directory or file of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRef {
    /// The volume that it serves.
    pub volume: String,
    /// What it serves.
    pub path: PathBuf,
    /// The process.
    pub process: ProcessRef,
}

/// A change that has begun and that no container shows yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingChange {
    /// Which.
    pub generation: u64,
    /// Places of the containers that are replaced.
    pub replaced: Vec<usize>,
    /// Seconds that its containers may take until they are ready.
    pub patience_seconds: u32,
}

/// What changes about a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// Whose.
    pub uid: PodUid,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Boot of the host in which its objects were made.
    pub boot_id: String,
    /// Where its host objects are.
    pub life: Life,
    /// The VMM.
    pub vmm: Option<ProcessRef>,
    /// The servers of directories and files of the host that run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<ShareRef>,
    /// With which the agent proves itself.
    pub token: Option<Nonce>,
    /// The agent's events up to this one are in here.
    pub acked: u64,
    /// Remove the record when the pod has ended.
    pub delete: bool,
    /// A change whose definition is in place and whose layers are on their way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<PendingChange>,
    /// The pod's state machine, its public status in it.
    pub state: PodState,
}

impl Record {
    /// A record of a pod that is about to be started.
    #[must_use]
    pub fn new(definition: &Definition, boot_id: &str, state: PodState) -> Self {
        let identity = &definition.plan.identity;
        Self {
            version: RECORD_VERSION,
            uid: identity.uid.clone(),
            name: identity.name.clone(),
            namespace: identity.namespace.clone(),
            boot_id: boot_id.to_owned(),
            life: Life::Starting,
            vmm: None,
            shares: Vec::new(),
            token: None,
            acked: 0,
            delete: false,
            change: None,
            state,
        }
    }

    /// The pod as people see it.
    #[must_use]
    pub fn status(&self) -> &PodStatus {
        &self.state.status
    }
}

/// Reads a pod's record; `None` when there is none.
pub fn read_record(settings: &Settings, uid: &PodUid) -> Result<Option<Record>, StoreError> {
    let path = settings.pod_dir(uid).join("record.json");
    let record: Option<Record> = read_json(&path)?;
    match record.map(|record| aside::read(settings, uid).unwrap_or(record)) {
        Some(Record { version, .. }) if version != RECORD_VERSION => {
            Err(StoreError::Version { path, version })
        }
        other => Ok(other),
    }
}

/// Reads what a pod is to be; `None` when it is not there.
pub fn read_definition(
    settings: &Settings,
    uid: &PodUid,
) -> Result<Option<Definition>, StoreError> {
    read_json(&settings.pod_dir(uid).join("definition.json"))
}

/// A pod's plan alone: a supervisor has no use for the manifest, and its
/// memory counts.
#[derive(Debug, Deserialize)]
pub struct Planned {
    /// Counts the changes of the running pod.
    #[serde(default)]
    pub generation: u64,
    /// What was decided.
    pub plan: Plan,
}

/// Reads a pod's plan; `None` when it is not there.
pub fn read_plan(settings: &Settings, uid: &PodUid) -> Result<Option<Planned>, StoreError> {
    read_json(&settings.pod_dir(uid).join("definition.json"))
}

/// Replaces a pod's record. Only its owner may. Where the root has no room for
/// it, it is an error, and the record is read from the state directory.
pub fn write_record(settings: &Settings, record: &Record) -> Result<(), StoreError> {
    let path = settings.pod_dir(&record.uid).join("record.json");
    let bytes = to_json(&path, record)?;
    // The first and the last state must survive a crash of the machine; what
    // lies between them ends with the boot anyway.
    let durable = record.life == Life::Ended;
    let write = if durable {
        atomic::replace_durably
    } else {
        atomic::replace
    };
    let written = write(&path, &bytes);
    aside::settle(settings, &record.uid, &written, &bytes);
    Ok(written.map_err(PathError::on("write", &path))?)
}

/// Makes a pod's directory with its first record, under the pod's lock, which
/// is given back held. Errors when the name is taken.
pub fn create(
    settings: &Settings,
    definition: &Definition,
    record: &Record,
) -> Result<FileLock, StoreError> {
    let directory = settings.pod_dir(&record.uid);
    private::make(&directory)?;
    restrict(&directory)?;
    let lock_path = directory.join("owner.lock");
    let lock = FileLock::wait(&lock_path).map_err(PathError::on("lock", &lock_path))?;
    let path = directory.join("definition.json");
    let bytes = to_json(&path, definition)?;
    atomic::replace(&path, &bytes).map_err(PathError::on("write", &path))?;
    if let Err(error) = begin_record(settings, record) {
        let _ = remove(settings, record);
        return Err(error);
    }
    Ok(lock)
}

/// Removes a pod's record, logs and name. Only its owner may.
pub fn remove(settings: &Settings, record: &Record) -> Result<(), StoreError> {
    let _names = names_lock(settings)?;
    let name = name_path(settings, &record.namespace, &record.name)?;
    if std::fs::read_to_string(&name).is_ok_and(|owner| owner == record.uid.as_str()) {
        std::fs::remove_file(&name).map_err(PathError::on("remove", &name))?;
    }
    remove_pod_directory(settings, &record.uid)
}

/// Removes a pod's directory so that it is there whole or not at all: whoever
/// is killed in the middle leaves what [`uids`] clears away.
pub fn remove_pod_directory(settings: &Settings, uid: &PodUid) -> Result<(), StoreError> {
    let path = settings.pod_dir(uid);
    let removed = settings.pods().join(format!("{REMOVED}{uid}"));
    match std::fs::rename(&path, &removed) {
        Ok(()) => remove_directory(&removed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(PathError::on("remove", &path)(source).into()),
    }
}

/// Removes a directory with all that is in it, however deep that is. One that is not
/// there is no error.
pub fn remove_directory(path: &Path) -> Result<(), StoreError> {
    match tree::remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PathError::on("remove", path)(error).into())
        }
        _ => Ok(()),
    }
}

/// The pod's lock, or `None` when its supervisor lives (or it is gone).
pub fn try_own(settings: &Settings, uid: &PodUid) -> Result<Option<FileLock>, StoreError> {
    let path = settings.pod_dir(uid).join("owner.lock");
    let lock = match FileLock::try_take(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PathError::on("lock", &path)(error).into()),
    };
    // The former owner may have removed the pod between our look and our lock.
    let is_there = settings.pod_dir(uid).join("record.json").exists();
    Ok(lock.filter(|_| is_there))
}

/// UIDs of all directories in the store, whether they hold a record or not.
pub fn uids(settings: &Settings) -> Result<Vec<PodUid>, StoreError> {
    let path = settings.pods();
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(PathError::on("list", &path)(source).into()),
    };
    let mut uids = Vec::new();
    for name in entries.flatten().map(|entry| entry.file_name()) {
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(REMOVED) {
            remove_directory(&path.join(name))?;
        } else if let Ok(uid) = PodUid::parse(name) {
            uids.push(uid);
        }
    }
    Ok(uids)
}

/// The pod of that name.
pub fn by_name(
    settings: &Settings,
    namespace: &str,
    name: &str,
) -> Result<Option<PodUid>, StoreError> {
    let path = name_path(settings, namespace, name)?;
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(PodUid::parse(text)
            .ok()
            .filter(|uid| settings.pod_dir(uid).join("record.json").exists())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PathError::on("read", &path)(source).into()),
    }
}

/// The namespace and name that lead to a pod, read without its record.
pub fn name_of(settings: &Settings, uid: &PodUid) -> Option<(String, String)> {
    let word = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let namespaces = entries(&settings.root.join("names"));
    let mut names = namespaces.flat_map(|one| entries(&one.path()));
    let is_its = |path: &Path| std::fs::read_to_string(path).is_ok_and(|own| own == uid.as_str());
    let path = names.find(|one| is_its(&one.path()))?.path();
    Some((word(path.parent()?)?, word(&path)?))
}

/// Takes the name, then writes the first record, both while nobody else takes one:
/// whoever is killed in between leaves a name that is free, and never a record
/// that no name leads to.
fn begin_record(settings: &Settings, record: &Record) -> Result<(), StoreError> {
    let _names = names_lock(settings)?;
    take_name(settings, record)?;
    write_record(settings, record)
}

fn take_name(settings: &Settings, record: &Record) -> Result<(), StoreError> {
    if by_name(settings, &record.namespace, &record.name)?.is_some() {
        return Err(StoreError::NameTaken {
            namespace: record.namespace.clone(),
            name: record.name.clone(),
        });
    }
    let path = name_path(settings, &record.namespace, &record.name)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    private::make(directory)?;
    // A dot cannot be in a name's last place, so this is nobody's name file.
    let temporary = directory.join(".new");
    let uid = record.uid.as_str().as_bytes();
    Ok(atomic::replace_by_way_of(&temporary, &path, uid).map_err(PathError::on("write", &path))?)
}

fn names_lock(settings: &Settings) -> Result<FileLock, StoreError> {
    let directory = settings.root.join("names");
    private::make(&directory)?;
    // One that an earlier version has made lets others look for names and images.
    restrict(&settings.root)?;
    let path = directory.join(".lock");
    Ok(FileLock::wait(&path).map_err(PathError::on("lock", &path))?)
}

fn name_path(settings: &Settings, namespace: &str, name: &str) -> Result<PathBuf, StoreError> {
    plain_name(namespace)?;
    plain_name(name)?;
    Ok(settings.root.join("names").join(namespace).join(name))
}

/// Errors when a name could be a path.
pub(crate) fn plain_name(name: &str) -> Result<(), StoreError> {
    let is_plain = !name.is_empty()
        && name.len() <= 253
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    if is_plain {
        Ok(())
    } else {
        Err(StoreError::BadName {
            name: name.chars().take(80).collect(),
        })
    }
}

/// Records hold the agent's token, logs what containers say: root's business.
pub(crate) fn restrict(directory: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
            .map_err(PathError::on("set permissions of", directory))?,
    )
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(PathError::on("read", path)(source).into()),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| StoreError::Malformed {
            path: path.to_owned(),
            source,
        })
}

pub(crate) fn to_json<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|source| StoreError::Malformed {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn settings() -> Settings {
        let mut random = [0u8; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        let root =
            std::env::temp_dir().join(format!("beluga-store-{}", u64::from_le_bytes(random)));
        Settings::new(Some(root.clone()), Some(root.join("state"))).unwrap()
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        let settings = settings();
        for bad in ["", ".", "..", "a/b", ".lock", "A", "a\0"] {
            assert!(name_path(&settings, "default", bad).is_err(), "{bad:?}");
            assert!(name_path(&settings, bad, "a").is_err(), "{bad:?}");
        }
        assert!(name_path(&settings, "default", "web-0.a").is_ok());
    }

    #[test]
    fn an_empty_store_is_no_error() {
        let settings = settings();
        let uid = PodUid::from_random([1; 16]);
        assert!(uids(&settings).unwrap().is_empty());
        assert!(read_record(&settings, &uid).unwrap().is_none());
        assert!(by_name(&settings, "default", "web").unwrap().is_none());
        assert!(try_own(&settings, &uid).unwrap().is_none());
    }

    #[test]
    fn a_torn_record_is_an_error_not_a_panic() {
        let settings = settings();
        let uid = PodUid::from_random([2; 16]);
        let directory = settings.pod_dir(&uid);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("record.json"), b"{\"version\":1,").unwrap();
        assert!(matches!(
            read_record(&settings, &uid),
            Err(StoreError::Malformed { .. })
        ));
        std::fs::remove_dir_all(&settings.root).unwrap();
    }
}
