//! ConfigMaps, Secrets and claims: kept by namespace and name, whatever pods there are.
//!
//! ```text
//! <root>/objects/<namespace>/<configmap|secret>/<name>.json   replaced whole
//! <root>/objects/<namespace>/persistentvolumeclaim/<name>.img the claim's disk,
//!                                                 or <name>.dir its directory
//! <root>/objects/.lock                                        held by whoever writes
//! ```

mod volume;

pub use volume::{Remains, claim_of, leftovers, remove_leftover};

use crate::host::lock::FileLock;
use crate::host::scratch::ScratchError;
use crate::path_error::PathError;
use crate::plan::Objects;
use crate::settings::Settings;
use crate::spec::{ConfigObject, ObjectKind, PodSpec};
use crate::store::{self, StoreError, atomic};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// Why an object cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Its file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was declared to stay as it is.
    #[error(
        "{kind} {name:?} is immutable: {field} cannot change; delete it and make it anew, or use another name"
    )]
    Immutable {
        /// What it is.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// `data`, `immutable`.
        field: &'static str,
    },
    /// The disk of a claim.
    #[error(transparent)]
    Disk(#[from] ScratchError),
    /// A claim stays what it was made as, and as large.
    #[error(
        "persistentvolumeclaim {name:?} is there with another size, access mode or storage class, which cannot change yet; delete it with its data, or use another name"
    )]
    Claim {
        /// Its name.
        name: String,
    },
    /// A secret has one type for life.
    #[error("secret {name:?} is of type {present}; its type cannot be changed to {wanted}")]
    Type {
        /// Its name.
        name: String,
        /// As it is.
        present: String,
        /// As it shall be.
        wanted: String,
    },
}

/// An object that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// As it was applied last.
    pub object: ConfigObject,
    /// Nobody else's, ever.
    pub uid: String,
    /// When it was made, nanoseconds since 1970.
    pub created: u64,
    /// Counts its changes from 1.
    pub revision: u64,
}

/// What came of an `apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// There was none.
    Created,
    /// There was another one.
    Configured,
    /// It was there already.
    Unchanged,
}

impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        })
    }
}

/// Errors when an object may not take the place of the one that is kept.
pub fn admit(settings: &Settings, object: &ConfigObject) -> Result<(), ObjectError> {
    match read(settings, &object.namespace, object.kind, &object.name)? {
        Some(present) => may_follow(&present.object, object),
        None => Ok(()),
    }
}

fn may_follow(present: &ConfigObject, next: &ConfigObject) -> Result<(), ObjectError> {
    let immutable = |field| ObjectError::Immutable {
        kind: next.kind,
        name: next.name.clone(),
        field,
    };
    if present.immutable && !next.immutable {
        return Err(immutable("immutable"));
    }
    if present.immutable && (&present.text, &present.binary) != (&next.text, &next.binary) {
        return Err(immutable("data"));
    }
    if present.claim != next.claim {
        return Err(ObjectError::Claim {
            name: next.name.clone(),
        });
    }
    if present.secret_type != next.secret_type {
        return Err(ObjectError::Type {
            name: next.name.clone(),
            present: present.secret_type.clone().unwrap_or_default(),
            wanted: next.secret_type.clone().unwrap_or_default(),
        });
    }
    Ok(())
}

/// Keeps an object, durably.
pub fn apply(settings: &Settings, object: &ConfigObject) -> Result<Applied, ObjectError> {
    let path = path(settings, &object.namespace, object.kind, &object.name)?;
    let _lock = lock(settings)?;
    let present: Option<Kept> = store::read_json(&path)?;
    let (kept, applied) = match present {
        Some(present) if present.object == *object => return Ok(Applied::Unchanged),
        Some(present) => {
            may_follow(&present.object, object)?;
            let kept = Kept {
                object: object.clone(),
                revision: present.revision + 1,
                ..present
            };
            (kept, Applied::Configured)
        }
        None => {
            let kept = Kept {
                object: object.clone(),
                uid: beluga_proto::PodUid::from_random(crate::pod::random_bytes()).to_string(),
                created: crate::pod::now().unix,
                revision: 1,
            };
            (kept, Applied::Created)
        }
    };
    if let Some(directory) = path.parent() {
        store::private::make(directory).map_err(StoreError::from)?;
    }
    if let (Some(claim), Applied::Created) = (&object.claim, applied) {
        volume::make(&path, claim)?;
    }
    let bytes = store::to_json(&path, &kept)?;
    atomic::replace_durably(&path, &bytes)
        .map_err(PathError::on("write", &path))
        .map_err(StoreError::from)?;
    Ok(applied)
}

/// The object of that name; `None` when there is none.
pub fn read(
    settings: &Settings,
    namespace: &str,
    kind: ObjectKind,
    name: &str,
) -> Result<Option<Kept>, StoreError> {
    store::read_json(&path(settings, namespace, kind, name)?)
}

