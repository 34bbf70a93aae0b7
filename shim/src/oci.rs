//! A bundle's config.json becomes the engine's: each field is honoured, or refused
//! by its name, or the guest has its own of it.

mod cgroup;
mod mount;
#[cfg(test)]
mod tests;

use crate::error::ShimError;
use beluga_proto::container::{CoveredPaths, Rlimit};
use beluga_runtime::engine::sandbox::{self, NewContainer};
use beluga_runtime::plan::ImageFacts;
use beluga_runtime::pod::random_bytes;
use beluga_runtime::settings::Settings;
use beluga_runtime::spec::{
    Container, ContainerSecurity, Dns, EnvValue, Fifos, Guest, NETWORK, PodSpec, Resources, RunAs,
    Sandbox, SeccompChoice, label,
};
use mount::{has_option, mount};
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, LinuxResources, Process, Spec};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::path::Path;

/// Annotations of containerd's CRI plugin (and of CRI-O's, which has the same).
const KIND: &str = "io.kubernetes.cri.container-type";
const SANDBOX: &str = "io.kubernetes.cri.sandbox-id";
const SANDBOX_NAME: &str = "io.kubernetes.cri.sandbox-name";
const SANDBOX_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
const SANDBOX_CPU_PERIOD: &str = "io.kubernetes.cri.sandbox-cpu-period";
const SANDBOX_CPU_QUOTA: &str = "io.kubernetes.cri.sandbox-cpu-quota";
const SANDBOX_CPU_SHARES: &str = "io.kubernetes.cri.sandbox-cpu-shares";
const SANDBOX_MEMORY: &str = "io.kubernetes.cri.sandbox-memory";
const IMAGE: &str = "io.kubernetes.cri.image-name";

/// Memory for the containers of a pod of whose memory nothing is said.
const MEMORY: u64 = 512 << 20;

/// Microseconds of a period of CPU time where nothing names one.
const PERIOD: u64 = 100_000;

/// What a full CPU is in shares.
const SHARES: u64 = 1024;

/// What a task is to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The pod itself.
    Sandbox,
    /// A container of a pod.
    Member {
        /// The pod's task.
        sandbox: String,
    },
    /// A pod of one container.
    Alone,
}

/// Whose pod it is, kept with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// containerd's socket.
    pub containerd: String,
    /// Its namespace.
    pub namespace: String,
    /// The task.
    pub task: String,
}

/// Reads the specification of a bundle.
pub fn read(bundle: &Path) -> Result<Spec, ShimError> {
    let path = bundle.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(ShimError::path("read", &path))?;
    serde_json::from_str(&text).map_err(|source| ShimError::Bundle { path, source })
}

fn annotation<'s>(spec: &'s Spec, key: &str) -> Option<&'s str> {
    let all = spec.annotations().as_ref()?;
    all.get(key)
        .map(String::as_str)
        .filter(|one| !one.is_empty())
}

/// What the task is to its pod.
pub fn kind(spec: &Spec) -> Kind {
    match (annotation(spec, KIND), annotation(spec, SANDBOX)) {
        (Some("sandbox"), _) => Kind::Sandbox,
        (Some("container"), Some(sandbox)) => Kind::Member {
            sandbox: sandbox.to_owned(),
        },
        _ => Kind::Alone,
    }
}

/// The name that a task's container has in its pod.
pub fn container_name(task: &str) -> String {
    let digest = Sha256::digest(task);
    let digits = digest.iter().take(16);
    digits.map(|byte| format!("{byte:02x}")).collect()
}

