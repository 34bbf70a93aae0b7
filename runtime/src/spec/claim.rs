//! PersistentVolumeClaim documents: disks that outlive pods.

use super::check::Check;
use super::decode;
use super::meta;
use super::object::{ConfigObject, ObjectKind};
use super::pod::some;
use super::yaml::{Node, join};
use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Serialize};

/// Smallest disk: an ext4 file system with a journal needs some room.
const MIN_BYTES: u64 = 8 << 20;

/// What a claim asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimSpec {
    /// Size of the disk, a multiple of 4096.
    pub bytes: u64,
    /// `ReadWriteOnce`, `ReadWriteOncePod`: a disk is one machine's at a time,
    /// and a machine is one pod's, so that both come to the same.
    pub access_modes: Vec<String>,
    /// `volumeMode: Block`: no file system, for containers to use as a device.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_block: bool,
}

impl ClaimSpec {
    /// `volumeMode` as manifests write it.
    #[must_use]
    pub fn volume_mode(&self) -> &'static str {
        if self.is_block { "Block" } else { "Filesystem" }
    }
}

/// Converts a claim.
pub(super) fn convert(
    tree: &Node,
    issues: &mut Vec<super::Issue>,
    warnings: &mut Vec<String>,
) -> Option<ConfigObject> {
    let decoded = decode::decode::<core::PersistentVolumeClaim>(tree);
    issues.extend(decoded.issues);
    let core::PersistentVolumeClaim {
        metadata,
        spec,
        status: _, // the system's own
    } = decoded.value?;
    let mut check = Check::new(tree, &decoded.masked);
    let identity = meta::object(&metadata, "the claim's name", &mut check);
    let claim = match &spec {
        Some(one) => self::spec(one, &mut check),
        None => {
            check.wrong("spec", "required");
            None
        }
    };
    let (wrong, told) = check.finish();
    issues.extend(wrong);
    warnings.extend(told);
    Some(ConfigObject {
        claim,
        ..ConfigObject::named(ObjectKind::Claim, identity)
    })
}

/// Converts what a claim asks for.
pub(super) fn spec(
    spec: &core::PersistentVolumeClaimSpec,
    check: &mut Check<'_>,
) -> Option<ClaimSpec> {
    let core::PersistentVolumeClaimSpec {
        access_modes,
        data_source,
        data_source_ref,
        resources,
        selector,
        storage_class_name,
        volume_attributes_class_name,
        volume_mode,
        volume_name,
    } = spec;
    // There is one way to keep a disk.
    let is_classed = storage_class_name
        .as_ref()
        .is_some_and(|name| !name.is_empty());
    check.ignore("spec", &[("storageClassName", is_classed)]);
    check.unsupported(
        "spec",
        &[
            ("dataSource", data_source.is_some()),
            ("dataSourceRef", data_source_ref.is_some()),
            ("selector", selector.is_some()),
            (
                "volumeAttributesClassName",
                volume_attributes_class_name.is_some(),
            ),
            (
                "volumeName",
                volume_name.as_ref().is_some_and(|name| !name.is_empty()),
            ),
        ],
    );
    let is_block = check.choice(
        "spec.volumeMode",
        volume_mode.as_deref(),
        &[("Filesystem", false), ("Block", true)],
    );
    if !some(access_modes) {
        check.wrong(
            "spec.accessModes",
            "required: ReadWriteOnce or ReadWriteOncePod",
        );
    }
    for (at, mode) in access_modes.iter().flatten().enumerate() {
        access_mode(&format!("spec.accessModes[{at}]"), mode, check);
    }
    Some(ClaimSpec {
        bytes: size(resources.as_ref(), check)?,
        access_modes: access_modes.clone().unwrap_or_default(),
        is_block,
    })
}

fn access_mode(path: &str, mode: &str, check: &mut Check<'_>) {
    if matches!(mode, "ReadWriteMany" | "ReadOnlyMany") {
        check.wrong(
            path,
            format!("{mode} is refused: a disk belongs to one pod's machine at a time"),
        );
    } else {
        let known = [("ReadWriteOnce", ()), ("ReadWriteOncePod", ())];
        check.choice(path, Some(mode), &known);
    }
}

/// Bytes of the disk, in whole pages.
fn size(
    resources: Option<&core::VolumeResourceRequirements>,
    check: &mut Check<'_>,
) -> Option<u64> {
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let path = join("spec.resources.requests", "storage");
    let Some(storage) = requests.and_then(|requests| requests.get("storage")) else {
        check.wrong(&path, "required: the size of the disk");
        return None;
    };
    let bytes = check.quantity(&path, &storage.0)?.units();
    if bytes < MIN_BYTES {
        check.wrong(
            &path,
            format!("{bytes} bytes are too little for a file system (8Mi)"),
        );
    }
    Some(bytes.div_ceil(4096).saturating_mul(4096))
}
