//! Containers of a pod.

use super::check::Check;
use super::config::{Volume, VolumeSource};
use super::types::{Container, PullPolicy, RestartPolicy, VolumeDevice, VolumeMount};
use super::yaml::join;
use super::{env, lifecycle, names, ports, probe, resize, resources, security};
use beluga_image::Reference;
use beluga_proto::container::Propagation;
use k8s_openapi::api::core::v1 as core;
use std::collections::BTreeSet;

/// What a container refers to.
pub struct Context<'a> {
    /// The pod's volumes.
    pub volumes: &'a [Volume],
    /// The names of all of the pod's containers.
    pub containers: &'a [&'a str],
    /// The pod's security context.
    pub security: &'a security::Shared,
    /// The pod names its operating system.
    pub has_os: bool,
    /// Seconds from the pod's stop signal to SIGKILL.
    pub grace_seconds: u32,
    /// When the pod's containers are started again.
    pub restart_policy: RestartPolicy,
}

/// Converts the containers of one list of the pod.
pub fn convert(
    list: &str,
    containers: &[core::Container],
    init: bool,
    context: &Context<'_>,
    check: &mut Check<'_>,
) -> Vec<Container> {
    containers
        .iter()
        .enumerate()
        .map(|(at, container)| one(&format!("{list}[{at}]"), container, init, context, check))
        .collect()
}

/// Converts one container.
#[expect(clippy::too_many_lines, reason = "every field of a container once")]
pub fn one(
    path: &str,
    container: &core::Container,
    init: bool,
    context: &Context<'_>,
    check: &mut Check<'_>,
) -> Container {
    all_fields(container);
    let policy = container.restart_policy.as_deref();
    let (restart_policy, sidecar) = lifecycle::restart(path, policy, init, check);
    let lifecycle = container.lifecycle.as_ref();
    let stop_signal = lifecycle.and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let owner = probe::Owner {
        container,
        ends: init && !sidecar,
        grace_seconds: context.grace_seconds,
    };
    check.shape(&join(path, "name"), &container.name, names::label);
    Container {
        name: container.name.clone(),
        image: image(path, container.image.as_deref().unwrap_or_default(), check),
        pull_policy: check.choice(
            &join(path, "imagePullPolicy"),
            container.image_pull_policy.as_deref(),
            &PullPolicy::ALL,
        ),
        command: words(path, "command", &container.command, check),
        args: words(path, "args", &container.args, check),
        working_dir: working_dir(path, container.working_dir.as_deref(), check),
        env_from: env::from_objects(
            path,
            container.env_from.as_deref().unwrap_or_default(),
            check,
        ),
        env: env::variables(
            path,
            container.env.as_deref().unwrap_or_default(),
            env::Around {
                own: &container.name,
                containers: context.containers,
                volumes: context.volumes,
            },
            check,
        ),
        ports: ports::convert(path, container.ports.as_deref().unwrap_or_default(), check),
        mounts: mounts(
            path,
            container.volume_mounts.as_deref().unwrap_or_default(),
            (context.volumes, is_privileged(container)),
            check,
        ),
        devices: devices(path, container, context.volumes, check),
        resources: resources::convert(path, container.resources.as_ref(), check),
        resize_restart: resize::policy(path, container, restart_policy, context, check),
        security: security::merge(
            &join(path, "securityContext"),
            container.security_context.as_ref(),
            context.security,
            check,
        ),
        stdin: container.stdin.unwrap_or_default(),
        stdin_once: container.stdin_once.unwrap_or_default(),
        tty: container.tty.unwrap_or_default(),
        sidecar,
        restart_policy,
        restart_rules: lifecycle::restart_rules(path, container, check),
        stop_signal: lifecycle::stop_signal(path, stop_signal, context.has_os, check),
        termination_message: lifecycle::termination_message(path, container, check),
        probes: probe::probes(path, &owner, check),
        hooks: probe::hooks(path, &owner, check),
        target: None,
        guest: None,
    }
}

fn is_privileged(container: &core::Container) -> bool {
    let context = container.security_context.as_ref();
    context.is_some_and(|context| context.privileged == Some(true))
}

