//! What the agent is told of one container: everything resolved but what only
//! the image's own files can tell (names of users and groups).

use crate::ContainerId;
use crate::bytes::Bytes;
use crate::probe::ProbeSpec;
use crate::variable::FileVariable;
use serde::{Deserialize, Serialize};

/// One container to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// This run of it.
    pub id: ContainerId,
    /// Its name in the pod.
    pub name: String,
    /// Partitions of the layer disk, lowest layer first.
    pub layers: Vec<u8>,
    /// Limit of its writable layer in bytes; none: the scratch disk's size.
    pub writable_limit: Option<u64>,
    /// Root file system is read-only.
    pub read_only_root: bool,
    /// The process.
    pub process: ExecSpec,
    /// Variables that are read from files when it starts: placeholders in its
    /// process, its probes and the commands that are run in it later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_variables: Vec<FileVariable>,
    /// Volumes to mount, in order of destination depth.
    pub mounts: Vec<MountSpec>,
    /// Volumes that it sees as block devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceSpec>,
    /// Limits as cgroup v2 knows them.
    pub cgroup: CgroupLimits,
    /// Unmasked /proc and /sys, all devices, writable cgroups.
    pub privileged: bool,
    /// Mask and write-protect parts of /proc and /sys as runc does.
    pub mask_paths: bool,
    /// Other paths that are covered.
    #[serde(default, skip_serializing_if = "CoveredPaths::is_empty")]
    pub covered: CoveredPaths,
    /// Where in the container the file lies whose end is its last message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_log: Option<String>,
    /// What is probed while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeSpec>,
    /// Probes begin when the hook after its start has ended well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probes_wait: bool,
    /// A running container whose PID namespace it joins instead of getting one
    /// of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_of: Option<ContainerId>,
    /// It is not in the PID namespace that the pod's containers share, where they do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_processes: bool,
    /// A directory of a volume below its writable layer, in place of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootSpec>,
}

/// A root file system that somebody else has put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSpec {
    /// The volume's name in the pod.
    pub volume: String,
    /// Name of a directory in it.
    pub directory: String,
}

/// Paths of a container that are not as its image and its volumes have them. What
/// is not there is no error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CoveredPaths {
    /// Files and directories that are seen empty.
    pub hidden: Vec<String>,
    /// Files and directories that nobody can write to.
    pub protected: Vec<String>,
}

impl CoveredPaths {
    /// Whether all paths are as they are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hidden.is_empty() && self.protected.is_empty()
    }
}

/// A process in a container: its own first one, or one run beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments. A program without a slash is looked up in PATH.
    pub args: Vec<String>,
    /// `NAME=value`, in order, each name once. The agent adds HOME when it is
    /// missing, from the image's passwd file.
    pub env: Vec<String>,
    /// Working directory, absolute; made when missing.
    pub cwd: String,
    /// Who.
    pub user: UserSpec,
    /// Capability names (`CAP_CHOWN`) of the bounding, permitted, effective
    /// and (not for an unprivileged user) inheritable sets: the final list.
    pub capabilities: Vec<String>,
    /// Set `no_new_privs`.
    pub no_new_privileges: bool,
    /// System-call filter.
    pub seccomp: Seccomp,
    /// Resource limits.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// `oom_score_adj` of the process.
    #[serde(default)]
    pub oom_score_adj: i32,
    /// A pseudo-terminal instead of pipes.
    pub tty: Option<TerminalSize>,
    /// Whether standard input is a stream; otherwise it is /dev/null.
    pub stdin: bool,
}

/// Who runs, before the image's files are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// As images write it: empty, `name`, `uid`, `name:group`, `uid:gid`.
    pub image_user: String,
    /// `runAsUser`: wins over the image.
    pub uid: Option<u32>,
    /// `runAsGroup`: wins over the image.
    pub gid: Option<u32>,
    /// Groups beside those that the image's group file gives.
    pub supplementary: Vec<u32>,
    /// Refuse uid 0.
    pub refuse_root: bool,
    /// Leave out those that the image's group file gives.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict_groups: bool,
}

/// System-call filter of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Seccomp {
    /// The agent's built-in profile.
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
    /// This one.
    Filter {
        /// Classic BPF on `struct seccomp_data`: eight bytes for each instruction,
        /// as `struct sock_filter` has them.
        program: Bytes,
    },
}

/// A resource limit: `nofile`, `core`, … as setrlimit(2) names them, lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which, without `RLIMIT_`.
    pub name: String,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// Rows and columns of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Height.
    pub rows: u16,
    /// Width.
    pub cols: u16,
}

/// A volume's place in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// The volume's name in the pod.
    pub volume: String,
    /// Absolute path in the container; made when missing.
    pub destination: String,
    /// Path below the volume's root instead of the root itself; a directory
    /// there is made when missing. Never leaves the volume, whatever links say.
    pub sub_path: Option<String>,
    /// The container may not write through this mount.
    pub read_only: bool,
    /// Which mounts of others below it show, and to whom its own do.
    #[serde(default, skip_serializing_if = "Propagation::is_none")]
    pub propagation: Propagation,
}

/// How mounts below a volume pass between the containers that have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Not at all.
    #[default]
    None,
    /// What others mount shows here.
    HostToContainer,
    /// The same, and what is mounted here shows to others.
    Bidirectional,
}

impl Propagation {
    /// Whether nothing passes.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// A volume's place in a container as a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// The volume's name in the pod.
    pub volume: String,
    /// Absolute path in the container; made, with its directories.
    pub destination: String,
    /// The container may not open it for writing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// Limits of one cgroup v2; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupLimits {
    /// `cpu.max`: microseconds of CPU per period of 100,000.
    pub cpu_quota_micros: Option<u64>,
    /// `cpu.weight`, 1 to 10,000.
    pub cpu_weight: Option<u32>,
    /// `memory.max` in bytes.
    pub memory_max: Option<u64>,
    /// `memory.low` in bytes (what the container requests).
    pub memory_low: Option<u64>,
    /// `memory.high` in bytes: above it, processes are slowed down and lose pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<u64>,
    /// `pids.max`.
    pub pids_max: Option<u64>,
}

impl CgroupLimits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
