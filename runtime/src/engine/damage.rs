//! Pods of which what is on record cannot be understood: they are told of, and harm no other pod.

use super::{EngineError, gc, stop};
use crate::settings::Settings;
use crate::store::{self, StoreError};
use beluga_proto::PodUid;

/// A pod whose record or definition cannot be understood.
#[derive(Debug)]
pub struct Damaged {
    /// Its UID.
    pub uid: PodUid,
    /// The namespace in which a name leads to it; empty where none does.
    pub namespace: String,
    /// That name.
    pub name: String,
    /// What is wrong with what is on record.
    pub error: StoreError,
}

/// What is wrong with a pod's record or definition, if anything is.
/// Errors when they cannot be read.
pub(super) fn of(settings: &Settings, uid: &PodUid) -> Result<Option<StoreError>, StoreError> {
    let read = store::read_record(settings, uid).map(drop);
    match read.and_then(|()| store::read_definition(settings, uid).map(drop)) {
        Err(error) if error.is_damage() => Ok(Some(error)),
        other => other.map(|()| None),
    }
}

/// The pods that [`super::list`] leaves out.
/// Errors when the store cannot be read.
pub fn damaged(settings: &Settings) -> Result<Vec<Damaged>, EngineError> {
    let mut found = Vec::new();
    for uid in store::uids(settings)? {
        if let Some(error) = of(settings, &uid)? {
            let (namespace, name) = store::name_of(settings, &uid).unwrap_or_default();
            found.push(Damaged {
                uid,
                namespace,
                name,
                error,
            });
        }
    }
    Ok(found)
}

/// Ends a damaged pod and removes what there is of it: nothing says any more what its end
/// would be. What else nothing accounts for goes with it, as with [`gc()`].
/// Errors when it stays.
pub async fn discard(settings: &Settings, pod: &Damaged) -> Result<(), EngineError> {
    stop::kill_supervisor(settings, &pod.uid);
    gc::gc(settings, false).await?;
    match of(settings, &pod.uid)? {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}