/// Every field of a container is done elsewhere (`_`).
fn all_fields(container: &core::Container) {
    let core::Container {
        args: _,
        command: _,
        env: _,
        env_from: _,
        image: _,
        image_pull_policy: _,
        lifecycle: _,
        liveness_probe: _,
        name: _,
        ports: _,
        readiness_probe: _,
        resize_policy: _,
        resources: _,
        restart_policy: _,
        restart_policy_rules: _,
        security_context: _,
        startup_probe: _,
        stdin: _,
        stdin_once: _,
        termination_message_path: _,
        termination_message_policy: _,
        tty: _,
        volume_devices: _,
        volume_mounts: _,
        working_dir: _,
    } = container;
}

fn image(path: &str, text: &str, check: &mut Check<'_>) -> String {
    reference(&join(path, "image"), text, "run", check);
    text.to_owned()
}

/// Checks the name of an image to `verb`.
pub fn reference(path: &str, text: &str, verb: &str, check: &mut Check<'_>) {
    if text.is_empty() {
        check.wrong(path, format!("required: the image to {verb}"));
    } else if let Err(error) = text.parse::<Reference>() {
        check.wrong(path, error.to_string());
    }
}

/// The words of a command line, without what no program can be handed.
fn words(
    path: &str,
    field: &str,
    words: &Option<Vec<String>>,
    check: &mut Check<'_>,
) -> Vec<String> {
    for (at, word) in words.iter().flatten().enumerate() {
        if field == "command" && at == 0 && word.is_empty() {
            check.wrong(&format!("{path}.command[0]"), "\"\" is no program");
        }
        if word.contains('\0') {
            check.wrong(&format!("{path}.{field}[{at}]"), "contains a NUL character");
        }
    }
    words.clone().unwrap_or_default()
}

fn working_dir(path: &str, dir: Option<&str>, check: &mut Check<'_>) -> Option<String> {
    let dir = dir.filter(|dir| !dir.is_empty())?;
    let path = join(path, "workingDir");
    if !dir.starts_with('/') {
        check.wrong(&path, format!("{dir:?} is not an absolute path"));
    } else if dir.contains('\0') {
        check.wrong(&path, "contains a NUL character");
    }
    Some(dir.to_owned())
}

fn mounts(
    path: &str,
    list: &[core::VolumeMount],
    (volumes, privileged): (&[Volume], bool),
    check: &mut Check<'_>,
) -> Vec<VolumeMount> {
    let mut taken = BTreeSet::new();
    let mut out = Vec::new();
    for (at, mount) in list.iter().enumerate() {
        let core::VolumeMount {
            mount_path,
            mount_propagation,
            name,
            read_only,
            recursive_read_only,
            sub_path,
            sub_path_expr,
        } = mount;
        let path = format!("{path}.volumeMounts[{at}]");
        let propagation = propagation(
            &join(&path, "mountPropagation"),
            mount_propagation.as_deref(),
            volumes.iter().find(|volume| volume.name == *name),
            privileged,
            check,
        );
        let read_only_below = recursive_read_only.as_deref();
        self::read_only_below(&path, read_only_below, (*read_only, propagation), check);
        if name.is_empty() {
            check.wrong(&join(&path, "name"), "required: the volume's name");
        } else if !volumes.iter().any(|volume| volume.name == *name) {
            check.wrong(
                &join(&path, "name"),
                format!("{name:?} is not a volume of the pod (spec.volumes declares them)"),
            );
        }
        let mount_path = destination(&join(&path, "mountPath"), mount_path, &mut taken, check);
        let inside = [("subPath", sub_path), ("subPathExpr", sub_path_expr)];
        let [sub_path, sub_path_expr] = inside.map(|(field, given)| {
            let given = given.clone().filter(|given| !given.is_empty())?;
            check.shape(&join(&path, field), &given, names::sub_path);
            Some(given)
        });
        if sub_path.is_some() && sub_path_expr.is_some() {
            check.wrong(
                &join(&path, "subPathExpr"),
                "cannot be used together with subPath",
            );
        }
        out.push(VolumeMount {
            volume: name.clone(),
            path: mount_path,
            sub_path,
            sub_path_expr,
            read_only: read_only.unwrap_or_default(),
            propagation,
        });
    }
    out
}

/// A mount that is read-only is so with all that is mounted below it.
fn read_only_below(
    path: &str,
    kind: Option<&str>,
    (read_only, propagation): (Option<bool>, Propagation),
    check: &mut Check<'_>,
) {
    let path = join(path, "recursiveReadOnly");
    let kinds = [("Disabled", false), ("IfPossible", true), ("Enabled", true)];
    if !check.choice(&path, kind, &kinds) {
        return;
    }
    if read_only != Some(true) {
        check.wrong(&path, "may only be used together with readOnly: true");
    }
    if !propagation.is_none() {
        check.wrong(&path, "may only be used with the mountPropagation None");
    }
}

