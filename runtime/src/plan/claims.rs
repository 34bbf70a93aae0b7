//! Disks that outlive the pod.

use super::PlanError;
use super::downward::Facts;
use super::types::{DiskPlan, ExtentPlan};
use crate::spec::{ObjectKind, PodSpec, VolumeSource};

/// Most claims of one pod: a machine has so many interrupts, and no more.
pub const MAX_CLAIMS: usize = 8;

/// The claims of a pod, each once, in the order of its volumes.
pub fn names(spec: &PodSpec) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for volume in &spec.volumes {
        if let VolumeSource::Claim { name, .. } = &volume.source
            && !names.contains(&name.as_str())
        {
            names.push(name);
        }
    }
    names
}

/// The disks of the claims, which follow the layer disk and the scratch disk.
pub fn disks(facts: &Facts<'_>) -> Result<Vec<DiskPlan>, PlanError> {
    let names = names(facts.spec);
    if names.len() > MAX_CLAIMS {
        return Err(PlanError::Claims { count: names.len() });
    }
    let mut disks = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        let object = facts.objects.get(ObjectKind::Claim, name);
        let claim = object.and_then(|object| object.claim.as_ref());
        let (Some(claim), Some(host)) = (claim, facts.host) else {
            return Err(PlanError::VolumeSource {
                volume: name.to_owned(),
                what: format!("persistentvolumeclaim {name:?} not found"),
            });
        };
        disks.push(DiskPlan {
            id: format!("claim-{at}"),
            read_only: false,
            extents: vec![ExtentPlan {
                path: host.claims_dir.join(format!("{name}.img")),
                offset: 0,
                length: claim.bytes,
            }],
            discard: true,
            // What the guest was told to be safe outlives a crash of the host.
            flush: true,
        });
    }
    Ok(disks)
}

/// The guest's name of a claim's disk.
pub fn device(spec: &PodSpec, name: &str) -> String {
    let at = names(spec).iter().position(|known| *known == name);
    let letter = (b'c'..=b'z').nth(at.unwrap_or_default());
    format!("vd{}", char::from(letter.unwrap_or(b'z')))
}
