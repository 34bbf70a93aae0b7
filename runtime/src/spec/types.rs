//! [`PodSpec`] and its parts: a checked pod, defaults filled in, nothing in it
//! that Beluga cannot do.

use super::config::{EnvFrom, EnvValue, ValueSource, Volume, VolumeSource};
use super::object::ObjectKind;
use super::ports::HostPort;
use super::sandbox::{Guest, Sandbox};
use beluga_proto::container::{CoveredPaths, Propagation};
use beluga_proto::probe::Handler;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A pod as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// Its name, or how to make one.
    pub name: PodName,
    /// `default` when the manifest names none.
    pub namespace: String,
    /// For selection.
    pub labels: BTreeMap<String, String>,
    /// For tools.
    pub annotations: BTreeMap<String, String>,
    /// Run to completion, or to their start when they are sidecars, one after another.
    pub init_containers: Vec<Container>,
    /// Run side by side.
    pub containers: Vec<Container>,
    /// Put beside the others while they run, to look at them.
    #[serde(default)]
    pub ephemeral_containers: Vec<Container>,
    /// Each name once.
    pub volumes: Vec<Volume>,
    /// Of the app containers.
    pub restart_policy: RestartPolicy,
    /// Seconds from the stop signal to SIGKILL.
    pub grace_seconds: u32,
    /// Seconds from the pod's start to its failure, if it still runs then.
    #[serde(default)]
    pub active_deadline_seconds: Option<u32>,
    /// Instead of the pod's name.
    pub hostname: Option<String>,
    /// Name of the domain below the namespace's that the pod is in.
    pub subdomain: Option<String>,
    /// The hostname in the kernel is the full name, domain and all.
    pub fqdn_hostname: bool,
    /// The hostname in the kernel, whatever the others say; what the pod is
    /// found by stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname_override: Option<String>,
    /// One PID namespace for all containers.
    pub share_processes: bool,
    /// Types of conditions without which it is not ready.
    #[serde(default)]
    pub readiness_gates: Vec<String>,
    /// What has been said of conditions since it runs, by type; no manifest does.
    #[serde(default)]
    pub conditions: BTreeMap<String, GivenCondition>,
    /// `hostPID`: containers see all processes of the guest.
    #[serde(default)]
    pub guest_processes: bool,
    /// More lines for /etc/hosts.
    pub host_aliases: Vec<HostAlias>,
    /// Name servers, search domains and options of resolv.conf.
    pub dns: Dns,
    /// Groups that every process gets beside its own.
    pub supplemental_groups: Vec<u32>,
    /// Those that the image's group file gives are left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict_groups: bool,
    /// Kernel parameters of the pod.
    pub sysctls: BTreeMap<String, String>,
    /// What all containers together ask for and may use.
    pub resources: Resources,
    /// The group that owns the volumes, and that every process is in.
    #[serde(default)]
    pub fs_group: Option<u32>,
    /// A disk whose root is the group's is not looked through.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fs_group_on_mismatch: bool,
    /// What the manifest says the node is called; nothing is scheduled by it.
    #[serde(default)]
    pub node_name: Option<String>,
    /// For who asks: there are no service accounts.
    #[serde(default)]
    pub service_account: Option<String>,
    /// Secrets with credentials for the registries of its images.
    #[serde(default)]
    pub pull_secrets: Vec<String>,
    /// Its containers come and go one by one; no manifest says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandbox>,
}

/// The name of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PodName {
    /// As given.
    Exact(String),
    /// `generateName`: five random characters are appended.
    Generate(String),
}

/// How resolv.conf comes about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Start from the host's resolv.conf (every policy but `None`).
    pub from_host: bool,
    /// Ask the network's resolver, which knows the pods' names (`ClusterFirst`).
    #[serde(default)]
    pub cluster: bool,
    /// Put behind the policy's.
    pub nameservers: Vec<IpAddr>,
    /// Put behind the policy's.
    pub searches: Vec<String>,
    /// `name` or `name:value`; each stands in place of the policy's of that name.
    pub options: Vec<String>,
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// When its exit code is not 0.
    OnFailure,
    /// Not at all.
    Never,
}

