//! Disks that outlive the pod.

use super::PlanError;
use super::downward::Facts;
use super::types::{DiskPlan, ExtentPlan};
use crate::spec::{ClaimSpec, ObjectKind, PodSpec, Volume, VolumeSource};

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
        let (Some(claim), Some(host)) = (claim(facts, name), facts.host) else {
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
            rate: facts.spec.disk_rate(),
        });
    }
    Ok(disks)
}

/// What the claim of that name asks for.
fn claim<'f>(facts: &'f Facts<'_>, name: &str) -> Option<&'f ClaimSpec> {
    let object = facts.objects.get(ObjectKind::Claim, name)?;
    object.claim.as_ref()
}

/// Whether a volume is a disk without a file system.
pub fn is_block(facts: &Facts<'_>, volume: &Volume) -> bool {
    let VolumeSource::Claim { name, .. } = &volume.source else {
        return false;
    };
    claim(facts, name).is_some_and(|claim| claim.is_block)
}

/// Errors where a container mounts a disk without a file system, or wants one
/// with a file system as a device: in the words of a kubelet.
pub fn check_modes(facts: &Facts<'_>) -> Result<(), PlanError> {
    for volume in &facts.spec.volumes {
        let is_block = is_block(facts, volume);
        let mut containers = facts.spec.all_containers();
        let what = if is_block {
            let is_wrong =
                containers.any(|one| one.mounts.iter().any(|one| one.volume == volume.name));
            is_wrong.then_some("has volumeMode Block, but is specified in volumeMounts")
        } else {
            let is_wrong =
                containers.any(|one| one.devices.iter().any(|one| one.volume == volume.name));
            is_wrong.then_some("has volumeMode Filesystem, but is specified in volumeDevices")
        };
        if let Some(what) = what {
            return Err(PlanError::VolumeSource {
                volume: volume.name.clone(),
                what: what.to_owned(),
            });
        }
    }
    Ok(())
}

/// The guest's name of a claim's disk.
pub fn device(spec: &PodSpec, name: &str) -> String {
    let at = names(spec).iter().position(|known| *known == name);
    let letter = (b'c'..=b'z').nth(at.unwrap_or_default());
    format!("vd{}", char::from(letter.unwrap_or(b'z')))
}