/// The pod of a sandbox, or of one container alone.
pub fn pod(settings: &Settings, spec: &Spec, note: &Note) -> Result<PodSpec, ShimError> {
    let linux = spec.linux().clone().unwrap_or_default();
    refuse_pod(spec, &linux)?;
    let network = namespaces(spec).find(|one| one.typ() == LinuxNamespaceType::Network);
    let made = Sandbox {
        note: serde_json::to_string(note).unwrap_or_default(),
        ports: Vec::new(),
        mounts: sandbox::mounts_directory(settings),
        netns: network.and_then(|one| one.path().clone()),
        cgroup_parent: cgroup::parent(&linux, note)?,
    };
    let name = annotation(spec, SANDBOX_NAME).unwrap_or(&note.task);
    let namespace = annotation(spec, SANDBOX_NAMESPACE).unwrap_or(&note.namespace);
    let mut pod = PodSpec::of_sandbox(unique(name), plain(namespace, 63), made);
    // Its cards are those of the namespace, where there are any.
    pod.annotations
        .insert(NETWORK.to_owned(), "none".to_owned());
    // Whether containers share their processes is told with each of them.
    pod.guest_processes = sees_guest(spec);
    pod.share_processes = !pod.guest_processes && kind(spec) == Kind::Sandbox;
    // The bundles' lists of groups are whole: nothing of an image's is to be added.
    pod.strict_groups = true;
    pod.hostname = spec.hostname().clone().filter(|name| !name.is_empty());
    if let Some(name) = &pod.hostname {
        label(name).map_err(|why| ShimError::Invalid {
            field: "hostname",
            why: why.to_string(),
        })?;
    }
    pod.dns = Dns {
        from_host: true,
        ..Dns::default()
    };
    pod.sysctls = linux
        .sysctl()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    pod.resources = of_annotations(spec);
    if pod.resources.is_empty()
        && let Some(given) = linux.resources()
        && kind(spec) == Kind::Alone
    {
        pod.resources = limits(given);
    }
    pod.resources.memory_limit.get_or_insert(MEMORY);
    Ok(pod)
}

/// Why what is the host's is not to be had.
const MACHINE: &str = "a pod runs in a machine of its own and cannot share the host's";

fn refused(field: impl Into<String>, why: &'static str) -> ShimError {
    let field = field.into();
    ShimError::Refused { field, why }
}

fn refuse_pod(spec: &Spec, linux: &Linux) -> Result<(), ShimError> {
    let has = |kind| namespaces(spec).any(|one| one.typ() == kind);
    let mapped = |all: &Option<Vec<_>>| all.as_ref().is_some_and(|all| !all.is_empty());
    // A pod of the host's network has its UTS namespace as well.
    let refused_ones = [
        (!has(LinuxNamespaceType::Network), "hostNetwork"),
        (!has(LinuxNamespaceType::Ipc), "hostIPC"),
        (!has(LinuxNamespaceType::Uts), "the host's UTS namespace"),
        (mapped(linux.uid_mappings()), "linux.uidMappings"),
        (mapped(linux.gid_mappings()), "linux.gidMappings"),
        (linux.intel_rdt().is_some(), "linux.intelRdt"),
        (linux.time_offsets().is_some(), "linux.timeOffsets"),
    ];
    match refused_ones.into_iter().find(|(is_asked, _)| *is_asked) {
        Some((_, field)) => Err(refused(field, MACHINE)),
        None => Ok(()),
    }
}

/// Whether it has no namespace of processes: the host of a container is its pod's
/// machine.
pub fn sees_guest(spec: &Spec) -> bool {
    pids(spec).is_none()
}

fn namespaces(spec: &Spec) -> impl Iterator<Item = &LinuxNamespace> {
    let linux = spec.linux().iter();
    linux.flat_map(|linux| linux.namespaces().iter().flatten())
}

fn pids(spec: &Spec) -> Option<&LinuxNamespace> {
    namespaces(spec).find(|one| one.typ() == LinuxNamespaceType::Pid)
}

/// Whose processes a container is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// Its own.
    Own,
    /// All of its host.
    Host,
    /// Those of the task with this PID: the sandbox's are what its containers share.
    Task(u32),
}

/// What a container says of it. containerd names a task by the namespace of its process.
pub fn processes(spec: &Spec) -> Result<Processes, ShimError> {
    let Some(namespace) = pids(spec) else {
        return Ok(Processes::Host);
    };
    let Some(path) = namespace.path() else {
        return Ok(Processes::Own);
    };
    let text = path.to_str().and_then(|text| text.strip_prefix("/proc/"));
    let pid = text.and_then(|text| text.strip_suffix("/ns/pid")?.parse().ok());
    let pid = pid.ok_or_else(processes_refused)?;
    Ok(Processes::Task(pid))
}

/// What is neither of the sandbox nor of a container in it is the host's.
pub fn processes_refused() -> ShimError {
    refused("the PID namespace of another process", MACHINE)
}

/// Limits of the whole pod, as the CRI plugin writes them on the sandbox.
fn of_annotations(spec: &Spec) -> Resources {
    let number = |key| annotation(spec, key).and_then(|text| text.parse::<i64>().ok());
    let positive = |key| number(key).and_then(positive);
    Resources {
        cpu_limit_milli: milli(positive(SANDBOX_CPU_QUOTA), positive(SANDBOX_CPU_PERIOD)),
        cpu_request_milli: positive(SANDBOX_CPU_SHARES).map(of_shares),
        memory_limit: positive(SANDBOX_MEMORY),
        ..Resources::default()
    }
}

fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

fn milli(quota: Option<u64>, period: Option<u64>) -> Option<u64> {
    let period = period.unwrap_or(PERIOD);
    quota.map(|quota| quota.saturating_mul(1000).div_ceil(period))
}

fn of_shares(shares: u64) -> u64 {
    (shares.saturating_mul(1000) / SHARES).max(1)
}

/// Limits of a cgroup as the engine has them.
pub fn limits(given: &LinuxResources) -> Resources {
    let cpu = given.cpu().clone().unwrap_or_default();
    let memory = given.memory().unwrap_or_default();
    Resources {
        cpu_limit_milli: milli(
            cpu.quota().and_then(positive),
            cpu.period().filter(|period| *period > 0),
        ),
        cpu_request_milli: cpu.shares().filter(|shares| *shares > 0).map(of_shares),
        memory_limit: memory.limit().and_then(positive),
        memory_request: memory.reservation().and_then(positive),
        ..Resources::default()
    }
}

/// The container of a task.
pub fn container(
    spec: &Spec,
    task: &str,
    root: &Path,
    (terminal, stdin, fifos): (bool, bool, Fifos),
) -> Result<NewContainer, ShimError> {
    let linux = spec.linux().clone().unwrap_or_default();
    let process = spec.process().clone().unwrap_or_default();
    refuse_container(spec, &linux, &process)?;
    let resources = linux.resources().clone().unwrap_or_default();
    let rlimits = process.rlimits().clone().unwrap_or_default();
    let rlimits = rlimits.iter().map(|one| Rlimit {
        name: one.typ().to_string().to_lowercase().replace("rlimit_", ""),
        soft: one.soft(),
        hard: one.hard(),
    });
    let user = process.user();
    let guest = Guest {
        root: Some(root.to_owned()),
        fifos: Some(fifos),
        groups: user.additional_gids().clone().unwrap_or_default(),
        rlimits: rlimits.collect(),
        pids_max: most_processes(&resources),
        ..Guest::default()
    };
    let words = |words: &[String]| words.iter().map(|word| literally(word)).collect();
    let image = annotation(spec, IMAGE).unwrap_or("rootfs").to_owned();
    let container = Container {
        command: words(process.args().as_deref().unwrap_or_default()),
        working_dir: Some(process.cwd().display().to_string()),
        env: environment(process.env().as_deref().unwrap_or_default()),
        resources: limits(&resources),
        security: rights(spec, &linux, &process),
        stdin,
        tty: terminal,
        ..Container::of_sandbox(container_name(task), image, guest)
    };
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let sandbox = annotation(spec, SANDBOX);
    let mounts = mounts
        .iter()
        .filter_map(|one| mount(one, sandbox).transpose());
    Ok(NewContainer {
        container,
        image: ImageFacts::default(),
        mounts: mounts.collect::<Result<_, _>>()?,
    })
}

fn most_processes(resources: &LinuxResources) -> Option<u64> {
    let limit = resources.pids().as_ref().map(|pids| pids.limit())?;
    positive(limit)
}

/// What a container in a machine of its own does not have.
fn refuse_container(spec: &Spec, linux: &Linux, process: &Process) -> Result<(), ShimError> {
    let resources = linux.resources().clone().unwrap_or_default();
    let devices = linux.devices().as_ref().is_some_and(|all| !all.is_empty());
    let huge = resources.hugepage_limits().as_deref().unwrap_or_default();
    let huge = huge.iter().any(|one| one.limit() > 0);
    let unified = resources
        .unified()
        .as_ref()
        .is_some_and(|all| !all.is_empty());
    let hooks = spec.hooks().as_ref().is_some_and(|hooks| {
        serde_json::to_value(hooks)
            .is_ok_and(|all| all.as_object().is_some_and(|all| !all.is_empty()))
    });
    let ambient = process.capabilities().as_ref();
    let ambient = ambient.and_then(|all| all.ambient().as_ref());
    let cpus = resources.cpu().as_ref().and_then(|cpu| cpu.cpus().clone());
    let refused_ones = [
        (
            devices,
            "linux.devices",
            "the devices of the host are not in the pod's machine; for privileged containers set privileged_without_host_devices",
        ),
        (
            hooks,
            "hooks",
            "programs of the host cannot enter the pod's machine",
        ),
        (
            huge,
            "linux.resources.hugepageLimits",
            "the machine has no huge pages",
        ),
        (
            unified,
            "linux.resources.unified",
            "the cgroup is in the pod's machine",
        ),
        (
            cpus.is_some_and(|cpus| !cpus.is_empty()),
            "linux.resources.cpu.cpus",
            "the CPUs are the pod's machine's own",
        ),
        (
            ambient.is_some_and(|all| !all.is_empty()),
            "process.capabilities.ambient",
            "ambient capabilities are those that containers get, and no others",
        ),
    ];
    match refused_ones.into_iter().find(|(is_asked, _, _)| *is_asked) {
        Some((_, field, why)) => Err(refused(field, why)),
        None => Ok(()),
    }
}