/// One container as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Unique in the pod.
    pub name: String,
    /// As the manifest writes it.
    pub image: String,
    /// When to fetch the image.
    pub pull_policy: PullPolicy,
    /// Instead of the image's entrypoint; `$(VAR)` not expanded yet.
    pub command: Vec<String>,
    /// Instead of the image's command; `$(VAR)` not expanded yet.
    pub args: Vec<String>,
    /// Instead of the image's; absolute.
    pub working_dir: Option<String>,
    /// Objects all of whose keys are variables, in order; before `env`.
    #[serde(default)]
    pub env_from: Vec<EnvFrom>,
    /// In order.
    pub env: Vec<(String, EnvValue)>,
    /// Shown; nothing depends on them yet.
    pub ports: Vec<ContainerPort>,
    /// Where volumes go.
    pub mounts: Vec<VolumeMount>,
    /// Where disks without a file system are seen as devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<VolumeDevice>,
    /// What it asks for and may use.
    pub resources: Resources,
    /// What of it can only change with a restart.
    #[serde(default)]
    pub resize_restart: ResizeRestart,
    /// Who it runs as, and what it may do. Pod-wide settings are merged in.
    pub security: ContainerSecurity,
    /// Keep standard input open.
    pub stdin: bool,
    /// End standard input when the first client that attached goes.
    pub stdin_once: bool,
    /// A terminal instead of pipes.
    pub tty: bool,
    /// An init container with `restartPolicy: Always`: started, not awaited.
    pub sidecar: bool,
    /// Instead of the pod's policy.
    #[serde(default)]
    pub restart_policy: Option<RestartPolicy>,
    /// Ends after which it is started again whatever the policy says.
    #[serde(default)]
    pub restart_rules: Vec<RestartRule>,
    /// Instead of the image's; a signal's name.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Where its last message comes from.
    #[serde(default)]
    pub termination_message: TerminationMessage,
    /// What is probed while it runs.
    #[serde(default)]
    pub probes: Probes,
    /// What is done when it has started and before it is stopped.
    #[serde(default)]
    pub hooks: Hooks,
    /// The container whose processes this one sees.
    #[serde(default)]
    pub target: Option<String>,
    /// What whoever fills a sandbox says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
}

/// The probes of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probes {
    /// Whether it has started; the others wait for it.
    pub startup: Option<Probe>,
    /// Whether it can serve.
    pub readiness: Option<Probe>,
    /// Whether it has to be restarted.
    pub liveness: Option<Probe>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is done; `$(VAR)` of a command is not expanded yet.
    pub handler: Handler,
    /// The same as `describe` shows it.
    pub target: String,
    /// From the container's start to the first attempt.
    pub initial_delay_seconds: u32,
    /// From one attempt to the next.
    pub period_seconds: u32,
    /// After which an attempt has failed.
    pub timeout_seconds: u32,
    /// Successes in a row after which it passes.
    pub success_threshold: u32,
    /// Failures in a row after which it does not.
    pub failure_threshold: u32,
    /// Instead of the pod's, from the stop signal to SIGKILL.
    pub grace_seconds: Option<u32>,
}

/// The hooks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// When its program has been executed.
    pub post_start: Option<Handler>,
    /// Before its stop signal.
    pub pre_stop: Option<Handler>,
}

/// Exit codes after which a container is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRule {
    /// Which.
    pub exit_codes: Vec<i32>,
    /// All but these.
    pub negated: bool,
}

impl RestartRule {
    /// Whether the rule is about this exit code.
    #[must_use]
    pub fn matches(&self, exit_code: i32) -> bool {
        self.exit_codes.contains(&exit_code) != self.negated
    }
}

/// Where a container's last message comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminationMessage {
    /// A file in the container.
    pub path: String,
    /// After a failure without a message: the end of its output.
    pub or_output: bool,
}

impl Default for TerminationMessage {
    fn default() -> Self {
        Self {
            path: "/dev/termination-log".to_owned(),
            or_output: false,
        }
    }
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// When it is not in the store.
    IfNotPresent,
    /// Not at all.
    Never,
}

impl PullPolicy {
    /// Each by its word.
    pub const ALL: [(&'static str, Self); 3] = [
        ("Always", Self::Always),
        ("IfNotPresent", Self::IfNotPresent),
        ("Never", Self::Never),
    ];
}

/// A port that a container says it listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPort {
    /// For people and for references.
    pub name: Option<String>,
    /// In the pod.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Where the host publishes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPort>,
}

/// A volume's place in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Name of the volume.
    pub volume: String,
    /// Absolute path in the container.
    pub path: String,
    /// Below the volume's root.
    pub sub_path: Option<String>,
    /// The same, `$(VAR)` not expanded yet.
    pub sub_path_expr: Option<String>,
    /// Not writable through this mount.
    pub read_only: bool,
    /// Which mounts of other containers below it show, and to whom its own do.
    #[serde(default, skip_serializing_if = "Propagation::is_none")]
    pub propagation: Propagation,
}

/// A disk's place in a container, as a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDevice {
    /// Name of the volume.
    pub volume: String,
    /// Absolute path in the container.
    pub path: String,
}

/// What a container asks for (requests) and may use (limits).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_request_milli: Option<u64>,
    /// Thousandths of a CPU.
    pub cpu_limit_milli: Option<u64>,
    /// Bytes.
    pub memory_request: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    /// Bytes of the writable layer.
    pub storage_request: Option<u64>,
    /// Bytes of the writable layer.
    pub storage_limit: Option<u64>,
}

