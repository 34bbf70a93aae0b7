//! Ephemeral containers: put beside the others while they run.

use super::check::Check;
use super::container::{self, Context};
use super::pod::some;
use super::types::Container;
use super::yaml::join;
use k8s_openapi::api::core::v1 as core;

/// The list of the pod.
pub const FIELD: &str = "spec.ephemeralContainers";

/// Path of a field of one of them.
pub fn path(at: usize, field: &str) -> String {
    format!("{FIELD}[{at}].{field}")
}

/// Converts them; what only lasting containers have is refused, in an API
/// server's words.
pub fn convert(
    list: &[core::EphemeralContainer],
    context: &Context<'_>,
    check: &mut Check<'_>,
) -> Vec<Container> {
    let numbered = list.iter().enumerate();
    numbered
        .map(|(at, ephemeral)| {
            let own = format!("{FIELD}[{at}]");
            let target = target(&own, ephemeral, context, check);
            let plain = plain(&own, ephemeral.clone(), check);
            Container {
                target,
                ..container::one(&own, &plain, false, context, check)
            }
        })
        .collect()
}

fn target(
    path: &str,
    ephemeral: &core::EphemeralContainer,
    context: &Context<'_>,
    check: &mut Check<'_>,
) -> Option<String> {
    let target = ephemeral.target_container_name.clone();
    let target = target.filter(|name| !name.is_empty())?;
    if !context.containers.contains(&target.as_str()) {
        let message = format!("{target:?} is not a container of the pod");
        check.wrong(&join(path, "targetContainerName"), message);
    }
    Some(target)
}

/// The same without a target, as any other container.
#[expect(
    clippy::too_many_lines,
    reason = "every field of a container once, three times: taken, refused, given"
)]
fn plain(
    path: &str,
    ephemeral: core::EphemeralContainer,
    check: &mut Check<'_>,
) -> core::Container {
    let core::EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        target_container_name: _,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = ephemeral;
    for (field, is_set) in [
        ("lifecycle", lifecycle.is_some()),
        ("livenessProbe", liveness_probe.is_some()),
        ("ports", some(&ports)),
        ("readinessProbe", readiness_probe.is_some()),
        ("resizePolicy", some(&resize_policy)),
        (
            "resources",
            resources.is_some_and(|one| one != Default::default()),
        ),
        ("restartPolicy", restart_policy.is_some()),
        ("restartPolicyRules", some(&restart_policy_rules)),
        ("startupProbe", startup_probe.is_some()),
        ("volumeDevices", some(&volume_devices)),
    ] {
        if is_set {
            check.wrong(
                &join(path, field),
                "cannot be set for an Ephemeral Container",
            );
        }
    }
    for (at, mount) in volume_mounts.iter().flatten().enumerate() {
        for (field, is_set) in [
            ("subPath", &mount.sub_path),
            ("subPathExpr", &mount.sub_path_expr),
        ] {
            if is_set.as_ref().is_some_and(|path| !path.is_empty()) {
                let field = format!("{path}.volumeMounts[{at}].{field}");
                check.wrong(&field, "cannot be set for an Ephemeral Container");
            }
        }
    }
    core::Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        name,
        security_context,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_mounts,
        working_dir,
        ..core::Container::default()
    }
}
