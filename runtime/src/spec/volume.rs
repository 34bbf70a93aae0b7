//! Volumes of a pod.

use super::check::Check;
use super::config::{Medium, Volume, VolumeSource};
use super::object::ObjectKind;
use super::types::PullPolicy;
use super::{claim, container, files, host_path, names};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

/// Converts the volumes whose defaults are filled in.
pub fn convert(
    volumes: &[core::Volume],
    containers: &[&str],
    check: &mut Check<'_>,
) -> Vec<Volume> {
    let path = |at: usize| format!("spec.volumes[{at}].name");
    let names = volumes.iter().enumerate();
    check.unique(
        "volume of the pod",
        names.map(|(at, volume)| (path(at), volume.name.as_str())),
    );
    volumes
        .iter()
        .enumerate()
        .map(|(at, volume)| {
            check.shape(&path(at), &volume.name, names::label);
            refuse(&format!("spec.volumes[{at}]"), volume, check);
            let path = format!("spec.volumes[{at}]");
            let files = files::convert(&path, volume, containers, check);
            let is_other = files.is_some()
                || volume.persistent_volume_claim.is_some()
                || volume.ephemeral.is_some();
            let is_image = volume.image.is_some();
            if is_other && (volume.host_path.is_some() || is_image) {
                check.wrong(&path, "a volume is of one kind only");
            }
            Volume {
                name: volume.name.clone(),
                source: files
                    .or_else(|| claim(&path, volume, check))
                    .or_else(|| ephemeral(&path, volume, check))
                    .or_else(|| host_path::convert(&path, volume, check))
                    .or_else(|| image(&path, volume, check))
                    .unwrap_or_else(|| {
                        let path = format!("{path}.emptyDir");
                        empty_dir(&path, volume.empty_dir.as_ref(), check)
                    }),
            }
        })
        .collect()
}

/// A disk or directory that outlives the pod.
fn claim(path: &str, volume: &core::Volume, check: &mut Check<'_>) -> Option<VolumeSource> {
    let core::PersistentVolumeClaimVolumeSource {
        claim_name,
        read_only,
    } = volume.persistent_volume_claim.as_ref()?;
    let name_path = format!("{path}.persistentVolumeClaim.claimName");
    check.shape(&name_path, claim_name, names::subdomain);
    check.refer_to(&name_path, (ObjectKind::Claim, claim_name), None);
    if volume.empty_dir.is_some() {
        check.wrong(path, "a volume is of one kind only");
    }
    Some(VolumeSource::Claim {
        name: claim_name.clone(),
        read_only: read_only.unwrap_or_default(),
    })
}

/// A disk of the pod's own, from the template of a claim.
fn ephemeral(path: &str, volume: &core::Volume, check: &mut Check<'_>) -> Option<VolumeSource> {
    let core::EphemeralVolumeSource {
        volume_claim_template,
    } = volume.ephemeral.as_ref()?;
    let others = [
        volume.empty_dir.is_some(),
        volume.persistent_volume_claim.is_some(),
    ];
    if others.contains(&true) {
        check.wrong(path, "a volume is of one kind only");
    }
    let path = format!("{path}.ephemeral.volumeClaimTemplate");
    let Some(template) = volume_claim_template else {
        check.wrong(&path, "required");
        return None;
    };
    // Its labels and annotations would be those of an object that is not made.
    let core::PersistentVolumeClaimTemplate { metadata, spec } = template;
    if let Some(metadata) = metadata {
        only_labels(&format!("{path}.metadata"), metadata, check);
    }
    let outside = check.enter_below(&path);
    let claim = claim::own_disk(spec, check);
    check.enter(&outside);
    Some(VolumeSource::Ephemeral { claim: claim? })
}

