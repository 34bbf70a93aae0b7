//! Annotations by which podman is told what the fields of a Pod do not say.

use super::check::Check;
use super::yaml::join;
use std::collections::BTreeMap;

const PREFIX: &str = "io.podman.annotations.";

/// What podman notes of a container for itself, or what is so here anyway.
const NOTES: [&str; 11] = [
    "apparmor",
    "autoremove",
    "cid-file",
    "infra.name",
    "init",
    "label",
    "privileged",
    "publish-all",
    "seccomp",
    "service.name",
    "userns",
];

/// Tells of annotations that change a pod of podman and not one of ours. Refuses one
/// without which containers lack their files.
pub fn annotations(annotations: &BTreeMap<String, String>, check: &mut Check<'_>) {
    for (key, value) in annotations {
        // `NAME/CONTAINER`, or `NAME` for all.
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let name = name.split('/').next().unwrap_or_default();
        let path = join("metadata.annotations", key);
        match name {
            "volumes-from" => check.wrong(
                &path,
                format!(
                    "refused: only podman mounts what {value:?} mounts as well; \
                     write the volumeMounts of both containers"
                ),
            ),
            _ if NOTES.contains(&name) => {}
            _ => check.warn(&path, "is podman's and has no effect; see docs/podman.md"),
        }
    }
}