/// Of which resources a change restarts the container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeRestart {
    /// Of CPU time.
    pub cpu: bool,
    /// Of memory.
    pub memory: bool,
}

impl ResizeRestart {
    /// Whether this change does.
    #[must_use]
    pub fn needed(self, from: &Resources, to: &Resources) -> bool {
        let cpu = |of: &Resources| (of.cpu_request_milli, of.cpu_limit_milli);
        let memory = |of: &Resources| (of.memory_request, of.memory_limit);
        self.cpu && cpu(from) != cpu(to) || self.memory && memory(from) != memory(to)
    }
}

impl Resources {
    /// Whether it asks for nothing and has no limits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Rights of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSecurity {
    /// All capabilities, all devices of the guest.
    pub privileged: bool,
    /// Who.
    pub run_as: RunAs,
    /// Names without `CAP_`, or `ALL`, added to the default set.
    pub add_capabilities: BTreeSet<String>,
    /// Names without `CAP_`, or `ALL`, taken from the default set.
    pub drop_capabilities: BTreeSet<String>,
    /// The root file system is read-only.
    pub read_only_root: bool,
    /// `false` sets no_new_privs.
    pub allow_privilege_escalation: bool,
    /// `/proc` without the parts of it that are masked and write-protected.
    pub unmasked_proc: bool,
    /// Paths that are covered, beside those of `/proc` and `/sys`.
    #[serde(default, skip_serializing_if = "CoveredPaths::is_empty")]
    pub covered: CoveredPaths,
    /// System-call filter; `None`: the default for the container's rights.
    pub seccomp: Option<SeccompChoice>,
}

/// Who a container's process is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// Instead of the image's user.
    pub user: Option<u32>,
    /// Instead of the image's group.
    pub group: Option<u32>,
    /// Refuse to run as uid 0.
    pub non_root: bool,
}

/// Which system-call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompChoice {
    /// The agent's built-in profile.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile of the host: a path below the directory of profiles.
    Localhost(String),
    /// A profile as it is, in the format of OCI.
    Given(String),
}

/// A condition that somebody else has given a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenCondition {
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// One word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the status became what it is, nanoseconds since 1970.
    pub since: u64,
}

/// Names for an address, in /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAlias {
    /// The address.
    pub ip: IpAddr,
    /// Its names.
    pub hostnames: Vec<String>,
}

impl PodSpec {
    /// All containers: init containers first, in the order of their start,
    /// ephemeral ones last.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.own_containers().chain(&self.ephemeral_containers)
    }

    /// Those that the pod is made with.
    pub fn own_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// The ConfigMaps and Secrets that the pod refers to, each once.
    #[must_use]
    pub fn objects(&self) -> BTreeSet<(ObjectKind, &str)> {
        let mut found = BTreeSet::new();
        for container in self.all_containers() {
            for from in &container.env_from {
                found.insert((from.kind, from.name.as_str()));
            }
            for (_, value) in &container.env {
                if let EnvValue::From(ValueSource::Key(key)) = value {
                    found.insert((key.kind, key.name.as_str()));
                }
            }
        }
        for volume in &self.volumes {
            found.extend(volume.source.objects());
        }
        found
    }

    /// The paths of the host that the pod uses.
    pub fn host_paths(&self) -> impl Iterator<Item = &str> {
        self.volumes
            .iter()
            .filter_map(|volume| match &volume.source {
                VolumeSource::HostPath { path, .. } => Some(path.as_str()),
                _ => None,
            })
    }

    /// The images of containers and volumes: for whom (a container's name,
    /// `volume NAME`), which, and when it is fetched.
    pub fn images(&self) -> impl Iterator<Item = (String, &str, PullPolicy)> {
        let containers = self
            .all_containers()
            .map(|one| (one.name.clone(), one.image.as_str(), one.pull_policy));
        let volumes = self.volumes.iter().filter_map(|one| match &one.source {
            VolumeSource::Image { image, pull_policy } => {
                Some((format!("volume {}", one.name), image.as_str(), *pull_policy))
            }
            _ => None,
        });
        containers.chain(volumes)
    }
}

impl PodName {
    /// The final name; `random` gives the suffix of a generated one.
    #[must_use]
    pub fn resolve(&self, random: [u8; 5]) -> String {
        // The alphabet of Kubernetes: no vowels and nothing that looks alike.
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        match self {
            Self::Exact(name) => name.clone(),
            Self::Generate(prefix) => random.iter().fold(
                prefix.chars().take(58).collect::<String>(),
                |mut name, byte| {
                    name.push(char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
                    name
                },
            ),
        }
    }
}