/// Variables as they are.
fn environment(lines: &[String]) -> Vec<(String, EnvValue)> {
    let pairs = lines.iter().filter_map(|line| line.split_once('='));
    let mut found: Vec<(String, EnvValue)> = Vec::new();
    for (name, value) in pairs {
        // The last one of a name counts.
        found.retain(|(known, _)| known != name);
        found.push((name.to_owned(), EnvValue::Text(literally(value))));
    }
    found
}

/// Words of a bundle are meant as they are: nothing is to be put into them.
fn literally(word: &str) -> String {
    word.replace('$', "$$")
}

fn rights(spec: &Spec, linux: &Linux, process: &Process) -> ContainerSecurity {
    let bounding = process.capabilities().as_ref();
    let bounding = bounding.and_then(|all| all.bounding().clone());
    let bounding: BTreeSet<String> = bounding
        .unwrap_or_default()
        .into_iter()
        .map(|one| {
            let name = one.to_string().to_ascii_uppercase();
            name.strip_prefix("CAP_").unwrap_or(&name).to_owned()
        })
        .collect();
    let is_masked = linux
        .masked_paths()
        .as_ref()
        .is_some_and(|all| !all.is_empty());
    let seccomp = linux.seccomp().as_ref().map(serde_json::to_string);
    // Nothing in a specification says so: this is what all rights come to.
    let privileged = !is_masked
        && seccomp.is_none()
        && bounding.contains("SYS_ADMIN")
        && !is_read_only(spec, "/sys");
    let user = process.user();
    ContainerSecurity {
        privileged,
        run_as: RunAs {
            user: Some(user.uid()),
            group: Some(user.gid()),
            non_root: false,
        },
        add_capabilities: bounding,
        drop_capabilities: BTreeSet::from(["ALL".to_owned()]),
        read_only_root: spec
            .root()
            .as_ref()
            .is_some_and(|root| root.readonly() == Some(true)),
        allow_privilege_escalation: process.no_new_privileges() != Some(true),
        unmasked_proc: !is_masked,
        covered: CoveredPaths {
            hidden: elsewhere(linux.masked_paths()),
            protected: elsewhere(linux.readonly_paths()),
        },
        seccomp: Some(match seccomp {
            Some(Ok(profile)) => SeccompChoice::Given(profile),
            Some(Err(_)) => SeccompChoice::RuntimeDefault,
            None => SeccompChoice::Unconfined,
        }),
    }
}

/// Paths but those of the kernel's own file systems, of which the guest has the
/// same list as runc.
fn elsewhere(paths: &Option<Vec<String>>) -> Vec<String> {
    let paths = paths.iter().flatten();
    let others = paths.filter(|path| !["/proc/", "/sys/"].iter().any(|own| path.starts_with(own)));
    others.cloned().collect()
}

fn is_read_only(spec: &Spec, destination: &str) -> bool {
    let mut mounts = spec.mounts().iter().flatten();
    let found = mounts.find(|one| one.destination() == Path::new(destination));
    found.is_some_and(|one| has_option(one, "ro"))
}

/// A name for the engine: unique, and telling to people.
fn unique(name: &str) -> String {
    let random: [u8; 4] = random_bytes();
    format!("{}-{:08x}", plain(name, 40), u32::from_le_bytes(random))
}

/// The nearest that is a label.
fn plain(text: &str, most: usize) -> String {
    let fitting = |one: char| match one.to_ascii_lowercase() {
        fits @ ('a'..='z' | '0'..='9') => fits,
        _ => '-',
    };
    let mut text: String = text.chars().map(fitting).collect();
    text.truncate(most);
    match text.trim_matches('-') {
        "" => "default".to_owned(),
        text => text.to_owned(),
    }
}
