//! [`Plan`] and what goes into one.

use super::beyond::Beyond;
use super::carried::{Carried, PastaPlan};
use super::size::Sizing;
use super::tenant::Tenant;
use crate::spec::{Fifos, Hooks, HostPathKind, Published, Resources, RestartPolicy, RestartRule};
use beluga_proto::agent::LayerExtent;
use beluga_proto::container::{CgroupLimits, CoveredPaths, DeviceSpec, MountSpec, RootSpec};
use beluga_proto::pod::Address;
use beluga_proto::probe::{ProbeKind, ProbeSpec};
use beluga_proto::variable::FileVariable;
use beluga_proto::vm::{MacAddress, NetLimits, Rate};
use beluga_proto::{ContainerId, ContainerSpec, ExecSpec, PodSetup, PodUid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

/// All that is going to be done for one pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose plan it is.
    pub identity: Identity,
    /// What is made on the host, in order; undone in reverse.
    pub host: Vec<HostStep>,
    /// The machine, files and taps by name.
    pub vm: VmPlan,
    /// What the agent is told first. `clock_unix_nanos` is 0 here: the
    /// supervisor fills it in when it sends the message.
    pub guest: PodSetup,
    /// Places of the layers on the layer disk, for `AddLayers`.
    pub layers: Vec<LayerExtent>,
    /// Init containers in order, then app containers.
    pub containers: Vec<ContainerPlan>,
    /// `sha256:…` of the images that are volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_images: Vec<String>,
    /// What the user should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// Where its containers are slowed down, in millionths of what is above their request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_throttling: Option<u32>,
    /// The profile that it is held to, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Seconds from the stop signal to SIGKILL.
    pub grace_seconds: u32,
    /// Seconds from the pod's start to its failure, if it still runs then.
    #[serde(default)]
    pub active_deadline_seconds: Option<u32>,
    /// Its containers come and go one by one, and it runs without any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sandbox: bool,
}

/// Something that the user should know, told as an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// What one pod alone has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its UID.
    pub uid: PodUid,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its place in the pod network; `None`: loopback only.
    pub network: Option<NetworkIdentity>,
    /// Cards that others have made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
}

impl Identity {
    /// Its addresses, IPv4 first: those of its place in the pod network, or
    /// else of its first card.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match (&self.network, &self.carried) {
            (Some(own), _) => own.addresses().collect(),
            (None, Some(carried)) => carried.addresses().collect(),
            (None, None) => Vec::new(),
        }
    }
}

/// A pod's place in its network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkIdentity {
    /// Its address, with the network's prefix length.
    pub address: Address,
    /// The same of IPv6, where the host has that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<Address>,
    /// Address of its card.
    pub mac: MacAddress,
    /// Name of its tap on the host.
    pub tap: String,
}

/// What the plan must know of the host. Gathered once, by the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The guest kernel.
    pub kernel: PathBuf,
    /// The initial RAM file system.
    pub initramfs: PathBuf,
    /// `<root>/pods/<uid>`.
    pub pod_dir: PathBuf,
    /// `<state>/pods/<uid>`.
    pub run_dir: PathBuf,
    /// The pod's cgroup, relative to the cgroup2 mount.
    pub cgroup: PathBuf,
    /// The pod network; `None`: loopback only.
    pub network: Option<NetworkFacts>,
    /// Where the disks of the namespace's claims lie.
    pub claims_dir: PathBuf,
    /// Paths below which pods may use the host's files.
    #[serde(default)]
    pub host_paths: Vec<PathBuf>,
    /// Kernel parameters beside the safe ones that pods may set.
    #[serde(default)]
    pub unsafe_sysctls: Vec<String>,
    /// Where containers are slowed down, in millionths of what is above their request.
    #[serde(default)]
    pub memory_throttling: Option<u32>,
    /// Most processes of a pod.
    #[serde(default)]
    pub pids_max: Option<u64>,
    /// The profile that pods are held to.
    #[serde(default)]
    pub tenant: Option<Tenant>,
    /// Those of the pod's hostPath volumes of any type that are files.
    #[serde(default)]
    pub host_files: BTreeSet<PathBuf>,
    /// Seccomp profiles that the pod names, those of them that are there.
    #[serde(default)]
    pub seccomp: BTreeMap<String, String>,
    /// The host's own name.
    pub node_name: String,
    /// Content of the host's resolv.conf.
    pub resolv_conf: String,
    /// CPUs of the host.
    pub cpus: u32,
    /// Memory of the host in MiB.
    pub memory_mib: u64,
    /// Size of a scratch disk when nothing asks for more, in bytes.
    pub scratch_bytes: u64,
}

