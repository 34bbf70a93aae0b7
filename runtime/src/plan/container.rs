//! What the agent is told of each container.

use super::layers::Layers;
use super::size::weight;
use super::types::{ContainerKind, ContainerPlan, ContainerTemplate, Identity, ImageFacts};
use super::{PlanError, guest};
use crate::spec::{
    CAPABILITIES, Container, ContainerSecurity, PodSpec, RestartPolicy, SeccompChoice,
};
use beluga_proto::ExecSpec;
use beluga_proto::container::{CgroupLimits, MountSpec, Rlimit, Seccomp, TerminalSize, UserSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Where programs are looked for when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A terminal's size until a client tells its own.
const TERMINAL: TerminalSize = TerminalSize { rows: 24, cols: 80 };

/// Microseconds per period of `cpu.max`.
const CPU_PERIOD_MICROS: u64 = 100_000;

/// Smallest quota that the kernel takes, in microseconds.
const MIN_QUOTA_MICROS: u64 = 1_000;

/// What a container may do that asks for nothing: containerd's default.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Plans all containers, init containers first.
pub fn plan(
    spec: &PodSpec,
    images: &BTreeMap<String, ImageFacts>,
    identity: &Identity,
    layers: &mut Layers,
) -> Result<Vec<ContainerPlan>, PlanError> {
    let mut found = Vec::new();
    // All layers are counted before one is refused, so that the error knows how many.
    for container in spec.all_containers() {
        let image = images
            .get(&container.image)
            .ok_or_else(|| PlanError::Image {
                container: container.name.clone(),
                image: container.image.clone(),
            })?;
        found.push((container, image, layers.add(&image.layers)));
    }
    let inits = spec.init_containers.len();
    found
        .into_iter()
        .enumerate()
        .map(|(at, (container, image, places))| {
            let (kind, restart) = kind(spec, container, at < inits);
            let partitions = layers.check(&places)?;
            Ok(ContainerPlan {
                kind,
                image: container.image.clone(),
                image_id: image.id.clone(),
                template: template(spec, container, image, identity, partitions)?,
                stop_signal: stop_signal(container, image)?,
                restart,
                stdin_once: container.stdin_once,
            })
        })
        .collect()
}

fn kind(spec: &PodSpec, container: &Container, init: bool) -> (ContainerKind, RestartPolicy) {
    match (init, container.sidecar) {
        (true, true) => (ContainerKind::Sidecar, RestartPolicy::Always),
        (true, false) => (
            ContainerKind::Init,
            match spec.restart_policy {
                RestartPolicy::Never => RestartPolicy::Never,
                // One that has ended well is never run again.
                RestartPolicy::Always | RestartPolicy::OnFailure => RestartPolicy::OnFailure,
            },
        ),
        (false, _) => (ContainerKind::App, spec.restart_policy),
    }
}

fn template(
    spec: &PodSpec,
    container: &Container,
    image: &ImageFacts,
    identity: &Identity,
    layers: Vec<u8>,
) -> Result<ContainerTemplate, PlanError> {
    let security = &container.security;
    Ok(ContainerTemplate {
        name: container.name.clone(),
        layers,
        writable_limit: container.resources.storage_limit,
        read_only_root: security.read_only_root,
        process: process(spec, container, image, identity)?,
        mounts: mounts(container),
        cgroup: limits(container),
        privileged: security.privileged,
        mask_paths: !security.privileged,
    })
}

fn process(
    spec: &PodSpec,
    container: &Container,
    image: &ImageFacts,
    identity: &Identity,
) -> Result<ExecSpec, PlanError> {
    let (env, own) = environment(spec, container, image, identity);
    let args = arguments(container, image, &own);
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
        env,
        cwd: cwd.to_owned(),
        user: UserSpec {
            image_user: image.user.clone(),
            uid: security.run_as.user,
            gid: security.run_as.group,
            supplementary: spec.supplemental_groups.clone(),
            refuse_root: security.run_as.non_root,
        },
        capabilities: capabilities(security),
        no_new_privileges: !security.allow_privilege_escalation,
        seccomp: match security.seccomp {
            // The kubelet's default is no filter; ours is the profile, for all
            // but those who are to have every right.
            _ if security.privileged => Seccomp::Unconfined,
            Some(SeccompChoice::Unconfined) => Seccomp::Unconfined,
            Some(SeccompChoice::RuntimeDefault) | None => Seccomp::RuntimeDefault,
        },
        rlimits: vec![Rlimit {
            name: "nofile".into(),
            soft: 1024,
            hard: 1 << 20,
        }],
        oom_score_adj: 0,
        tty: container.tty.then_some(TERMINAL),
        stdin: container.stdin,
    })
}

