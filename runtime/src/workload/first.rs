//! The pod that a workload would begin with, for who asks before there is any.

use super::job::IndexFailures;
use super::members::{claim_objects, pod};
use super::{Kept, WorkloadError};
use crate::objects;
use crate::plan::Objects;
use crate::settings::Settings;
use crate::spec::{Document, Workload};
use beluga_proto::PodUid;

/// How many pods a workload is to have at once.
#[must_use]
pub fn pods_at_once(workload: &Workload) -> u32 {
    match &workload.job {
        Some(job) if job.is_suspended => 0,
        Some(job) => job
            .completions
            .map_or(job.parallelism, |all| all.min(job.parallelism)),
        None => workload.replicas,
    }
}

/// The first pod, made as it will be, with what its template refers to and the claims
/// of its own; nothing is kept. None where there are to be no pods.
pub fn first(
    settings: &Settings,
    workload: &Workload,
    objects: &Objects,
) -> Result<Option<(Document, Objects)>, WorkloadError> {
    if pods_at_once(workload) == 0 {
        return Ok(None);
    }
    let is_indexed = workload.job.as_ref().is_some_and(|job| job.is_indexed);
    let ordinal = match &workload.ordinals {
        Some(ordinals) => Some(ordinals.first),
        None => is_indexed.then_some(0),
    };
    // A UID that says that it is nobody's.
    let kept = Kept {
        object: workload.object.clone(),
        uid: PodUid::from_random([0; 16]).to_string(),
        created: 0,
        generation: 1,
        revision: 1,
    };
    let document = pod(&kept, workload, ordinal, IndexFailures::default())?;
    let mut objects = objects.clone();
    for claim in own_claims(workload, ordinal)? {
        let present = objects::read(settings, &claim.namespace, claim.kind, &claim.name)?;
        objects.insert(present.map_or(claim, |present| present.object));
    }
    Ok(Some((document, objects)))
}

fn own_claims(
    workload: &Workload,
    ordinal: Option<u32>,
) -> Result<Vec<crate::spec::ConfigObject>, WorkloadError> {
    ordinal.map_or_else(
        || Ok(Vec::new()),
        |ordinal| claim_objects(workload, ordinal),
    )
}
