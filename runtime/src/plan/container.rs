//! What the agent is told of each container.

use super::downward::Facts;
use super::layers::Layers;
use super::size::weight;
use super::types::{ContainerKind, ContainerPlan, ContainerTemplate, ImageFacts};
use super::{PlanError, command, memory, probes, seccomp, signal};
use crate::spec::{
    Container, ContainerSecurity, PodSpec, Probe, Resources, RestartPolicy, SHARED, SeccompChoice,
    VolumeSource,
};
use beluga_proto::ExecSpec;
use beluga_proto::capability::{CAPABILITIES, DEFAULT_CAPABILITIES};
use beluga_proto::container::{
    CgroupLimits, CoveredPaths, DeviceSpec, MountSpec, Rlimit, RootSpec, Seccomp, TerminalSize,
    UserSpec,
};
use beluga_proto::variable::is_waiting;
use std::collections::BTreeMap;

/// A terminal's size until a client tells its own.
const TERMINAL: TerminalSize = TerminalSize { rows: 24, cols: 80 };

/// Microseconds per period of `cpu.max`.
const CPU_PERIOD_MICROS: u64 = 100_000;

/// Smallest quota that the kernel takes, in microseconds.
const MIN_QUOTA_MICROS: u64 = 1_000;

/// Plans those containers of which `is_wanted` says so, init containers first.
pub fn plan(
    facts: &Facts<'_>,
    images: &BTreeMap<String, ImageFacts>,
    layers: &mut Layers,
    is_wanted: impl Fn(&Container) -> bool,
) -> Result<Vec<ContainerPlan>, PlanError> {
    let spec = facts.spec;
    let mut found = Vec::new();
    // All layers are counted before one is refused, so that the error knows how many.
    for (at, container) in spec.all_containers().enumerate() {
        if !is_wanted(container) {
            continue;
        }
        let image = images
            .get(&container.image)
            .ok_or_else(|| PlanError::Image {
                container: container.name.clone(),
                image: container.image.clone(),
            })?;
        found.push((at, container, image, layers.add(&image.layers)));
    }
    let inits = spec.init_containers.len();
    let own = inits + spec.containers.len();
    found
        .into_iter()
        .map(|(at, container, image, places)| {
            let (kind, restart) = if at < own {
                kind(spec, container, at < inits)
            } else {
                (ContainerKind::Ephemeral, RestartPolicy::Never)
            };
            let partitions = layers.check(&places)?;
            let grace = |probe: &Option<Probe>| probe.as_ref().and_then(|one| one.grace_seconds);
            Ok(ContainerPlan {
                kind,
                image: container.image.clone(),
                image_id: image.id.clone(),
                template: template(facts, container, image, partitions)?,
                stop_signal: signal::stop(container, image)?,
                restart,
                restart_rules: container.restart_rules.clone(),
                message_or_output: container.termination_message.or_output,
                hooks: container.hooks.clone(),
                startup_grace_seconds: grace(&container.probes.startup),
                liveness_grace_seconds: grace(&container.probes.liveness),
                stdin_once: container.stdin_once,
                resources: container.resources.clone(),
                log: container.guest.as_ref().and_then(|one| one.log.clone()),
                fifos: container.guest.as_ref().and_then(|one| one.fifos.clone()),
            })
        })
        .collect()
}

fn kind(spec: &PodSpec, container: &Container, init: bool) -> (ContainerKind, RestartPolicy) {
    match (init, container.sidecar) {
        (true, true) => (ContainerKind::Sidecar, RestartPolicy::Always),
        (true, false) => (
            ContainerKind::Init,
            match container.restart_policy.unwrap_or(spec.restart_policy) {
                RestartPolicy::Never => RestartPolicy::Never,
                // One that has ended well is never run again.
                RestartPolicy::Always | RestartPolicy::OnFailure => RestartPolicy::OnFailure,
            },
        ),
        (false, _) => (
            ContainerKind::App,
            container.restart_policy.unwrap_or(spec.restart_policy),
        ),
    }
}

fn template(
    facts: &Facts<'_>,
    container: &Container,
    image: &ImageFacts,
    layers: Vec<u8>,
) -> Result<ContainerTemplate, PlanError> {
    let security = &container.security;
    let own_pids = container.guest.as_ref().and_then(|one| one.pids_max);
    Ok(ContainerTemplate {
        name: container.name.clone(),
        layers,
        writable_limit: container.resources.storage_limit,
        read_only_root: security.read_only_root,
        process: process(facts, container, image)?,
        file_variables: command::file_variables(container),
        mounts: mounts(facts, container)?,
        devices: devices(facts.spec, container),
        cgroup: CgroupLimits {
            pids_max: own_pids.or(facts.pids_max),
            ..own_limits(facts.spec, container, memory::throttling(facts))
        },
        privileged: security.privileged,
        mask_paths: !security.privileged && !security.unmasked_proc,
        covered: if security.privileged {
            CoveredPaths::default()
        } else {
            security.covered.clone()
        },
        termination_log: Some(container.termination_message.path.clone())
            .filter(|path| !path.is_empty()),
        probes: probes::plan(container, &command::own(facts, container)?),
        target: container.target.clone(),
        own_processes: container
            .guest
            .as_ref()
            .is_some_and(|guest| guest.own_processes),
        root: container.guest.as_ref().and_then(|guest| {
            guest.root.is_some().then(|| RootSpec {
                volume: SHARED.to_owned(),
                directory: root_entry(&container.name),
            })
        }),
    })
}