/// Disks that the container sees as devices; whether the claim is such a disk
/// is known when its object is.
fn devices(
    path: &str,
    container: &core::Container,
    volumes: &[Volume],
    check: &mut Check<'_>,
) -> Vec<VolumeDevice> {
    let list = container.volume_devices.as_deref().unwrap_or_default();
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let mut taken = BTreeSet::new();
    let mut out: Vec<VolumeDevice> = Vec::new();
    for (at, core::VolumeDevice { device_path, name }) in list.iter().enumerate() {
        let path = format!("{path}.volumeDevices[{at}]");
        let volume = volumes.iter().find(|volume| volume.name == *name);
        let at = join(&path, "name");
        match volume.map(|volume| &volume.source) {
            _ if name.is_empty() => check.wrong(&at, "required: the volume's name"),
            None => check.wrong(
                &at,
                format!("{name:?} is not a volume of the pod (spec.volumes declares them)"),
            ),
            Some(VolumeSource::Claim { .. } | VolumeSource::Ephemeral { .. }) => {}
            Some(_) => check.wrong(
                &at,
                "only a persistentVolumeClaim can be a device (its volumeMode is Block)",
            ),
        }
        if out.iter().any(|one| one.volume == *name) {
            check.wrong(
                &at,
                format!("{name:?} is a device of the container already"),
            );
        }
        if mounts.iter().any(|mount| mount.name == *name) {
            check.wrong(&at, format!("{name:?} is among the volumeMounts already"));
        }
        let at = join(&path, "devicePath");
        let device_path = destination(&at, device_path, &mut taken, check);
        let is_mount = |mount: &core::VolumeMount| {
            let parts = mount.mount_path.split('/').filter(|part| !part.is_empty());
            parts.eq(device_path.split('/').filter(|part| !part.is_empty()))
        };
        if mounts.iter().any(is_mount) {
            check.wrong(&at, "a volume is mounted there already");
        }
        out.push(VolumeDevice {
            volume: name.clone(),
            path: device_path,
        });
    }
    out
}

/// Whether mounts made later show. They pass between the containers of a pod; in
/// a machine of its own, nobody else's do.
fn propagation(
    path: &str,
    kind: Option<&str>,
    volume: Option<&Volume>,
    privileged: bool,
    check: &mut Check<'_>,
) -> Propagation {
    let kinds = [
        ("None", Propagation::None),
        ("HostToContainer", Propagation::HostToContainer),
        ("Bidirectional", Propagation::Bidirectional),
    ];
    let chosen = check.choice(path, kind, &kinds);
    let is_host =
        volume.is_some_and(|volume| matches!(volume.source, VolumeSource::HostPath { .. }));
    match chosen {
        Propagation::HostToContainer if is_host => check.wrong(
            path,
            "HostToContainer is not supported: what is mounted on the host later does not reach a \
             pod's machine",
        ),
        Propagation::Bidirectional if is_host => check.wrong(
            path,
            "Bidirectional is not supported: what a pod mounts stays in its machine",
        ),
        // The sentence of an API server.
        Propagation::Bidirectional if !privileged => check.wrong(
            path,
            "Bidirectional mount propagation is available only to privileged containers",
        ),
        _ => {}
    }
    chosen
}

/// A mount's place: absolute, without doubled or trailing slashes, used once.
fn destination(
    path: &str,
    text: &str,
    taken: &mut BTreeSet<String>,
    check: &mut Check<'_>,
) -> String {
    if text.is_empty() {
        check.wrong(path, "required: where the volume goes");
        return String::new();
    }
    if text.contains([':', '\0']) {
        check.wrong(path, "must not contain ':' or NUL");
    }
    let parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = parts.collect();
    if parts.is_empty() || parts.contains(&"..") {
        check.wrong(path, format!("{text:?} is not a place for a volume"));
    }
    // As the kubelet does with a relative one.
    let absolute = format!("/{}", parts.join("/"));
    if parts.first() == Some(&"proc") {
        check.wrong(path, "nothing can be mounted over or into /proc");
    }
    if !taken.insert(absolute.clone()) {
        check.wrong(
            path,
            format!("another volume is mounted at {absolute:?} already"),
        );
    }
    absolute
}
