//! What the end of a pod means to whoever has stayed with it.

use crate::cli::error::StartError;
use crate::cli::{describe, exit};
use crate::engine::PodView;
use crate::plan::ContainerKind;
use crate::spec::{Bytes, PodSpec};
use crate::store::status::{ContainerState, Phase, PodStatus, UNKNOWN};

/// Why the pod failed, when that was no container's doing.
pub fn failure(pod: &PodView, status: &PodStatus, is_kept: bool) -> Option<StartError> {
    let blamed = status
        .containers
        .iter()
        .filter(|one| matches!(one.kind, ContainerKind::App | ContainerKind::Init))
        .any(|one| {
            matches!(&one.state, ContainerState::Terminated(end)
                if end.reason == "Error" || end.reason == "OOMKilled")
        });
    if status.phase != Phase::Failed || blamed {
        return None;
    }
    let from_container = status.containers.iter().find_map(|one| match &one.state {
        // What is said of a container whose machine has ended is no cause.
        ContainerState::Terminated(end) if end.reason != UNKNOWN => {
            let message = end.message.as_ref()?;
            Some(format!("container {:?}: {message}", one.name))
        }
        _ => None,
    });
    let vm_end = status.vm_end.as_ref();
    let message = from_container
        .or_else(|| status.message.clone())
        .or_else(|| vm_end.map(|end| end.detail.clone()))
        .or_else(|| status.reason.clone())
        .unwrap_or_else(|| "no cause is recorded".into());
    let console = vm_end
        .filter(|end| !describe::is_orderly(status, end))
        .map(|end| describe::tail(&end.console).join("\n"))
        .filter(|console| !console.is_empty());
    Some(StartError::PodFailed {
        is_kept,
        name: pod.name.clone(),
        message,
        advice: status.advice.clone(),
        console,
        code: match status.exit_code() {
            Some(code @ (exit::NOT_EXECUTABLE | exit::NOT_FOUND)) => exit::of_process(code),
            _ => exit::POD_FAILED,
        },
    })
}

/// How a pod ended whose containers have run, with the code of each that failed.
pub fn outcome(status: &PodStatus) -> String {
    let failed = status.containers.iter().filter_map(|one| match &one.state {
        ContainerState::Terminated(end) if end.exit_code != 0 => Some(format!(
            "container {:?} exited with {} ({})",
            one.name, end.exit_code, end.reason
        )),
        _ => None,
    });
    let failed: Vec<String> = failed.collect();
    match (status.phase, failed.as_slice()) {
        (Phase::Failed, []) => "failed".to_owned(),
        (Phase::Failed, failed) => format!("failed: {}", failed.join(", ")),
        _ => "succeeded".to_owned(),
    }
}

/// A line for each container that needed more memory than it may have: an exit
/// code of 137 alone does not say so.
pub fn out_of_memory(spec: &PodSpec, status: &PodStatus) -> Vec<String> {
    let killed = status.containers.iter().filter(
        |one| matches!(&one.state, ContainerState::Terminated(end) if end.reason == "OOMKilled"),
    );
    let lines = killed.map(|one| {
        let mut containers = spec.all_containers();
        let its = containers.find(|container| container.name == one.name);
        let limit = its.and_then(|container| container.resources.memory_limit);
        let why = match limit.or(spec.resources.memory_limit) {
            Some(limit) => format!("its memory limit is {}; give it more", Bytes(limit)),
            None => "the pod's machine has no more; give it a limit that says what it needs".into(),
        };
        let how = "resources.limits.memory, or `run --memory`";
        format!(
            "container {:?} was killed, out of memory: {why} ({how})",
            one.name
        )
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;
    use serde_json::json;

    #[test]
    fn who_was_killed_for_memory_is_told_with_the_limit() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  \
                    - {name: a, image: b, resources: {limits: {memory: 32Mi}}}\n  \
                    - {name: c, image: b}\n  - {name: d, image: b}\n";
        let spec = spec::parse("pod.yaml", text).unwrap().remove(0).spec;
        let one = |name: &str, reason: &str| {
            json!({"name": name, "kind": "app", "image": "b", "image_id": "", "id": null,
                   "state": {"state": "terminated", "exit_code": 137, "signal": 9,
                             "reason": reason, "message": null, "started": 1, "finished": 2},
                   "last_termination": null, "restarts": 0, "started": true, "ready": false})
        };
        let containers = json!([
            one("a", "OOMKilled"),
            one("c", "Error"),
            one("d", "OOMKilled")
        ]);
        let status = PodStatus {
            phase: Phase::Failed,
            containers: serde_json::from_value(containers).unwrap(),
            ..PodStatus::default()
        };
        assert_eq!(
            outcome(&status),
            "failed: container \"a\" exited with 137 (OOMKilled), \
             container \"c\" exited with 137 (Error), container \"d\" exited with 137 (OOMKilled)"
        );
        let lines = out_of_memory(&spec, &status);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("\"a\" was killed, out of memory: its memory limit is 32Mi"));
        assert!(lines[1].contains("\"d\" was killed, out of memory: the pod's machine"));
    }
}