/// Where in the shared directory the root file system of a container is mounted.
#[must_use]
pub fn root_entry(name: &str) -> String {
    format!("{name}-root")
}

fn process(
    facts: &Facts<'_>,
    container: &Container,
    image: &ImageFacts,
) -> Result<ExecSpec, PlanError> {
    let env = command::environment(facts, container, image)?;
    let args = command::arguments(container, image, &env.own);
    if args.first().is_none_or(String::is_empty) {
        return Err(PlanError::NoCommand {
            container: container.name.clone(),
            image: container.image.clone(),
        });
    }
    let security = &container.security;
    let cwd = container
        .working_dir
        .as_deref()
        .or(Some(image.working_dir.as_str()).filter(|dir| dir.starts_with('/')))
        .unwrap_or("/");
    Ok(ExecSpec {
        args,
        env: env.lines,
        cwd: cwd.to_owned(),
        user: UserSpec {
            image_user: image.user.clone(),
            uid: security.run_as.user,
            gid: security.run_as.group,
            supplementary: groups(facts.spec, container),
            refuse_root: security.run_as.non_root,
            strict_groups: facts.spec.strict_groups
                || container
                    .guest
                    .as_ref()
                    .is_some_and(|one| one.strict_groups),
        },
        capabilities: capabilities(security),
        no_new_privileges: !security.allow_privilege_escalation,
        seccomp: filter(facts, container)?,
        rlimits: rlimits(container),
        oom_score_adj: memory::oom_score_adj(facts, container),
        tty: container.tty.then_some(TERMINAL),
        stdin: container.stdin,
    })
}

fn rlimits(container: &Container) -> Vec<Rlimit> {
    let given = container.guest.iter().flat_map(|guest| &guest.rlimits);
    let mut rlimits: Vec<Rlimit> = given.cloned().collect();
    if rlimits.iter().all(|one| one.name != "nofile") {
        rlimits.push(Rlimit {
            name: "nofile".into(),
            soft: 1024,
            hard: 1 << 20,
        });
    }
    rlimits
}

/// The system-call filter. The kubelet's default is none; ours is the agent's
/// profile, for all but those who are to have every right.
fn filter(facts: &Facts<'_>, container: &Container) -> Result<Seccomp, PlanError> {
    let security = &container.security;
    let (profile, given) = match &security.seccomp {
        _ if security.privileged => return Ok(Seccomp::Unconfined),
        Some(SeccompChoice::Unconfined) => return Ok(Seccomp::Unconfined),
        Some(SeccompChoice::RuntimeDefault) | None => return Ok(Seccomp::RuntimeDefault),
        Some(SeccompChoice::Localhost(profile)) => (profile.as_str(), None),
        Some(SeccompChoice::Given(text)) => ("linux.seccomp", Some(text)),
    };
    let profiles = facts.host.map(|host| &host.seccomp);
    let text = given.or_else(|| profiles.and_then(|profiles| profiles.get(profile)));
    let text = text.ok_or_else(|| PlanError::NoSeccomp {
        container: container.name.clone(),
        profile: profile.to_owned(),
    })?;
    let compiled = seccomp::compile(text, &capabilities(security));
    match compiled {
        Ok(program) => Ok(Seccomp::Filter { program }),
        Err(source) => Err(PlanError::Seccomp {
            container: container.name.clone(),
            profile: profile.to_owned(),
            source,
        }),
    }
}

/// Groups of every process; the one that owns the volumes is among them.
fn groups(spec: &PodSpec, container: &Container) -> Vec<u32> {
    let mut groups = spec.supplemental_groups.clone();
    groups.extend(container.guest.iter().flat_map(|one| &one.groups));
    if let Some(owner) = spec.fs_group
        && !groups.contains(&owner)
    {
        groups.push(owner);
    }
    groups
}

/// Mounts in order of depth, so that none hides one inside it.
fn mounts(facts: &Facts<'_>, container: &Container) -> Result<Vec<MountSpec>, PlanError> {
    // What the kubelet fills nobody else may write to.
    let is_filled = |name: &str| {
        let mut volumes = facts.spec.volumes.iter();
        volumes.any(|volume| {
            let is_fixed = match volume.source {
                VolumeSource::Files { .. } | VolumeSource::Image { .. } => true,
                VolumeSource::Claim { read_only, .. } => read_only,
                VolumeSource::EmptyDir { .. }
                | VolumeSource::Ephemeral { .. }
                | VolumeSource::HostPath { .. } => false,
            };
            volume.name == name && is_fixed
        })
    };
    let variables = command::own(facts, container)?;
    let mut mounts = Vec::with_capacity(container.mounts.len());
    for mount in &container.mounts {
        let sub_path = match &mount.sub_path_expr {
            Some(expression) => Some(sub_path(container, expression, &variables)?),
            None => mount.sub_path.clone(),
        };
        mounts.push(MountSpec {
            volume: mount.volume.clone(),
            destination: mount.path.clone(),
            sub_path,
            read_only: mount.read_only || is_filled(&mount.volume),
            propagation: mount.propagation,
        });
    }
    mounts.sort_by_key(|mount| mount.destination.matches('/').count());
    Ok(mounts)
}

