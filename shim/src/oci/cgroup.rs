//! Where a bundle wants its cgroup, which says where its pod's is to be.

use super::Note;
use crate::error::ShimError;
use beluga_runtime::spec::parent_cgroup;
use oci_spec::runtime::Linux;
use std::path::{Path, PathBuf};

/// The parent of the sandbox's cgroup: what a kubelet has made for the pod. Nothing
/// where nobody has asked for one; containerd writes its namespace then.
pub(super) fn parent(linux: &Linux, note: &Note) -> Result<Option<PathBuf>, ShimError> {
    let Some(path) = linux.cgroups_path() else {
        return Ok(None);
    };
    let text = path.display().to_string();
    // The driver of systemd has `SLICE:PREFIX:NAME`.
    let parent = match text.split_once(':').filter(|_| path.is_relative()) {
        Some((slice, _)) => slice.to_owned(),
        None => path.parent().unwrap_or(Path::new("")).display().to_string(),
    };
    let found = parent_cgroup(&parent).map_err(|error| ShimError::Invalid {
        field: "linux.cgroupsPath",
        why: error.to_string(),
    })?;
    Ok(found.filter(|parent| *parent != Path::new(&note.namespace)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_lies_where_its_sandbox_is_to_lie() {
        let found = |path: &str| {
            let linux = serde_json::json!({ "cgroupsPath": path });
            let linux: Linux = serde_json::from_value(linux).unwrap();
            let note = Note {
                containerd: String::new(),
                namespace: "k8s.io".to_owned(),
                task: "id".to_owned(),
            };
            parent(&linux, &note).map(|found| found.unwrap_or_default().display().to_string())
        };
        assert_eq!(found("/kubepods/podx/id").unwrap(), "kubepods/podx");
        let slices = "kubepods.slice/kubepods-podx.slice";
        assert_eq!(
            found("kubepods-podx.slice:cri-containerd:id").unwrap(),
            slices
        );
        for nowhere in ["/k8s.io/id", "/id", ":cri-containerd:id", "-.slice:x:id"] {
            assert_eq!(found(nowhere).unwrap(), "", "{nowhere}");
        }
        assert!(found("/a/../id").is_err());
    }
}
