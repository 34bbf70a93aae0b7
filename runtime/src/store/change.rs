//! Changes of a running pod: proposed by a command, taken up by the pod's owner.
//!
//! ```text
//! <root>/pods/<uid>/change-X.json   what the pod is to be, as a command proposes it
//! <root>/pods/<uid>/before-X.json   what it goes back to, on the layer disk as it is then
//! <root>/pods/<uid>/definition.json is replaced by the first when the change begins
//! <root>/pods/<uid>/before.json     the second from then on, until the change has succeeded
//! ```

use super::{Definition, Planned, StoreError, atomic, plain_name, read_json, to_json};
use crate::path_error::PathError;
use crate::settings::Settings;
use beluga_proto::PodUid;
use std::io;
use std::path::PathBuf;

fn path(settings: &Settings, uid: &PodUid, name: &str) -> PathBuf {
    settings.pod_dir(uid).join(format!("{name}.json"))
}

/// Notes what a pod is to be and what it goes back to, under a name that
/// nobody else uses. Nothing changes yet.
pub fn propose(
    settings: &Settings,
    uid: &PodUid,
    name: &str,
    next: &Definition,
    before: &Definition,
) -> Result<(), StoreError> {
    for (kind, definition) in [("before", before), ("change", next)] {
        let path = path(settings, uid, &format!("{kind}-{name}"));
        let bytes = to_json(&path, definition)?;
        atomic::replace(&path, &bytes).map_err(PathError::on("write", &path))?;
    }
    Ok(())
}

/// The plan of a proposal; `None` when it is not there.
pub fn proposed(
    settings: &Settings,
    uid: &PodUid,
    name: &str,
) -> Result<Option<Planned>, StoreError> {
    plain_name(name)?;
    read_json(&path(settings, uid, &format!("change-{name}")))
}

/// What the pod goes back to.
pub fn before(settings: &Settings, uid: &PodUid) -> Result<Option<Planned>, StoreError> {
    read_json(&path(settings, uid, "before"))
}

/// Makes a proposal what the pod is to be. Only its owner may.
pub fn accept(settings: &Settings, uid: &PodUid, name: &str) -> Result<(), StoreError> {
    // This order: what is to be gone back to is never missing.
    rename(settings, uid, &format!("before-{name}"), "before")?;
    rename(settings, uid, &format!("change-{name}"), "definition")
}

/// Makes what was before what the pod is to be; once. Only its owner may.
pub fn roll_back(settings: &Settings, uid: &PodUid) -> Result<(), StoreError> {
    match rename(settings, uid, "before", "definition") {
        Err(StoreError::Path(error)) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Forgets what was before: the change has succeeded.
pub fn settle(settings: &Settings, uid: &PodUid) {
    let _ = std::fs::remove_file(path(settings, uid, "before"));
}

/// Takes a proposal back that was not accepted.
pub fn withdraw(settings: &Settings, uid: &PodUid, name: &str) {
    for kind in ["change", "before"] {
        let _ = std::fs::remove_file(path(settings, uid, &format!("{kind}-{name}")));
    }
}

fn rename(settings: &Settings, uid: &PodUid, from: &str, to: &str) -> Result<(), StoreError> {
    let (from, to) = (path(settings, uid, from), path(settings, uid, to));
    let renamed: io::Result<()> = std::fs::rename(&from, &to);
    Ok(renamed.map_err(PathError::on("rename", &from))?)
}