/// All that the template of a claim may say of the claim's metadata are labels
/// and annotations: the pod's and the volume's name make its own.
fn only_labels(path: &str, metadata: &ObjectMeta, check: &mut Check<'_>) {
    let fields = serde_json::to_value(metadata).unwrap_or_default();
    for field in fields
        .as_object()
        .into_iter()
        .flat_map(Map::<String, Value>::keys)
    {
        if !matches!(field.as_str(), "labels" | "annotations") {
            check.wrong(
                &format!("{path}.{field}"),
                "must not be set: labels and annotations may be",
            );
        }
    }
}

/// The files of an image.
fn image(path: &str, volume: &core::Volume, check: &mut Check<'_>) -> Option<VolumeSource> {
    let core::ImageVolumeSource {
        pull_policy,
        reference,
    } = volume.image.as_ref()?;
    if volume.empty_dir.is_some() {
        check.wrong(path, "a volume is of one kind only");
    }
    let path = format!("{path}.image");
    let image = reference.as_deref().unwrap_or_default();
    container::reference(&format!("{path}.reference"), image, "mount", check);
    let pull_policy = check.choice(
        &format!("{path}.pullPolicy"),
        pull_policy.as_deref(),
        &PullPolicy::ALL,
    );
    Some(VolumeSource::Image {
        image: image.to_owned(),
        pull_policy,
    })
}

fn empty_dir(
    path: &str,
    source: Option<&core::EmptyDirVolumeSource>,
    check: &mut Check<'_>,
) -> VolumeSource {
    let (medium, size_limit) = match source {
        Some(core::EmptyDirVolumeSource { medium, size_limit }) => (medium, size_limit),
        None => (&None, &None),
    };
    let medium = check.choice(
        &format!("{path}.medium"),
        medium.as_deref().filter(|medium| !medium.is_empty()),
        &[("\"\"", Medium::Disk), ("Memory", Medium::Memory)],
    );
    let size_limit = size_limit
        .as_ref()
        .and_then(|limit| check.quantity(&format!("{path}.sizeLimit"), &limit.0))
        .map(|limit| limit.units())
        // For the kubelet 0 is no limit.
        .filter(|limit| *limit > 0);
    VolumeSource::EmptyDir { medium, size_limit }
}

/// Every other kind of volume.
fn refuse(path: &str, volume: &core::Volume, check: &mut Check<'_>) {
    let core::Volume {
        aws_elastic_block_store,
        azure_disk,
        azure_file,
        cephfs,
        cinder,
        config_map: _,
        csi,
        downward_api: _,
        empty_dir: _,
        ephemeral: _,
        fc,
        flex_volume,
        flocker,
        gce_persistent_disk,
        git_repo,
        glusterfs,
        host_path: _,
        image: _,
        iscsi,
        name: _,
        nfs,
        persistent_volume_claim: _,
        photon_persistent_disk,
        portworx_volume,
        projected: _,
        quobyte,
        rbd,
        scale_io,
        secret: _,
        storageos,
        vsphere_volume,
    } = volume;
    check.unsupported(
        path,
        &[
            ("awsElasticBlockStore", aws_elastic_block_store.is_some()),
            ("azureDisk", azure_disk.is_some()),
            ("azureFile", azure_file.is_some()),
            ("cephfs", cephfs.is_some()),
            ("cinder", cinder.is_some()),
            ("csi", csi.is_some()),
            ("fc", fc.is_some()),
            ("flexVolume", flex_volume.is_some()),
            ("flocker", flocker.is_some()),
            ("gcePersistentDisk", gce_persistent_disk.is_some()),
            ("gitRepo", git_repo.is_some()),
            ("glusterfs", glusterfs.is_some()),
            ("iscsi", iscsi.is_some()),
            ("nfs", nfs.is_some()),
            ("photonPersistentDisk", photon_persistent_disk.is_some()),
            ("portworxVolume", portworx_volume.is_some()),
            ("quobyte", quobyte.is_some()),
            ("rbd", rbd.is_some()),
            ("scaleIO", scale_io.is_some()),
            ("storageos", storageos.is_some()),
            ("vsphereVolume", vsphere_volume.is_some()),
        ],
    );
}
