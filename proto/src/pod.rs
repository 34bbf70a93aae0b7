//! What the agent is told of the pod itself, once, before any container.

use crate::container::CgroupLimits;
use crate::vm::MacAddress;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The "logical host" that the containers share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSetup {
    /// Hostname in the one UTS namespace.
    pub hostname: String,
    /// Cards to configure; loopback is always up.
    pub interfaces: Vec<Interface>,
    /// Content of /etc/hosts of every container.
    pub hosts: String,
    /// Content of /etc/resolv.conf of every container.
    pub resolv_conf: String,
    /// Scratch disk: device name under /dev (`vdb`), formatted ext4 with
    /// project quota. Without one, writable layers live in memory.
    pub scratch: Option<String>,
    /// Size limit of /dev/shm in bytes.
    pub shm_bytes: u64,
    /// Volumes, each made once and mounted into any number of containers.
    pub volumes: Vec<VolumeSetup>,
    /// One PID namespace for all containers instead of one each.
    pub share_processes: bool,
    /// No PID namespace at all: containers see all processes of the guest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guest_processes: bool,
    /// No process is started beside those of containers, and no port of the pod is
    /// reached but by its card: `Exec` and `Connect` are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_exec: bool,
    /// Kernel parameters of the pod, dotted names.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// What all containers together may use.
    #[serde(default, skip_serializing_if = "CgroupLimits::is_empty")]
    pub cgroup: CgroupLimits,
    /// The host's clock, nanoseconds since 1970.
    pub clock_unix_nanos: u64,
}

/// One network card and its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name that it gets (`eth0`).
    pub name: String,
    /// By which it is found.
    pub mac: MacAddress,
    /// Largest packet in bytes.
    pub mtu: u16,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<Address>,
    /// Routes through it.
    pub routes: Vec<Route>,
}

/// An address of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// IPv4 or IPv6.
    pub ip: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
}

/// A route: where to, and through whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination network; `None` is the default route.
    pub to: Option<Address>,
    /// Gateway; `None` means on the link.
    pub via: Option<IpAddr>,
}

/// A volume of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSetup {
    /// Its name in the pod.
    pub name: String,
    /// What it is.
    pub kind: VolumeKind,
    /// The group that owns it, and that may do in it what its user may. Of a share
    /// its root alone is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// What is on it is given to the group only where its root is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub group_on_mismatch: bool,
    /// Mounts below it pass between containers that want that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// What a volume is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum VolumeKind {
    /// Directory on the scratch disk.
    EmptyDir {
        /// Project quota in bytes; none: the scratch disk's size.
        limit_bytes: Option<u64>,
    },
    /// tmpfs.
    Memory {
        /// Its size; none: half of the guest's memory, as tmpfs has it.
        limit_bytes: Option<u64>,
    },
    /// A disk with an ext4 file system, which outlives the pod.
    Disk {
        /// Name under /dev (`vdc`).
        device: String,
    },
    /// A disk without a file system, which outlives the pod.
    Block {
        /// Name under /dev (`vdc`).
        device: String,
    },
    /// A directory or file of the host, through virtio-fs.
    Share {
        /// The device's tag.
        tag: String,
        /// Whether it is the file `file` in the root of what is mounted;
        /// otherwise it is that root.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_file: bool,
    },
    /// tmpfs with what `WriteFiles` brings, for containers to read.
    Files,
    /// The files of an image, to be read and not executed.
    Image {
        /// Partitions of the layer disk, lowest layer first. They may be added
        /// later, but before the first container that mounts it.
        layers: Vec<u8>,
    },
}
