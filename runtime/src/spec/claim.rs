//! PersistentVolumeClaim documents: disks and directories that outlive pods.
//!
//! A disk has a size and is one pod's at a time. A directory is below the root of
//! the instance, as large as the host's disk, and any number of pods may have it
//! at once. Which of them a claim is, its `storageClassName` says where it is one of
//! ours; else its access modes do: what several machines are to have is no disk.

use super::check::Check;
use super::decode;
use super::meta;
use super::object::{ConfigObject, ObjectKind};
use super::yaml::{Node, join};
use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Serialize};

/// Smallest disk: an ext4 file system with a journal needs some room.
const MIN_BYTES: u64 = 8 << 20;

/// The storage classes that mean something here, and whether it is a directory.
const CLASSES: [(&str, bool); 2] = [("beluga-disk", false), ("beluga-directory", true)];

/// What the names of our storage classes begin with.
const CLASS_PREFIX: &str = "beluga-";

/// One pod at a time, whatever else could have it.
const ONE_POD: &str = "ReadWriteOncePod";

/// Access modes of a claim, those of a disk first.
const MODES: [&str; 4] = ["ReadWriteOnce", ONE_POD, "ReadWriteMany", "ReadOnlyMany"];

/// How many of [`MODES`] a disk can have.
const DISK_MODES: usize = 2;

/// What a claim asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimSpec {
    /// Size of the disk, a multiple of 4096. Of a directory what was asked for,
    /// to which nothing holds it.
    pub bytes: u64,
    /// Who may have it. A disk is one machine's at a time, and a machine is one
    /// pod's, so that its modes come to the same. Who may write to it they do not
    /// say, as in Kubernetes.
    pub access_modes: Vec<String>,
    /// `volumeMode: Block`: no file system, for containers to use as a device.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_block: bool,
    /// A directory of the host, and no disk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_directory: bool,
}

impl ClaimSpec {
    /// `volumeMode` as manifests write it.
    #[must_use]
    pub fn volume_mode(&self) -> &'static str {
        if self.is_block { "Block" } else { "Filesystem" }
    }

    /// `storageClassName` that says what it is.
    #[must_use]
    pub fn class(&self) -> &'static str {
        let mut classes = CLASSES.iter();
        let own = classes.find(|(_, is_directory)| *is_directory == self.is_directory);
        own.map_or("", |(name, _)| *name)
    }

    /// Why no second pod may have it; `None` where one may.
    #[must_use]
    pub fn only_one_pod(&self) -> Option<&'static str> {
        if !self.is_directory {
            return Some("a disk belongs to one pod at a time");
        }
        let is_one = self.access_modes.iter().any(|mode| mode == ONE_POD);
        is_one.then_some("ReadWriteOncePod lets one pod have it at a time")
    }

    /// What holds the data of the claim of that name, beside the claim itself.
    #[must_use]
    pub fn file_name(&self, name: &str) -> String {
        let extension = if self.is_directory { "dir" } else { "img" };
        format!("{name}.{extension}")
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
    asked(spec, true, check)
}

/// The same of a volume that is its pod's own, which is a disk.
pub(super) fn own_disk(
    spec: &core::PersistentVolumeClaimSpec,
    check: &mut Check<'_>,
) -> Option<ClaimSpec> {
    asked(spec, false, check)
}

/// Converts what is asked for; a directory is what outlives pods.
fn asked(
    spec: &core::PersistentVolumeClaimSpec,
    outlives: bool,
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
    let modes = access_modes.as_deref().unwrap_or_default();
    let class = class(storage_class_name.as_deref(), check);
    // The modes of a directory make one of a claim that says nothing else.
    let may_be_directory = class.unwrap_or(outlives && !is_block);
    let is_directory = match class {
        Some(true) if !outlives => {
            let why = "beluga-directory is refused: a volume of the pod's own is a disk";
            check.wrong("spec.storageClassName", why);
            false
        }
        Some(is_directory) => is_directory,
        // What is not to be a disk by any word of the claim.
        None => outlives && !is_block && modes.iter().any(|mode| is_for_many(mode)),
    };
    if is_directory && is_block {
        check.wrong(
            "spec.volumeMode",
            "Block is refused: a directory is no device",
        );
    }
    check_modes(modes, outlives, (is_directory, may_be_directory), check);
    Some(ClaimSpec {
        bytes: size(resources.as_ref(), is_directory, check)?,
        access_modes: modes.to_vec(),
        is_block,
        is_directory,
    })
}

/// Whether the storage class is that of directories; `None` where it is nobody's
/// of here.
fn class(name: Option<&str>, check: &mut Check<'_>) -> Option<bool> {
    let name = name.filter(|name| !name.is_empty())?;
    let known = CLASSES.iter().find(|(known, _)| *known == name);
    if known.is_none() && name.starts_with(CLASS_PREFIX) {
        let shown: String = name.chars().take(60).collect();
        let names = CLASSES.map(|(known, _)| known).join(", ");
        let why = format!("{shown:?} is not one of {names}");
        check.wrong("spec.storageClassName", why);
    } else if known.is_none() {
        check.ignore("spec", &[("storageClassName", true)]);
    }
    known.map(|(_, is_directory)| *is_directory)
}

fn is_for_many(mode: &str) -> bool {
    matches!(mode, "ReadWriteMany" | "ReadOnlyMany")
}

fn check_modes(
    modes: &[String],
    outlives: bool,
    (is_directory, may_be_directory): (bool, bool),
    check: &mut Check<'_>,
) {
    let path = "spec.accessModes";
    if modes.is_empty() {
        let known = &MODES[..if outlives { MODES.len() } else { DISK_MODES }];
        check.wrong(path, format!("required: one of {}", known.join(", ")));
    }
    let is_alone = |mode: &String| mode == ONE_POD;
    if modes.iter().any(is_alone) && !modes.iter().all(is_alone) {
        // In the words of the API server.
        check.wrong(path, "may not use ReadWriteOncePod with other access modes");
    }
    for (at, mode) in modes.iter().enumerate() {
        let path = format!("{path}[{at}]");
        if !is_directory && is_for_many(mode) {
            check.wrong(
                &path,
                format!("{mode} is refused: a disk belongs to one pod's machine at a time"),
            );
        } else {
            let known = &MODES[..if may_be_directory {
                MODES.len()
            } else {
                DISK_MODES
            }];
            let known: Vec<(&str, ())> = known.iter().map(|mode| (*mode, ())).collect();
            check.choice(&path, Some(mode), &known);
        }
    }
}

/// Bytes of the disk, in whole pages; of a directory as they are asked for.
fn size(
    resources: Option<&core::VolumeResourceRequirements>,
    is_directory: bool,
    check: &mut Check<'_>,
) -> Option<u64> {
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let path = join("spec.resources.requests", "storage");
    let Some(storage) = requests.and_then(|requests| requests.get("storage")) else {
        check.wrong(&path, "required: how much is asked for");
        return None;
    };
    let bytes = check.quantity(&path, &storage.0)?.units();
    if is_directory {
        if bytes == 0 {
            check.wrong(&path, "must be more than 0");
        }
        check.warn(
            &path,
            "a directory is bounded by the host's disk alone, not by this",
        );
        return Some(bytes);
    }
    if bytes < MIN_BYTES {
        check.wrong(
            &path,
            format!("{bytes} bytes are too little for a file system (8Mi)"),
        );
    }
    Some(bytes.div_ceil(4096).saturating_mul(4096))
}
