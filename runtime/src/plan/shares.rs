//! Directories and files of the host: who serves them, and whether they may be.

use super::PlanError;
use super::claims;
use super::types::{HostFacts, HostStep, Identity, SharePlan};
use crate::spec::{HostPathKind, PodSpec, VolumeSource};
use beluga_proto::pod::VolumeKind;
use std::path::{Path, PathBuf};

/// Most claims and shared directories of one pod together: a machine has 16
/// places, and six are taken.
pub const MAX_VOLUME_DEVICES: usize = 10;

/// The host's part of each volume of that type, in the order of the volumes.
pub fn steps(
    spec: &PodSpec,
    host: &HostFacts,
    identity: &Identity,
) -> Result<Vec<HostStep>, PlanError> {
    let mut steps = Vec::new();
    for (at, volume) in spec.volumes.iter().enumerate() {
        let VolumeSource::HostPath { path, kind } = &volume.source else {
            continue;
        };
        if !is_allowed(path, &host.host_paths) {
            return Err(PlanError::HostPath {
                at,
                path: path.clone(),
            });
        }
        steps.push(HostStep::Share(SharePlan {
            volume: volume.name.clone(),
            tag: tag(steps.len()),
            path: path.into(),
            kind: *kind,
            is_file: is_file(*kind, path, host),
            read_only: is_read_only(spec, &volume.name),
            allowed: host.host_paths.clone(),
            pod: identity.uid.clone(),
            log: host.pod_dir.join("share.log"),
        }));
    }
    let claims = claims::count(spec);
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

/// What the guest mounts for the volume of that name.
pub fn kind(spec: &PodSpec, host: &HostFacts, name: &str) -> VolumeKind {
    let mut shares = spec
        .volumes
        .iter()
        .filter_map(|volume| match &volume.source {
            VolumeSource::HostPath { path, kind } => Some((volume.name.as_str(), path, *kind)),
            _ => None,
        });
    let found = shares.by_ref().enumerate().find(|(_, one)| one.0 == name);
    let (at, is_file) = found.map_or((0, false), |(at, (_, path, kind))| {
        (at, is_file(kind, path, host))
    });
    VolumeKind::Share {
        tag: tag(at),
        is_file,
    }
}

fn tag(at: usize) -> String {
    format!("share{at}")
}

fn is_file(kind: HostPathKind, path: &str, host: &HostFacts) -> bool {
    match kind {
        HostPathKind::File | HostPathKind::FileOrCreate => true,
        HostPathKind::Any => host.host_files.contains(Path::new(path)),
        HostPathKind::Directory | HostPathKind::DirectoryOrCreate => false,
    }
}

/// What nobody mounts to write is not served for writing either.
fn is_read_only(spec: &PodSpec, volume: &str) -> bool {
    // Those who will mount it are not known yet.
    if spec.sandbox.is_some() {
        return false;
    }
    let containers = spec.all_containers();
    let mut mounts = containers.flat_map(|container| &container.mounts);
    mounts.all(|mount| mount.volume != volume || mount.read_only)
}
