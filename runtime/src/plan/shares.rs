//! Directories and files of the host, claims that are directories among them: who
//! serves them, and whether they may be.

use super::PlanError;
use super::claims;
use super::downward::Facts;
use super::types::{HostFacts, HostStep, SharePlan};
use crate::spec::{HostPathKind, PodSpec, Volume, VolumeSource};
use beluga_proto::pod::VolumeKind;
use std::path::{Path, PathBuf};

/// Most disks of claims and shared directories of one pod together: a machine has
/// 16 places, and six are taken.
pub const MAX_VOLUME_DEVICES: usize = 10;

/// Where a volume lies that is served.
struct Place<'h> {
    path: PathBuf,
    kind: HostPathKind,
    /// Where it must turn out to be.
    allowed: &'h [PathBuf],
}

impl<'h> Place<'h> {
    /// The place of a volume, if it is served.
    fn of(facts: &Facts<'_>, host: &'h HostFacts, volume: &Volume) -> Option<Self> {
        if let VolumeSource::HostPath { path, kind } = &volume.source {
            return Some(Self {
                path: path.into(),
                kind: *kind,
                allowed: &host.host_paths,
            });
        }
        // It was made with its claim: one that is gone is not made anew.
        claims::directory(facts, volume).map(|name| Self {
            path: host.claims_dir.join(name),
            kind: HostPathKind::Directory,
            allowed: std::slice::from_ref(&host.claims_dir),
        })
    }
}

/// The host's part of each volume of that type, in the order of the volumes.
pub fn steps(facts: &Facts<'_>, host: &HostFacts) -> Result<Vec<HostStep>, PlanError> {
    let spec = facts.spec;
    let mut steps = Vec::new();
    for (at, volume) in spec.volumes.iter().enumerate() {
        let Some(place) = Place::of(facts, host, volume) else {
            continue;
        };
        if let VolumeSource::HostPath { path, .. } = &volume.source
            && !is_allowed(path, &host.host_paths)
        {
            return Err(PlanError::HostPath {
                at,
                path: path.clone(),
            });
        }
        steps.push(HostStep::Share(SharePlan {
            volume: volume.name.clone(),
            tag: tag(steps.len()),
            is_file: is_file(place.kind, &place.path, host),
            path: place.path,
            kind: place.kind,
            read_only: is_read_only(spec, volume),
            allowed: place.allowed.to_vec(),
            pod: facts.identity.uid.clone(),
            log: host.pod_dir.join("share.log"),
        }));
    }
    let claims = claims::count(facts);
    if claims + steps.len() > MAX_VOLUME_DEVICES {
        return Err(PlanError::VolumeDevices {
            claims,
            shares: steps.len(),
        });
    }
    // What containers of a sandbox use is mounted before it is served.
    let mounts = spec.sandbox.iter().map(|sandbox| HostStep::Mounts {
        path: sandbox.mounts.clone(),
    });
    Ok(mounts.chain(steps).collect())
}

/// How many servers the steps start.
pub fn servers(steps: &[HostStep]) -> usize {
    let is_server = |step: &&HostStep| matches!(step, HostStep::Share(_));
    steps.iter().filter(is_server).count()
}

/// Whether a path, as it is written, lies below one that pods may use.
#[must_use]
pub fn is_allowed(path: &str, prefixes: &[PathBuf]) -> bool {
    prefixes
        .iter()
        .any(|prefix| Path::new(path).starts_with(prefix))
}

/// What the guest mounts for a volume that is served.
pub fn kind(facts: &Facts<'_>, host: &HostFacts, volume: &Volume) -> VolumeKind {
    let volumes = facts.spec.volumes.iter();
    let places = volumes.filter_map(|one| Some((one, Place::of(facts, host, one)?)));
    let found = places
        .enumerate()
        .find(|(_, (one, _))| one.name == volume.name);
    let (at, is_file) = found.map_or((0, false), |(at, (_, place))| {
        (at, is_file(place.kind, &place.path, host))
    });
    VolumeKind::Share {
        tag: tag(at),
        is_file,
    }
}

fn tag(at: usize) -> String {
    format!("share{at}")
}

fn is_file(kind: HostPathKind, path: &Path, host: &HostFacts) -> bool {
    match kind {
        HostPathKind::File | HostPathKind::FileOrCreate => true,
        HostPathKind::Any => host.host_files.contains(path),
        HostPathKind::Directory | HostPathKind::DirectoryOrCreate => false,
    }
}

/// What nobody mounts to write is not served for writing either.
pub fn is_read_only(spec: &PodSpec, volume: &Volume) -> bool {
    // Those who will mount it are not known yet.
    if spec.sandbox.is_some() {
        return false;
    }
    if let VolumeSource::Claim {
        read_only: true, ..
    } = volume.source
    {
        return true;
    }
    let containers = spec.all_containers();
    let mut mounts = containers.flat_map(|container| &container.mounts);
    mounts.all(|mount| mount.volume != volume.name || mount.read_only)
}
