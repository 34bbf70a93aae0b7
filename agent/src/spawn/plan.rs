//! What the helper is told: one typed plan, JSON on an inherited descriptor.

use crate::quota::ProjectQuota;
use beluga_proto::ExecSpec;
use beluga_proto::container::{CoveredPaths, Propagation};
use beluga_proto::copy::CopySpec;
use serde::{Deserialize, Serialize};

/// One process to become.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpawnPlan {
    /// In a root of its own, or beside another process.
    pub place: Place,
    /// The process, as the supervisor described it.
    pub process: ExecSpec,
    /// Absolute path of an existing cgroup directory, limits and device filter
    /// set; the process is born in it.
    pub cgroup: String,
    /// All devices of the guest; /sys and cgroups writable.
    pub privileged: bool,
    /// Mask and write-protect parts of /proc and /sys.
    pub mask_paths: bool,
    /// Move files instead of executing a program.
    pub copy: Option<CopySpec>,
}

impl SpawnPlan {
    /// Whether the helper ends and a sibling goes on, in the PID namespace that
    /// it joins. Who moves files is not to be seen there.
    pub fn hands_over(&self) -> bool {
        matches!(self.place, Place::Join { unseen: true, .. }) && self.copy.is_none()
    }
}

/// Where a process runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Place {
    /// In a new root with namespaces of its own.
    Create(Box<RootPlan>),
    /// In the mount, PID and cgroup namespaces of another process.
    Join {
        /// That process in the first PID namespace; alive, or not yet reaped.
        pid: u32,
        /// Not seen there before it executes, at the price of another PID.
        unseen: bool,
    },
}

/// A container's root and what is mounted into it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootPlan {
    /// Image layers, lowest first.
    pub layers: Vec<LayerMount>,
    /// A directory in place of layers.
    pub lower: Option<String>,
    /// Images that are volumes of it.
    pub images: Vec<ImageMount>,
    /// Where its writes go.
    pub writable: Writable,
    /// The root is read-only once it is built.
    pub read_only: bool,
    /// An empty directory: mount point of the root while it is built.
    pub root: String,
    /// Volumes, in order of destination depth.
    pub mounts: Vec<VolumeMount>,
    /// Volumes as block devices.
    pub devices: Vec<DeviceNode>,
    /// Files of the agent that the container sees.
    pub files: Vec<FileMount>,
    /// What is covered at last.
    pub covered: CoveredPaths,
    /// Where the run leaves its last message.
    pub termination_log: Option<String>,
    /// A process whose PID namespace it joins instead of getting its own.
    pub shared_pid: Option<u32>,
}

/// A read-only layer: mounted once per pod, by whoever needs it first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerMount {
    /// Block device with an EROFS image.
    pub device: String,
    /// Existing directory to mount it at, in the agent's mount namespace.
    pub mount_point: String,
}

/// An image as a volume: mounted once per pod, by whoever needs it first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageMount {
    /// Its layers, lowest first.
    pub layers: Vec<LayerMount>,
    /// Existing directory to mount it at, in the agent's mount namespace.
    pub mount_point: String,
}

/// The writable layer of a container.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Writable {
    /// Directory of this container alone; made when missing.
    pub dir: String,
    /// Project that it is charged to and limited by.
    pub project: Option<ProjectQuota>,
}

/// A volume's place in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Directory of the volume in the agent's mount namespace.
    pub source: String,
    /// Absolute path in the container; made when missing.
    pub destination: String,
    /// Path below the volume's root; a directory is made when it is missing.
    pub sub_path: Option<String>,
    /// The container may not write through this mount.
    pub read_only: bool,
    /// Which mounts below it pass.
    pub propagation: Propagation,
}

/// A volume's place in a container as a block device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeviceNode {
    /// The device's file in the guest's own /dev.
    pub source: String,
    /// Absolute path in the container.
    pub destination: String,
    /// The container may not open it for writing.
    pub read_only: bool,
}

/// A file of the agent at a place in a container, unless a volume is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileMount {
    /// File in the agent's mount namespace.
    pub source: String,
    /// Absolute path in the container; made when missing.
    pub destination: String,
}