/// The network that pods share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFacts {
    /// Its name; empty for the one that is always there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Name of the bridge.
    pub bridge: String,
    /// Address of the bridge, with the network's prefix length.
    pub gateway: Address,
    /// The same of IPv6, where the host has that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway6: Option<Address>,
    /// Largest packet in bytes.
    pub mtu: u16,
    /// Whether a resolver that knows the pods' names answers at the gateway.
    #[serde(default)]
    pub resolver: bool,
    /// What passes between it and others.
    #[serde(default, skip_serializing_if = "Beyond::is_usual")]
    pub beyond: Beyond,
}

impl NetworkFacts {
    /// All addresses of the bridge.
    pub fn gateways(&self) -> impl Iterator<Item = Address> {
        [Some(self.gateway), self.gateway6].into_iter().flatten()
    }
}

/// An image as the plan needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// `sha256:…` of its configuration.
    pub id: String,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// As images write it; may be empty.
    pub user: String,
    /// May be empty.
    pub working_dir: String,
    /// Name or number; may be empty.
    pub stop_signal: String,
    /// Lowest first.
    pub layers: Vec<LayerFile>,
}

/// A layer as a file of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFile {
    /// Digest of the uncompressed layer: equal layers have equal ones.
    pub diff_id: String,
    /// Its EROFS image.
    pub path: PathBuf,
    /// Length of the file, a multiple of 4096.
    pub bytes: u64,
}

/// One thing made on the host. Each undoes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HostStep {
    /// A directory with these permissions, and all that comes to lie in it.
    Directory {
        /// Absolute.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// A sparse file with an ext4 file system with project quotas.
    Scratch {
        /// Absolute.
        path: PathBuf,
        /// Size in bytes, a multiple of 4096.
        bytes: u64,
    },
    /// A sparse file that is a volume of the pod.
    Disk(VolumeFile),
    /// A directory in which directories and files of the host are mounted.
    Mounts {
        /// Absolute.
        path: PathBuf,
    },
    /// The server of a directory or file of the host.
    Share(SharePlan),
    /// The bridge of the network: shared, stays while another pod uses it.
    Bridge {
        /// Its name.
        name: String,
        /// The network's name; empty for the one that is always there.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        network: String,
        /// Its address.
        gateway: Address,
        /// The same of IPv6.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gateway6: Option<Address>,
        /// Largest packet in bytes.
        mtu: u16,
        /// What passes between the network and others.
        #[serde(default, skip_serializing_if = "Beyond::is_usual")]
        beyond: Beyond,
    },
    /// A tap, a port of the bridge.
    Tap {
        /// Its name.
        name: String,
        /// The bridge that it joins.
        bridge: String,
        /// Largest packet in bytes.
        mtu: u16,
    },
    /// What a tap may send: frames from its own card and addresses.
    Guard {
        /// The tap.
        tap: String,
        /// Address of its card.
        mac: MacAddress,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
    /// A network namespace of an ordinary user, with a card.
    Pasta(PastaPlan),
    /// A card of a network namespace, led to a tap beside it.
    Carry {
        /// The namespace.
        netns: PathBuf,
        /// The card.
        card: String,
        /// The tap.
        tap: String,
        /// Address of the card.
        mac: MacAddress,
        /// Largest packet in bytes.
        mtu: u16,
        /// Its IP addresses: it may send from no other.
        addresses: Vec<IpAddr>,
    },
    /// Ports of the host that lead to the pod.
    Publish {
        /// Name of the table that says so.
        table: String,
        /// The pod's addresses.
        addresses: Vec<IpAddr>,
        /// Which.
        ports: Vec<Published>,
    },
    /// The cgroup of VMM and supervisor.
    Cgroup(CgroupPlan),
}

/// A file that is a volume of its pod alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFile {
    /// Absolute.
    pub path: PathBuf,
    /// Size in bytes, a multiple of 4096.
    pub bytes: u64,
    /// Without a file system.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_block: bool,
}