/// Disks as devices; what nobody may write to is one to read.
fn devices(spec: &PodSpec, container: &Container) -> Vec<DeviceSpec> {
    let is_read_only = |name: &str| {
        let mut volumes = spec.volumes.iter();
        let found = volumes.find(|volume| volume.name == name);
        let source = found.map(|volume| &volume.source);
        matches!(
            source,
            Some(VolumeSource::Claim {
                read_only: true,
                ..
            })
        )
    };
    let devices = container.devices.iter().map(|device| DeviceSpec {
        volume: device.volume.clone(),
        destination: device.path.clone(),
        read_only: is_read_only(&device.volume),
    });
    devices.collect()
}

/// A subPathExpr with its variables in it. One that names a variable which is
/// not there is refused, as the kubelet does: the directory would be shared
/// with others that lack it.
fn sub_path(
    container: &Container,
    expression: &str,
    variables: &BTreeMap<String, String>,
) -> Result<String, PlanError> {
    let path = command::expand(expression, variables);
    let refuse = |why: &str| PlanError::SubPath {
        container: container.name.clone(),
        expression: expression.to_owned(),
        why: why.to_owned(),
    };
    if path.contains("$(") {
        return Err(refuse("a variable in it is not set"));
    }
    if is_waiting(&path) {
        return Err(refuse(
            "a variable in it is read from a file at the start only",
        ));
    }
    crate::spec::sub_path(&path).map_err(refuse)?;
    Ok(path)
}

/// What the cgroup of a container is told. Who asks for no CPU time has the least
/// weight there is, as the kubelet has it, and not the kernel's default, which is
/// that of a whole CPU; what comes to a sandbox says its weight itself.
pub fn own_limits(
    spec: &PodSpec,
    container: &Container,
    throttling: Option<memory::Throttling>,
) -> CgroupLimits {
    let own = limits(&container.resources, throttling);
    let least = spec.sandbox.is_none().then(|| weight(0));
    let high = container.guest.as_ref().and_then(|one| one.memory_high);
    CgroupLimits {
        cpu_weight: own.cpu_weight.or(least),
        memory_high: high.or(own.memory_high),
        ..own
    }
}

/// What a cgroup is told of some amounts.
pub fn limits(resources: &Resources, throttling: Option<memory::Throttling>) -> CgroupLimits {
    CgroupLimits {
        cpu_quota_micros: resources
            .cpu_limit_milli
            .map(|milli| (milli.saturating_mul(CPU_PERIOD_MICROS) / 1000).max(MIN_QUOTA_MICROS)),
        cpu_weight: resources.cpu_request_milli.map(weight),
        memory_max: resources.memory_limit,
        memory_low: resources.memory_request,
        memory_high: throttling.and_then(|one| one.high(resources)),
        pids_max: None,
    }
}

/// The final list in the order of the capabilities' numbers.
fn capabilities(security: &ContainerSecurity) -> Vec<String> {
    let all = CAPABILITIES.iter().copied();
    let wanted: Vec<&str> = if security.privileged {
        all.collect()
    } else {
        let (add, drop) = (&security.add_capabilities, &security.drop_capabilities);
        all.filter(|name| {
            // What is named wins over ALL, on either side.
            if drop.contains(*name) {
                false
            } else if add.contains(*name) {
                true
            } else if drop.contains("ALL") {
                false
            } else {
                add.contains("ALL") || DEFAULT_CAPABILITIES.contains(name)
            }
        })
        .collect()
    };
    wanted.iter().map(|name| format!("CAP_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_added_and_dropped() {
        let set = |add: &[&str], drop: &[&str]| {
            capabilities(&ContainerSecurity {
                add_capabilities: add.iter().map(|name| (*name).to_owned()).collect(),
                drop_capabilities: drop.iter().map(|name| (*name).to_owned()).collect(),
                ..ContainerSecurity::default()
            })
        };
        assert_eq!(set(&[], &[]).len(), 14);
        assert_eq!(set(&["NET_ADMIN"], &["ALL"]), ["CAP_NET_ADMIN"]);
        assert_eq!(set(&["ALL"], &[]).len(), 41);
        assert_eq!(set(&["ALL"], &["SYS_ADMIN"]).len(), 40);
        assert!(!set(&[], &["KILL"]).contains(&"CAP_KILL".to_owned()));
    }
}
