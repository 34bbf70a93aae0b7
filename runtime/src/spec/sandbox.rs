//! A pod whose containers come and go one by one: it runs while it has none, and
//! whoever fills it starts and ends each of them.
//!
//! No manifest asks for one: a front makes the specification itself.

use super::config::{HostPathKind, Volume, VolumeSource};
use super::types::{Container, ContainerPort, PodName, PodSpec, Resources, RestartPolicy};
use beluga_proto::container::Rlimit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The volume that carries what containers use of the host: one share, in whose
/// directory it is mounted.
pub const SHARED: &str = "host";

/// What makes a pod a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// For whoever made it, kept as it is.
    pub note: String,
    /// Ports of the pod that the host publishes.
    pub ports: Vec<ContainerPort>,
    /// The directory of the host in which is mounted what containers use of it.
    pub mounts: PathBuf,
    /// The cgroup below which the pod's is made, in place of the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<PathBuf>,
    /// A network namespace that somebody has made for it: its cards are the pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
}

/// What whoever fills a sandbox says of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// For whoever made it, kept as it is.
    pub note: String,
    /// Where its log lies, in place of the pod's own directory. Whoever says so
    /// puts full files aside.
    pub log: Option<PathBuf>,
    /// Groups of its processes, beside the pod's.
    pub groups: Vec<u32>,
    /// Its root file system, a directory of the host, in place of an image's layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Where its output goes, in place of a log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fifos: Option<Fifos>,
    /// Limits of its first process, over the usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Most processes and threads that it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u64>,
    /// Its processes are not among those that the pod's containers share: they are its
    /// target's, or its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_processes: bool,
    /// Bytes of memory above which it is slowed down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<u64>,
    /// Whom the kernel kills first where the machine has no memory left.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub oom_score_adj: i32,
    /// Its processes have no groups but those that are named, whatever the image says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict_groups: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Named pipes that take a container's output as it is; without one, output is
/// thrown away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fifos {
    /// Of its standard output, or of its terminal.
    pub stdout: Option<PathBuf>,
    /// Of its standard error.
    pub stderr: Option<PathBuf>,
}

/// What is said where the path of a cgroup is wanted, and is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no path of a cgroup")]
pub struct NoCgroup(pub String);

/// Where the cgroup lies that is named as the parent of a pod's: by its path, or as a
/// slice of systemd. Slices have their parents in their names: `a-b.slice` lies in
/// `a.slice`. Nothing is the top of all, which is no parent of a pod's.
pub fn parent_cgroup(named: &str) -> Result<Option<PathBuf>, NoCgroup> {
    let parent = named.trim_matches('/');
    if parent.is_empty() || parent == "-.slice" {
        return Ok(None);
    }
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !parent.split('/').all(is_plain) {
        return Err(NoCgroup(parent.to_owned()));
    }
    let Some(slice) = parent
        .strip_suffix(".slice")
        .filter(|name| !name.contains('/'))
    else {
        return Ok(Some(parent.into()));
    };
    let ends = slice.match_indices('-').map(|(at, _)| at);
    let parents = ends
        .chain([slice.len()])
        .map(|end| format!("{}.slice", &slice[..end]));
    Ok(Some(parents.collect()))
}

impl PodSpec {
    /// A sandbox without containers, in the pod network, of the usual size.
    #[must_use]
    pub fn of_sandbox(name: String, namespace: String, sandbox: Sandbox) -> Self {
        let mounts = sandbox.mounts.display().to_string();
        Self {
            name: PodName::Exact(name),
            namespace,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            init_containers: Vec::new(),
            containers: Vec::new(),
            ephemeral_containers: Vec::new(),
            volumes: vec![Volume {
                name: SHARED.to_owned(),
                source: VolumeSource::HostPath {
                    path: mounts,
                    kind: HostPathKind::Directory,
                },
            }],
            restart_policy: RestartPolicy::Never,
            grace_seconds: 0,
            active_deadline_seconds: None,
            hostname: None,
            hostname_override: None,
            subdomain: None,
            fqdn_hostname: false,
            readiness_gates: Vec::new(),
            conditions: BTreeMap::new(),
            share_processes: false,
            guest_processes: false,
            host_aliases: Vec::new(),
            dns: super::types::Dns::default(),
            supplemental_groups: Vec::new(),
            strict_groups: false,
            sysctls: BTreeMap::new(),
            resources: Resources::default(),
            fs_group: None,
            fs_group_on_mismatch: false,
            node_name: None,
            service_account: None,
            pull_secrets: Vec::new(),
            sandbox: Some(sandbox),
        }
    }
}

impl Container {
    /// A container of a sandbox: run once, with the image's own program.
    #[must_use]
    pub fn of_sandbox(name: String, image: String, guest: Guest) -> Self {
        Self {
            name,
            image,
            pull_policy: super::types::PullPolicy::Never,
            command: Vec::new(),
            args: Vec::new(),
            working_dir: None,
            env_from: Vec::new(),
            env: Vec::new(),
            ports: Vec::new(),
            mounts: Vec::new(),
            devices: Vec::new(),
            resources: Resources::default(),
            resize_restart: super::types::ResizeRestart::default(),
            security: super::types::ContainerSecurity {
                allow_privilege_escalation: true,
                ..super::types::ContainerSecurity::default()
            },
            stdin: false,
            stdin_once: false,
            tty: false,
            sidecar: false,
            restart_policy: None,
            restart_rules: Vec::new(),
            stop_signal: None,
            // Whoever wants a last message mounts a file for it.
            termination_message: super::types::TerminationMessage {
                path: String::new(),
                or_output: false,
            },
            probes: super::types::Probes::default(),
            hooks: super::types::Hooks::default(),
            target: None,
            guest: Some(guest),
        }
    }
}