/// A cgroup of the host and its limits; `None` leaves the kernel's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Relative to the cgroup2 mount.
    pub path: PathBuf,
    /// `memory.max` in bytes.
    pub memory_max: Option<u64>,
    /// `cpu.max`: microseconds per 100,000.
    pub cpu_quota_micros: Option<u64>,
    /// `cpu.weight`.
    pub cpu_weight: Option<u32>,
    /// `pids.max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u32>,
}

/// The machine. [`VmConfig`](beluga_proto::VmConfig) with names instead of
/// descriptors, which exist only once the host steps are done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmPlan {
    /// For messages and the process list; at most 63 bytes.
    pub name: String,
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// How the two came about.
    pub sizing: Sizing,
    /// The guest kernel.
    pub kernel: PathBuf,
    /// The initial RAM file system.
    pub initramfs: PathBuf,
    /// Kernel command line without the devices, which the VMM appends.
    pub cmdline: String,
    /// In order: `vda`, `vdb`, …
    pub disks: Vec<DiskPlan>,
    /// In order: `eth0`, …
    pub nets: Vec<NetPlan>,
    /// The guest's address on its own vsock.
    pub guest_cid: u32,
    /// An entropy device.
    pub rng: bool,
    /// A balloon with free-page reporting.
    pub balloon: bool,
}

/// A directory or file of the host, and who serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharePlan {
    /// The pod's volume.
    pub volume: String,
    /// By which the guest mounts it.
    pub tag: String,
    /// On the host.
    pub path: PathBuf,
    /// What has to be there.
    pub kind: HostPathKind,
    /// Whether it is a file; otherwise a directory.
    pub is_file: bool,
    /// No container mounts it to write.
    pub read_only: bool,
    /// Below one of these it must lie when all links are followed.
    pub allowed: Vec<PathBuf>,
    /// Whose it is.
    pub pod: PodUid,
    /// The server's standard error.
    pub log: PathBuf,
}

/// A disk made of pieces of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    /// At most 20 bytes.
    pub id: String,
    /// The guest may not write.
    pub read_only: bool,
    /// In order.
    pub extents: Vec<ExtentPlan>,
    /// Offer discard.
    pub discard: bool,
    /// Offer flush.
    pub flush: bool,
    /// How much may be read and written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentPlan {
    /// The file.
    pub path: PathBuf,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetPlan {
    /// For messages.
    pub id: String,
    /// Name of the tap.
    pub tap: String,
    /// Address of the card.
    pub mac: MacAddress,
    /// Largest packet in bytes.
    pub mtu: u16,
    /// How much it may carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<NetLimits>,
}

/// A container to run, however often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// What it is to the pod.
    pub kind: ContainerKind,
    /// The image as the manifest writes it.
    pub image: String,
    /// `sha256:…` of the image's configuration.
    pub image_id: String,
    /// What the agent is told.
    pub template: ContainerTemplate,
    /// Signal number that asks it to end.
    pub stop_signal: i32,
    /// When it is started again: the pod's policy, `OnFailure` at most for an
    /// init container, `Always` for a sidecar.
    pub restart: RestartPolicy,
    /// Ends after which it is started again whatever the policy says.
    #[serde(default)]
    pub restart_rules: Vec<RestartRule>,
    /// After a failure without a last message, the end of its output is one.
    #[serde(default)]
    pub message_or_output: bool,
    /// What is done when it has started and before it is stopped.
    #[serde(default)]
    pub hooks: Hooks,
    /// Seconds from the stop signal to SIGKILL after a failed startup probe.
    #[serde(default)]
    pub startup_grace_seconds: Option<u32>,
    /// Seconds from the stop signal to SIGKILL after a failed liveness probe.
    #[serde(default)]
    pub liveness_grace_seconds: Option<u32>,
    /// End standard input when the first client that attached goes.
    pub stdin_once: bool,
    /// What it asks for and may use: the source of the cgroup's limits.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Where its log lies, where that is not the pod's own directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// Where its output goes in place of a log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fifos: Option<Fifos>,
}

