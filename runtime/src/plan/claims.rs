//! Disks of volumes: those of claims outlive the pod, its own do not. What is kept
//! of a claim that is a directory is served like any other of the host.

use super::PlanError;
use super::downward::Facts;
use super::types::{DiskPlan, ExtentPlan, HostFacts, HostStep, VolumeFile};
use crate::spec::{ClaimSpec, ObjectKind, Volume, VolumeSource};
use std::path::PathBuf;

/// Most disks of one pod's volumes: a machine has so many interrupts, and no more.
pub const MAX_CLAIMS: usize = 8;

/// A disk behind the scratch disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk<'s> {
    /// A claim's, by its name.
    Claim(&'s str),
    /// The pod's own, by its volume's name.
    Own(&'s str, &'s ClaimSpec),
}

impl<'s> Disk<'s> {
    /// The disk that a volume is, if it is one. A claim of which nothing is known
    /// is missed where its disk is looked for.
    fn of(facts: &Facts<'_>, volume: &'s Volume) -> Option<Self> {
        match &volume.source {
            VolumeSource::Claim { name, .. } => directory(facts, volume)
                .is_none()
                .then_some(Self::Claim(name)),
            VolumeSource::Ephemeral { claim } => Some(Self::Own(&volume.name, claim)),
            VolumeSource::EmptyDir { .. }
            | VolumeSource::Files { .. }
            | VolumeSource::HostPath { .. }
            | VolumeSource::Image { .. } => None,
        }
    }
}

/// The disks of a pod, each once, in the order of its volumes.
fn all<'s>(facts: &Facts<'s>) -> Vec<Disk<'s>> {
    let mut all = Vec::new();
    let volumes = facts.spec.volumes.iter();
    for disk in volumes.filter_map(|volume| Disk::of(facts, volume)) {
        if !all.contains(&disk) {
            all.push(disk);
        }
    }
    all
}

/// How many disks a pod's volumes are.
pub fn count(facts: &Facts<'_>) -> usize {
    all(facts).len()
}

/// The name, among those of the namespace's claims, of the directory that a volume
/// is; `None` where it is none.
pub fn directory(facts: &Facts<'_>, volume: &Volume) -> Option<String> {
    let VolumeSource::Claim { name, .. } = &volume.source else {
        return None;
    };
    let claim = claim(facts, name).filter(|claim| claim.is_directory)?;
    Some(claim.file_name(name))
}

/// The file of a disk that is the pod's own: it goes with the pod's directory.
fn own_file(host: &HostFacts, volume: &str) -> PathBuf {
    host.pod_dir.join(format!("volume-{volume}.img"))
}

/// What makes the disks that are the pod's own.
pub fn steps(facts: &Facts<'_>, host: &HostFacts) -> Vec<HostStep> {
    let own = all(facts).into_iter().filter_map(|disk| match disk {
        Disk::Claim(_) => None,
        Disk::Own(volume, claim) => Some(HostStep::Disk(VolumeFile {
            path: own_file(host, volume),
            bytes: claim.bytes,
            is_block: claim.is_block,
        })),
    });
    own.collect()
}

/// The disks, which follow the layer disk and the scratch disk.
pub fn disks(facts: &Facts<'_>) -> Result<Vec<DiskPlan>, PlanError> {
    let all = all(facts);
    if all.len() > MAX_CLAIMS {
        return Err(PlanError::Claims { count: all.len() });
    }
    let mut disks = Vec::new();
    for (at, disk) in all.into_iter().enumerate() {
        let file = facts.host.and_then(|host| match disk {
            Disk::Own(volume, claim) => Some((own_file(host, volume), claim.bytes, false)),
            Disk::Claim(name) => {
                let claim = claim(facts, name)?;
                let file = host.claims_dir.join(claim.file_name(name));
                Some((file, claim.bytes, true))
            }
        });
        let Some((path, length, flush)) = file else {
            let (Disk::Claim(name) | Disk::Own(name, _)) = disk;
            return Err(PlanError::VolumeSource {
                volume: name.to_owned(),
                what: format!("persistentvolumeclaim {name:?} not found"),
            });
        };
        disks.push(DiskPlan {
            id: format!("claim-{at}"),
            read_only: false,
            extents: vec![ExtentPlan {
                path,
                offset: 0,
                length,
            }],
            discard: true,
            // What the guest was told to be safe outlives a crash of the host,
            // as far as the disk outlives the pod.
            flush,
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
    match Disk::of(facts, volume) {
        Some(Disk::Claim(name)) => claim(facts, name).is_some_and(|claim| claim.is_block),
        Some(Disk::Own(_, claim)) => claim.is_block,
        None => false,
    }
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

/// The guest's name of a volume's disk.
pub fn device(facts: &Facts<'_>, volume: &Volume) -> String {
    let own = Disk::of(facts, volume);
    let at = all(facts).iter().position(|disk| Some(*disk) == own);
    let letter = (b'c'..=b'z').nth(at.unwrap_or_default());
    format!("vd{}", char::from(letter.unwrap_or(b'z')))
}
