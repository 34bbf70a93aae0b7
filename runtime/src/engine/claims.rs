//! Who holds a claim: the pod that names it and has not ended.

use super::EngineError;
use crate::host::lock::FileLock;
use crate::objects;
use crate::settings::Settings;
use crate::spec::{ObjectKind, PodSpec};
use crate::store::{self, Life};

/// Errors when another pod holds a claim of this one. While the lock is held
/// no other pod can be made that does; `None` when the pod has no claims.
pub fn take(settings: &Settings, spec: &PodSpec) -> Result<Option<FileLock>, EngineError> {
    let wanted = spec.objects();
    let mut claims = wanted
        .iter()
        .filter(|(kind, _)| *kind == ObjectKind::Claim)
        .peekable();
    if claims.peek().is_none() {
        return Ok(None);
    }
    let lock = objects::claims_lock(settings)?;
    for (_, claim) in claims {
        if let Some(holder) = holder(settings, &spec.namespace, claim)? {
            return Err(EngineError::ClaimHeld {
                claim: (*claim).to_owned(),
                holder,
            });
        }
    }
    Ok(Some(lock))
}

/// The pod that holds a claim.
pub fn holder(
    settings: &Settings,
    namespace: &str,
    claim: &str,
) -> Result<Option<String>, EngineError> {
    for uid in store::uids(settings)? {
        let Some(record) = store::read_record(settings, &uid)? else {
            continue;
        };
        if record.life == Life::Ended || record.namespace != namespace {
            continue;
        }
        let definition = store::read_definition(settings, &uid)?;
        let holds = definition.is_some_and(|definition| {
            let objects = definition.spec.objects();
            objects.contains(&(ObjectKind::Claim, claim))
        });
        if holds {
            return Ok(Some(record.name));
        }
    }
    Ok(None)
}