/// All objects of a kind, by namespace and name.
pub fn list(settings: &Settings, kind: ObjectKind) -> Result<Vec<Kept>, StoreError> {
    let root = root(settings);
    let mut found = Vec::new();
    for namespace in entries(&root)? {
        let directory = root.join(namespace).join(kind.word());
        for file in entries(&directory)? {
            // One that is being written, or has just been deleted, is none.
            if file.ends_with(".json") {
                found.extend(store::read_json::<Kept>(&directory.join(file))?);
            }
        }
    }
    let key = |kept: &Kept| (kept.object.namespace.clone(), kept.object.name.clone());
    found.sort_by_key(key);
    Ok(found)
}

/// Deletes an object; `None` when there was none. What remains of it is to be removed
/// when nobody waits for that.
pub fn delete(
    settings: &Settings,
    namespace: &str,
    kind: ObjectKind,
    name: &str,
) -> Result<Option<Remains>, StoreError> {
    let path = path(settings, namespace, kind, name)?;
    let _lock = lock(settings)?;
    match std::fs::remove_file(&path) {
        Ok(()) if kind == ObjectKind::Claim => volume::set_aside(&path).map(Some),
        Ok(()) => Ok(Some(Remains(None))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PathError::on("remove", &path)(error).into()),
    }
}

/// The objects that a pod refers to, as far as they are there.
pub fn of_pod(settings: &Settings, spec: &PodSpec) -> Result<Objects, StoreError> {
    let mut objects = Objects::default();
    for (kind, name) in spec.objects() {
        if let Some(kept) = read(settings, &spec.namespace, kind, name)? {
            objects.insert(kept.object);
        }
    }
    Ok(objects)
}

/// Held while running pods are told what has changed, so that the last word is
/// what is kept.
pub fn update_lock(settings: &Settings) -> Result<FileLock, StoreError> {
    lock_file(settings, ".update")
}

/// Held while it is decided which pod has a claim.
pub fn claims_lock(settings: &Settings) -> Result<FileLock, StoreError> {
    lock_file(settings, ".claims")
}

fn root(settings: &Settings) -> PathBuf {
    settings.root.join("objects")
}

/// Where the objects of a namespace and kind lie.
#[must_use]
pub fn directory(settings: &Settings, namespace: &str, kind: ObjectKind) -> PathBuf {
    root(settings).join(namespace).join(kind.word())
}

fn path(
    settings: &Settings,
    namespace: &str,
    kind: ObjectKind,
    name: &str,
) -> Result<PathBuf, StoreError> {
    store::plain_name(namespace)?;
    store::plain_name(name)?;
    let directory = directory(settings, namespace, kind);
    Ok(directory.join(format!("{name}.json")))
}

fn lock(settings: &Settings) -> Result<FileLock, StoreError> {
    lock_file(settings, ".lock")
}

fn lock_file(settings: &Settings, name: &str) -> Result<FileLock, StoreError> {
    let directory = root(settings);
    store::private::make(&directory).map_err(StoreError::from)?;
    store::restrict(&directory)?;
    let path = directory.join(name);
    Ok(FileLock::wait(&path).map_err(PathError::on("lock", &path))?)
}

/// Names in a directory; none when it is not there.
fn entries(directory: &std::path::Path) -> Result<Vec<String>, StoreError> {
    match std::fs::read_dir(directory) {
        Ok(entries) => Ok(entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(PathError::on("list", directory)(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    pub(super) fn settings() -> Settings {
        let random: [u8; 8] = crate::pod::random_bytes();
        let root =
            std::env::temp_dir().join(format!("beluga-objects-{}", u64::from_le_bytes(random)));
        Settings::new(Some(root.clone()), Some(root.join("state"))).unwrap()
    }

    pub(super) fn object(text: &str) -> ConfigObject {
        spec::read("o.yaml", text).unwrap().objects.remove(0)
    }

    #[test]
    fn an_object_is_created_configured_unchanged_and_deleted() {
        let settings = settings();
        let one = object("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n");
        let two = object("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: w}\n");
        assert!(list(&settings, ObjectKind::ConfigMap).unwrap().is_empty());
        assert_eq!(apply(&settings, &one).unwrap(), Applied::Created);
        assert_eq!(apply(&settings, &one).unwrap(), Applied::Unchanged);
        assert_eq!(apply(&settings, &two).unwrap(), Applied::Configured);
        let kept = list(&settings, ObjectKind::ConfigMap).unwrap();
        assert_eq!((kept.len(), kept[0].revision), (1, 2));
        assert_eq!(kept[0].object, two);
        assert!(list(&settings, ObjectKind::Secret).unwrap().is_empty());
        let delete = || delete(&settings, "default", ObjectKind::ConfigMap, "a").unwrap();
        assert!(delete().is_some() && delete().is_none());
        std::fs::remove_dir_all(&settings.root).unwrap();
    }

    #[test]
    fn what_is_immutable_stays() {
        let settings = settings();
        let text = |rest: &str| {
            object(&format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData: {{k: v}}\n{rest}"
            ))
        };
        apply(&settings, &text("immutable: true")).unwrap();
        for (next, said) in [
            ("", "immutable cannot change"),
            ("immutable: true\ndata: {x: eA==}", "data cannot change"),
            (
                "immutable: true\ntype: other",
                "its type cannot be changed to other",
            ),
        ] {
            let error = apply(&settings, &text(next)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        std::fs::remove_dir_all(&settings.root).unwrap();
    }
}