/// What a container is to its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerKind {
    /// Runs to completion before the next one starts.
    Init,
    /// An init container that is kept running, and stopped last.
    Sidecar,
    /// One of those that the pod is for.
    App,
    /// Put beside them while they run; the pod does not depend on it.
    Ephemeral,
}

/// [`ContainerSpec`] but for the identity of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerTemplate {
    /// Its name in the pod.
    pub name: String,
    /// Partitions of the layer disk, lowest layer first.
    pub layers: Vec<u8>,
    /// Limit of its writable layer in bytes.
    pub writable_limit: Option<u64>,
    /// Root file system is read-only.
    pub read_only_root: bool,
    /// The process.
    pub process: ExecSpec,
    /// Variables that are read from files when it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_variables: Vec<FileVariable>,
    /// Volumes to mount.
    pub mounts: Vec<MountSpec>,
    /// Disks that it sees as devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceSpec>,
    /// Limits.
    pub cgroup: CgroupLimits,
    /// All devices, nothing masked.
    pub privileged: bool,
    /// Mask parts of /proc and /sys.
    pub mask_paths: bool,
    /// What else of it is covered.
    #[serde(default, skip_serializing_if = "CoveredPaths::is_empty")]
    pub covered: CoveredPaths,
    /// Where in the container its last message is written.
    #[serde(default)]
    pub termination_log: Option<String>,
    /// What is probed while it runs.
    #[serde(default)]
    pub probes: Vec<ProbeSpec>,
    /// The container whose PID namespace it joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// It is not in the PID namespace that the pod's containers share.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_processes: bool,
    /// Its root file system in place of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootSpec>,
}

impl ContainerTemplate {
    /// What the agent is told for the run `id`.
    #[must_use]
    pub fn with_id(&self, id: ContainerId) -> ContainerSpec {
        ContainerSpec {
            id,
            name: self.name.clone(),
            layers: self.layers.clone(),
            writable_limit: self.writable_limit,
            read_only_root: self.read_only_root,
            process: self.process.clone(),
            file_variables: self.file_variables.clone(),
            mounts: self.mounts.clone(),
            devices: self.devices.clone(),
            cgroup: self.cgroup.clone(),
            privileged: self.privileged,
            mask_paths: self.mask_paths,
            covered: self.covered.clone(),
            termination_log: self.termination_log.clone(),
            probes: self.probes.clone(),
            probes_wait: false,
            processes_of: None,
            own_processes: self.own_processes,
            root: self.root.clone(),
        }
    }
}

impl ContainerPlan {
    /// What the agent is told for the run `id`.
    #[must_use]
    pub fn run(&self, id: ContainerId) -> ContainerSpec {
        ContainerSpec {
            probes_wait: self.hooks.post_start.is_some(),
            ..self.template.with_id(id)
        }
    }

    /// Whether it has a probe of this kind.
    #[must_use]
    pub fn has_probe(&self, kind: ProbeKind) -> bool {
        self.template.probes.iter().any(|probe| probe.kind == kind)
    }

    /// Its name in the pod.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.template.name
    }
}

impl NetworkIdentity {
    /// Its addresses with the network's prefix lengths, IPv4 first.
    pub fn places(&self) -> impl Iterator<Item = Address> {
        [Some(self.address), self.address6].into_iter().flatten()
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.places().map(|place| place.ip)
    }
}

impl Plan {
    /// The pod's network, by name, and the host's address in it.
    #[must_use]
    pub fn gateway(&self) -> Option<(&str, IpAddr)> {
        self.host.iter().find_map(|step| match step {
            HostStep::Bridge {
                gateway, network, ..
            } => Some((network.as_str(), gateway.ip)),
            _ => None,
        })
    }

    /// The pod's addresses, IPv4 first.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        self.identity.addresses()
    }
}
