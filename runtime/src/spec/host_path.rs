//! Volumes that are files and directories of the host.

use super::check::Check;
use super::config::{HostPathKind, VolumeSource};
use k8s_openapi::api::core::v1 as core;

/// What a type of Kubernetes means here.
#[derive(Clone, Copy)]
enum Meaning {
    Kind(HostPathKind),
    /// A thing of the host's kernel, which the pod's kernel cannot reach.
    OfTheKernel(&'static str),
}

const TYPES: [(&str, Meaning); 8] = [
    ("\"\"", Meaning::Kind(HostPathKind::Any)),
    (
        "DirectoryOrCreate",
        Meaning::Kind(HostPathKind::DirectoryOrCreate),
    ),
    ("Directory", Meaning::Kind(HostPathKind::Directory)),
    ("FileOrCreate", Meaning::Kind(HostPathKind::FileOrCreate)),
    ("File", Meaning::Kind(HostPathKind::File)),
    ("Socket", Meaning::OfTheKernel("a socket")),
    ("CharDevice", Meaning::OfTheKernel("a character device")),
    ("BlockDevice", Meaning::OfTheKernel("a block device")),
];

/// Converts a hostPath; whether it may be used is the plan's to say.
pub fn convert(path: &str, volume: &core::Volume, check: &mut Check<'_>) -> Option<VolumeSource> {
    let core::HostPathVolumeSource { path: place, type_ } = volume.host_path.as_ref()?;
    let base = format!("{path}.hostPath");
    if volume.empty_dir.is_some() {
        check.wrong(path, "a volume is of one kind only");
    }
    let at = format!("{base}.path");
    if place.is_empty() {
        check.wrong(&at, "required");
    } else if place.split('/').any(|part| part == "..") {
        check.wrong(&at, "must not contain '..'");
    } else if !place.starts_with('/') || place.contains('\0') {
        check.wrong(&at, format!("{place:?} is not an absolute path"));
    }
    let at = format!("{base}.type");
    let word = type_.as_deref().filter(|word| !word.is_empty());
    let kind = match check.choice(&at, word, &TYPES) {
        Meaning::Kind(kind) => kind,
        Meaning::OfTheKernel(what) => {
            let message = format!(
                "{what} of the host is an object of its kernel; a pod has a kernel of its own, \
                 which cannot reach it through a shared directory"
            );
            check.wrong(&at, message);
            HostPathKind::Any
        }
    };
    // One spelling: prefixes are compared by it.
    let parts = place.split('/').filter(|part| !matches!(*part, "" | "."));
    Some(VolumeSource::HostPath {
        path: format!("/{}", parts.collect::<Vec<_>>().join("/")),
        kind,
    })
}
