//! What lies in the volumes that are filled from objects and from the pod.

use super::PlanError;
use super::downward::{Facts, Objects};
use super::types::Plan;
use crate::spec::{
    ConfigObject, DownwardPath, DownwardValue, FileSource, KeyPath, ObjectKind, PodSpec, Volume,
    VolumeSource,
};
use beluga_proto::agent::FilePiece;
use beluga_proto::bytes::Bytes;
use std::collections::BTreeMap;

/// Most bytes of all files of one volume.
pub const MAX_VOLUME: usize = 8 << 20;

/// What the kubelet adds to a file's mode where the volume has a group: it
/// may read (`roMask` of pkg/volume/volume_linux.go).
const GROUP_MODE: u32 = 0o440;

/// The files of a pod's volumes, by the volumes' names. The plan is the pod's:
/// this is done again whenever an object has changed.
pub fn files(
    spec: &PodSpec,
    objects: &Objects,
    plan: &Plan,
) -> Result<BTreeMap<String, Vec<FilePiece>>, PlanError> {
    let scratch = plan.vm.disks.iter().find(|disk| disk.id == "scratch");
    let facts = Facts {
        spec,
        identity: &plan.identity,
        host: None,
        objects,
        vcpus: plan.vm.vcpus,
        memory_mib: plan.vm.memory_mib,
        memory_throttling: None,
        pids_max: None,
        scratch_bytes: scratch.map_or(0, |disk| disk.extents.iter().map(|one| one.length).sum()),
    };
    let mut found = BTreeMap::new();
    for volume in &spec.volumes {
        if let VolumeSource::Files { sources, mode } = &volume.source {
            found.insert(
                volume.name.clone(),
                of_volume(&facts, volume, sources, *mode)?,
            );
        }
    }
    Ok(found)
}

fn of_volume(
    facts: &Facts<'_>,
    volume: &Volume,
    sources: &[FileSource],
    mode: u32,
) -> Result<Vec<FilePiece>, PlanError> {
    let mut files: BTreeMap<String, (u32, Vec<u8>)> = BTreeMap::new();
    for source in sources {
        match source {
            FileSource::Object {
                kind,
                name,
                items,
                optional,
            } => match facts.objects.get(*kind, name) {
                Some(object) => {
                    of_object(volume, object, items, *optional, |path, own, bytes| {
                        files.insert(path, (own.unwrap_or(mode), bytes));
                    })?;
                }
                None if *optional => {}
                None => return Err(missing(volume, format!("{kind} {name:?} not found"))),
            },
            FileSource::Downward { items } => {
                for DownwardPath {
                    path,
                    mode: own,
                    value,
                } in items
                {
                    let text = match value {
                        DownwardValue::Field(field) => facts.field(field),
                        DownwardValue::Resource(field) => facts.resource(field),
                    };
                    files.insert(path.clone(), (own.unwrap_or(mode), text.into_bytes()));
                }
            }
        }
    }
    let total: usize = files.values().map(|(_, bytes)| bytes.len()).sum();
    if total > MAX_VOLUME {
        return Err(PlanError::VolumeSize {
            volume: volume.name.clone(),
            bytes: total,
        });
    }
    let group = if facts.spec.fs_group.is_some() {
        GROUP_MODE
    } else {
        0
    };
    let pieces = files.into_iter().map(|(path, (mode, bytes))| FilePiece {
        path,
        mode: mode | group,
        content: Bytes(bytes),
        append: false,
    });
    Ok(pieces.collect())
}

fn missing(volume: &Volume, what: String) -> PlanError {
    PlanError::VolumeSource {
        volume: volume.name.clone(),
        what,
    }
}

fn of_object(
    volume: &Volume,
    object: &ConfigObject,
    items: &[KeyPath],
    optional: bool,
    mut put: impl FnMut(String, Option<u32>, Vec<u8>),
) -> Result<(), PlanError> {
    if items.is_empty() {
        for (key, bytes) in object.values() {
            put(key.to_owned(), None, bytes.to_vec());
        }
    }
    for item in items {
        match object.value(&item.key) {
            Some(bytes) => put(item.path.clone(), item.mode, bytes.to_vec()),
            None if optional => {}
            None => {
                let what = match object.kind {
                    ObjectKind::ConfigMap => "configmap references non-existent config key",
                    ObjectKind::Secret | ObjectKind::Claim | ObjectKind::Policy => {
                        "references non-existent secret key"
                    }
                };
                return Err(missing(volume, format!("{what}: {}", item.key)));
            }
        }
    }
    Ok(())
}