/// Mounts in order of depth, so that none hides one inside it.
fn mounts(container: &Container) -> Vec<MountSpec> {
    let mut mounts: Vec<MountSpec> = container
        .mounts
        .iter()
        .map(|mount| MountSpec {
            volume: mount.volume.clone(),
            destination: mount.path.clone(),
            sub_path: mount.sub_path.clone(),
            read_only: mount.read_only,
        })
        .collect();
    mounts.sort_by_key(|mount| mount.destination.matches('/').count());
    mounts
}

fn limits(container: &Container) -> CgroupLimits {
    let resources = &container.resources;
    CgroupLimits {
        cpu_quota_micros: resources
            .cpu_limit_milli
            .map(|milli| (milli.saturating_mul(CPU_PERIOD_MICROS) / 1000).max(MIN_QUOTA_MICROS)),
        cpu_weight: resources.cpu_request_milli.map(weight),
        memory_max: resources.memory_limit,
        memory_low: resources.memory_request,
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

/// The environment of the process, and the container's own variables by name
/// (the only ones that `$(VAR)` sees, as in Kubernetes).
fn environment(
    spec: &PodSpec,
    container: &Container,
    image: &ImageFacts,
    identity: &Identity,
) -> (Vec<String>, BTreeMap<String, String>) {
    let mut own: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &container.env {
        let value = expand(value, &own);
        own.insert(name.clone(), value);
    }
    let mut all: Vec<(String, String)> = vec![("PATH".into(), DEFAULT_PATH.into())];
    let mut set = |name: &str, value: String| {
        match all.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => all.push((name.to_owned(), value)),
        };
    };
    set("HOSTNAME", guest::hostname(spec, identity));
    if container.tty {
        set("TERM", "xterm".into());
    }
    for pair in &image.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !name.is_empty() && !pair.contains('\0') {
            set(name, value.to_owned());
        }
    }
    let mut seen = BTreeSet::new();
    for (name, _) in &container.env {
        if seen.insert(name)
            && let Some(value) = own.get(name)
        {
            set(name, value.clone());
        }
    }
    let lines = all
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    (lines, own)
}

/// The command line: `command` replaces entrypoint and cmd, `args` replaces
/// cmd alone.
fn arguments(
    container: &Container,
    image: &ImageFacts,
    own: &BTreeMap<String, String>,
) -> Vec<String> {
    let expanded =
        |words: &[String]| -> Vec<String> { words.iter().map(|word| expand(word, own)).collect() };
    let mut out = if container.command.is_empty() {
        image.entrypoint.clone()
    } else {
        expanded(&container.command)
    };
    if !container.args.is_empty() {
        out.extend(expanded(&container.args));
    } else if container.command.is_empty() {
        out.extend(image.cmd.iter().cloned());
    }
    out
}

/// Replaces `$(NAME)` by its value; `$$` is one `$`, and what has no value
/// stays as it is written.
fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let name = from
            .strip_prefix("$(")
            .and_then(|inner| inner.split_once(')'));
        rest = if let Some(after) = from.strip_prefix("$$") {
            out.push('$');
            after
        } else if let Some((name, after)) = name {
            match values.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            after
        } else {
            out.push('$');
            &from[1..]
        };
    }
    out.push_str(rest);
    out
}

fn stop_signal(container: &Container, image: &ImageFacts) -> Result<i32, PlanError> {
    let text = image.stop_signal.as_str();
    if text.is_empty() {
        return Ok(15);
    }
    signal(text).ok_or_else(|| PlanError::StopSignal {
        container: container.name.clone(),
        signal: text.chars().take(40).collect(),
    })
}

/// Number of a signal on x86-64, from `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`.
fn signal(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    /// First real-time signal as a C library sees it: it keeps two for itself.
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let in_range = |number: i32| (1..=RTMAX).contains(&number).then_some(number);
    if let Ok(number) = text.parse() {
        return in_range(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(plus) = name.strip_prefix("RTMIN") {
        let offset: i32 = if plus.is_empty() {
            0
        } else {
            plus.parse().ok()?
        };
        return (0..=30).contains(&offset).then_some(RTMIN + offset);
    }
    if let Some(minus) = name.strip_prefix("RTMAX") {
        let offset: i32 = if minus.is_empty() {
            0
        } else {
            minus.parse().ok()?
        };
        return (-30..=0).contains(&offset).then_some(RTMAX + offset);
    }
    let at = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(at + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_and_dollars_escaped() {
        let values = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(B)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expand(text, &values), expected, "{text}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("RTMIN", Some(34)),
            ("SIGSYS", Some(31)),
            ("0", None),
            ("65", None),
            ("SIGNOPE", None),
            ("RTMIN+99999999999", None),
        ] {
            assert_eq!(signal(text), number, "{text}");
        }
    }

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
