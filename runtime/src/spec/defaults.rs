//! What an API server fills in where a manifest says nothing.

use super::files::DEFAULT_MODE;
use k8s_openapi::api::core::v1::{
    Container, ContainerResizePolicy, EmptyDirVolumeSource, HTTPGetAction, Pod, Probe, Volume,
};

/// Seconds from the stop signal to SIGKILL.
const GRACE_SECONDS: i64 = 30;

/// Where a container leaves its last message.
const MESSAGE_PATH: &str = "/dev/termination-log";

/// Fills in the defaults of Kubernetes, so that `get -o yaml` shows a whole pod.
pub fn apply(pod: &mut Pod) {
    let namespace = &mut pod.metadata.namespace;
    if namespace.as_deref().unwrap_or_default().is_empty() {
        *namespace = Some("default".into());
    }
    let Some(spec) = &mut pod.spec else { return };
    fill(&mut spec.restart_policy, "Always");
    fill(&mut spec.dns_policy, "ClusterFirst");
    spec.termination_grace_period_seconds
        .get_or_insert(GRACE_SECONDS);
    for container in spec.init_containers.iter_mut().flatten() {
        container_defaults(container);
    }
    for container in &mut spec.containers {
        container_defaults(container);
    }
    for one in spec.ephemeral_containers.iter_mut().flatten() {
        fill(&mut one.termination_message_path, MESSAGE_PATH);
        fill(&mut one.termination_message_policy, "File");
        pull_policy(one.image.as_deref(), &mut one.image_pull_policy);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        let bare = Volume {
            name: volume.name.clone(),
            ..Volume::default()
        };
        if *volume == bare {
            volume.empty_dir = Some(EmptyDirVolumeSource::default());
        }
        if let Some(image) = &mut volume.image {
            pull_policy(image.reference.as_deref(), &mut image.pull_policy);
        }
        if let Some(host_path) = &mut volume.host_path {
            host_path.type_.get_or_insert_default();
        }
        let modes = [
            volume.config_map.as_mut().map(|one| &mut one.default_mode),
            volume.secret.as_mut().map(|one| &mut one.default_mode),
            volume
                .downward_api
                .as_mut()
                .map(|one| &mut one.default_mode),
            volume.projected.as_mut().map(|one| &mut one.default_mode),
        ];
        for mode in modes.into_iter().flatten() {
            mode.get_or_insert(DEFAULT_MODE);
        }
    }
}

fn pull_policy(image: Option<&str>, policy: &mut Option<String>) {
    match image {
        Some(image) if is_latest(image) => fill(policy, "Always"),
        Some(_) => fill(policy, "IfNotPresent"),
        None => {}
    }
}

fn container_defaults(container: &mut Container) {
    fill(&mut container.termination_message_path, MESSAGE_PATH);
    fill(&mut container.termination_message_policy, "File");
    pull_policy(container.image.as_deref(), &mut container.image_pull_policy);
    let probes = [
        &mut container.startup_probe,
        &mut container.readiness_probe,
        &mut container.liveness_probe,
    ];
    probes.into_iter().flatten().for_each(probe_defaults);
    if let Some(lifecycle) = &mut container.lifecycle {
        let hooks = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
        for hook in hooks.into_iter().flatten() {
            hook.http_get.iter_mut().for_each(http_defaults);
        }
    }
    for port in container.ports.iter_mut().flatten() {
        fill(&mut port.protocol, "TCP");
    }
    resize_policy(container);
    if let Some(resources) = &mut container.resources
        && let Some(limits) = &resources.limits
    {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests
                .entry(name.clone())
                .or_insert_with(|| limit.clone());
        }
    }
}

/// For what a container asks for or may use: a change needs no restart.
fn resize_policy(container: &mut Container) {
    let Some(resources) = &container.resources else {
        return;
    };
    let maps = [&resources.requests, &resources.limits];
    let named = |name: &str| {
        maps.iter()
            .any(|map| map.iter().any(|map| map.contains_key(name)))
    };
    for name in ["cpu", "memory"].into_iter().filter(|name| named(name)) {
        let list = container.resize_policy.get_or_insert_default();
        if !list.iter().any(|one| one.resource_name == name) {
            list.push(ContainerResizePolicy {
                resource_name: name.to_owned(),
                restart_policy: "NotRequired".to_owned(),
            });
        }
    }
}

fn probe_defaults(probe: &mut Probe) {
    for (field, value) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if field.unwrap_or_default() == 0 {
            *field = Some(value);
        }
    }
    probe.http_get.iter_mut().for_each(http_defaults);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http_defaults(get: &mut HTTPGetAction) {
    fill(&mut get.path, "/");
    fill(&mut get.scheme, "HTTP");
}

/// Whether an image reference has no digest and no tag but `latest`.
#[must_use]
pub fn is_latest(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn fill(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_a_registry_is_no_tag() {
        assert!(is_latest("busybox") && is_latest("busybox:latest"));
        assert!(is_latest("localhost:5000/busybox"));
        assert!(!is_latest("localhost:5000/busybox:1.36"));
        assert!(!is_latest("busybox@sha256:00"));
    }
}
