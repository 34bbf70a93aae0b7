//! What is going to happen, decided before anything does.
//!
//! [`plan`] is pure: a [`PodSpec`], the images it names, facts about the host
//! and an identity go in, a [`Plan`] comes out. A dry run, a golden test and a
//! bug report are this one text.

mod beyond;
mod carried;
mod change;
mod claims;
mod command;
mod container;
mod downward;
mod files;
mod guest;
mod image;
mod layers;
mod memory;
mod place;
mod probes;
mod seccomp;
mod shares;
mod signal;
mod size;
mod tenant;
mod types;
mod volume_images;

pub use beyond::Beyond;
pub use carried::{Card, Carried, CarriedDns, CniPlaces, PastaPlan};
pub use change::{Changes, Difference, amend, difference, with_layers_of};
pub use claims::MAX_CLAIMS;
pub use container::root_entry;
pub use downward::Objects;
pub use files::{MAX_VOLUME, files};
pub use guest::short_name;
pub use image::image_facts;
pub use layers::DISK as LAYER_DISK;
pub use shares::{MAX_VOLUME_DEVICES, is_allowed};
pub use signal::signal as signal_number;
pub use size::milli_cpus;
pub use size::{SizeSource, SizeTerm, Sizing};
pub use tenant::{Tenant, TenantError, beyond_baseline};
pub use types::{
    CgroupPlan, ContainerKind, ContainerPlan, ContainerTemplate, DiskPlan, ExtentPlan, HostFacts,
    HostStep, Identity, ImageFacts, LayerFile, NetPlan, NetworkFacts, NetworkIdentity, Plan,
    SharePlan, VmPlan, Warning,
};

use crate::spec::{Medium, ObjectKind, PodSpec, Published, VolumeSource};
use beluga_proto::vm::EXTENT_ALIGN;
use layers::Layers;
use std::collections::BTreeMap;

/// Why a pod cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A seccomp profile of the host is not there.
    #[error(
        "container {container:?}: there is no seccomp profile {profile:?} below /etc/beluga/seccomp (or BELUGA_SECCOMP)"
    )]
    NoSeccomp {
        /// Whose.
        container: String,
        /// As the manifest writes it.
        profile: String,
    },
    /// A seccomp profile of the host cannot be used.
    #[error("container {container:?}: the seccomp profile {profile:?} cannot be used")]
    Seccomp {
        /// Whose.
        container: String,
        /// As the manifest writes it.
        profile: String,
        /// Why.
        #[source]
        source: seccomp::SeccompError,
    },
    /// An image is not among those handed in.
    #[error("container {container:?}: the image {image:?} is not present")]
    Image {
        /// Whose image.
        container: String,
        /// As the manifest writes it.
        image: String,
    },
    /// Neither the manifest nor the image names a program.
    #[error(
        "container {container:?}: neither the manifest nor the image {image:?} says what to run"
    )]
    NoCommand {
        /// Which container.
        container: String,
        /// As the manifest writes it.
        image: String,
    },
    /// A subPathExpr does not come to a path below its volume.
    #[error("container {container:?}: the subPathExpr {expression:?} is of no use: {why}")]
    SubPath {
        /// Which container.
        container: String,
        /// As the manifest writes it.
        expression: String,
        /// What is wrong.
        why: String,
    },
    /// What a variable's value is taken from is not there.
    #[error("container {container:?}: {what} not found")]
    Missing {
        /// Which container.
        container: String,
        /// The object or key.
        what: String,
    },
    /// A value that no environment can carry.
    #[error(
        "container {container:?}: key {key:?} of {kind} {name:?} is not text, so it can be a file but not a variable"
    )]
    NotText {
        /// Which container.
        container: String,
        /// The key.
        key: String,
        /// Of what.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// The kernel takes no such name.
    #[error(
        "the name {name:?} has {} characters; the kernel takes {MAX_KERNEL_NAME} at most",
        .name.len()
    )]
    HostName {
        /// With its domain.
        name: String,
    },
    /// What a volume is made of is not there.
    #[error("volume {volume:?}: {what}")]
    VolumeSource {
        /// Which volume.
        volume: String,
        /// What is missing.
        what: String,
    },
    /// More disks than a machine can have.
    #[error("the pod has {count} volumes that are disks of claims; at most {MAX_CLAIMS} fit")]
    Claims {
        /// How many.
        count: usize,
    },
    /// More disks and shared directories than a machine can have.
    #[error(
        "the pod has {claims} disks of claims and {shares} shared directories; a machine has room for {MAX_VOLUME_DEVICES} together"
    )]
    VolumeDevices {
        /// Disks.
        claims: usize,
        /// Shared directories.
        shares: usize,
    },
    /// A part of the host that nobody has allowed.
    #[error(
        "spec.volumes[{at}].hostPath: forbidden by policy: {path} is below no path that pods may \
         use (allow it with --allow-host-path {path}, or in BELUGA_ALLOW_HOST_PATH)"
    )]
    HostPath {
        /// Place among the volumes.
        at: usize,
        /// As the manifest has it.
        path: String,
    },
    /// Something that the pod's profile does not have.
    #[error(transparent)]
    Tenant(#[from] TenantError),
    /// A kernel parameter that nobody has allowed.
    #[error("{}", crate::spec::forbidden_sysctl(.name))]
    Sysctl {
        /// Which.
        name: String,
    },
    /// A volume of files is too large for memory.
    #[error("volume {volume:?}: its files have {bytes} bytes; at most {MAX_VOLUME} fit")]
    VolumeSize {
        /// Which volume.
        volume: String,
        /// Bytes of its files.
        bytes: usize,
    },
    /// The image demands a signal that Linux does not have.
    #[error("container {container:?}: the stop signal {signal:?} of the image is not a signal")]
    StopSignal {
        /// Which container.
        container: String,
        /// As the image writes it.
        signal: String,
    },
    /// The layer disk has no more places.
    #[error("the images of the pod have {count} different layers; at most 255 fit")]
    Layers {
        /// Distinct layers.
        count: usize,
    },
    /// More CPUs than a machine can have.
    #[error("the pod needs {needed} CPUs ({sum}); a pod's machine has at most 32")]
    Cpus {
        /// Virtual CPUs.
        needed: u64,
        /// The arithmetic.
        sum: String,
    },
    /// A machine cannot get more while it runs.
    #[error(
        "refused: the pod's machine was started with {present} and this needs {needed} ({sum}): delete the pod and make it anew"
    )]
    Grow {
        /// `2 CPUs`, `128 MiB`.
        present: String,
        /// The same, of a machine that would do.
        needed: String,
        /// The arithmetic.
        sum: String,
    },
    /// More memory than the host has.
    #[error("the pod needs {needed} MiB of memory ({sum}); this host has {present} MiB")]
    Memory {
        /// MiB.
        needed: u64,
        /// The arithmetic.
        sum: String,
        /// MiB of the host.
        present: u64,
    },
}

/// Longest name of a host, as the kernel has it (`__NEW_UTS_LEN`).
const MAX_KERNEL_NAME: usize = 64;

/// Errors when a pod cannot fit a host of so much memory, with the sum.
pub fn fits(spec: &PodSpec, host_mib: u64) -> Result<(), PlanError> {
    // A pod may have more CPUs than its host.
    size::machine(spec, (host_mib, u32::MAX)).map(drop)
}

/// The first vsock address that is nobody's own (vsock(7)); each guest is
/// alone on its vsock, so all have the same.
const GUEST_CID: u32 = 3;

/// The guest's kernel parameters: quiet, no probing of hardware that is not
/// there, a panic or reset that reaches the VMM at once, last words on the
/// early port.
///
/// `quiet` stands before `earlyprintk`: the early port replays the log when it
/// is registered, at two exits a byte.
const CMDLINE: &str = "quiet earlyprintk=serial,0x3f8,nocfg,keep console=ttynull panic=-1 \
                       reboot=t no_timer_check tsc=reliable random.trust_cpu=on \
                       rcupdate.rcu_expedited=1 cryptomgr.notests noreplace-smp \
                       dummy.numdummies=0";

/// Decides everything about one pod. `images` is keyed by the containers'
/// image as the manifest writes it; `objects` are those of the pod's namespace.
pub fn plan(
    spec: &PodSpec,
    images: &BTreeMap<String, ImageFacts>,
    objects: &Objects,
    host: &HostFacts,
    identity: Identity,
) -> Result<Plan, PlanError> {
    let mut layers = Layers::default();
    let sizing = size::machine(spec, (host.memory_mib, host.cpus))?;
    let scratch_bytes = scratch_bytes(spec, host);
    let facts = downward::Facts {
        spec,
        identity: &identity,
        host: Some(host),
        objects,
        vcpus: sizing.vcpus,
        memory_mib: sizing.memory_mib,
        memory_throttling: host.memory_throttling,
        pids_max: host.pids_max,
        scratch_bytes,
    };
    guest::check(spec, host, &identity)?;
    tenant::admit(&facts)?;
    let containers = container::plan(&facts, images, &mut layers, |_| true)?;
    let volume_images = volume_images::add(spec, images, &mut layers)?;
    let warnings = guest::warnings(spec, host, &identity);
    let mut disks = vec![layers.disk(), scratch_disk(spec, host, scratch_bytes)];
    disks.extend(claims::disks(&facts)?);
    claims::check_modes(&facts)?;
    let shares = shares::steps(&facts, host)?;
    let cgroup = sizing.cgroup(host.cgroup.clone(), shares::servers(&shares));
    let mut steps = host_steps(host, &identity, cgroup, (scratch_bytes, spec.published()));
    steps.extend(claims::steps(&facts, host));
    let net = native_net(spec, host, &identity);
    Ok(Plan {
        host: steps.into_iter().chain(shares).collect(),
        guest: guest::setup(&facts, host, &volume_images.layers),
        vm: VmPlan {
            name: machine_name(&identity),
            vcpus: sizing.vcpus,
            memory_mib: sizing.memory_mib,
            sizing: sizing.sums,
            kernel: host.kernel.clone(),
            initramfs: host.initramfs.clone(),
            cmdline: CMDLINE.to_owned(),
            disks,
            nets: net
                .into_iter()
                .chain(carried_nets(spec, &identity))
                .collect(),
            guest_cid: GUEST_CID,
            rng: true,
            balloon: true,
        },
        layers: layers.extents(),
        containers,
        volume_images: volume_images.ids,
        warnings,
        memory_throttling: host.memory_throttling,
        tenant: host.tenant,
        grace_seconds: spec.grace_seconds,
        active_deadline_seconds: spec.active_deadline_seconds,
        sandbox: spec.sandbox.is_some(),
        identity,
    })
}

fn scratch_disk(spec: &PodSpec, host: &HostFacts, length: u64) -> DiskPlan {
    DiskPlan {
        id: "scratch".into(),
        read_only: false,
        extents: vec![ExtentPlan {
            path: host.pod_dir.join("scratch.img"),
            offset: 0,
            length,
        }],
        discard: true,
        // The scratch disk dies with the pod: nothing on it must survive a crash.
        flush: false,
        rate: spec.disk_rate(),
    }
}

/// The card in the network of our own.
fn native_net(spec: &PodSpec, host: &HostFacts, identity: &Identity) -> Option<NetPlan> {
    let network = host.network.as_ref().zip(identity.network.as_ref());
    network.map(|(shared, own)| NetPlan {
        id: "eth0".into(),
        tap: own.tap.clone(),
        mac: own.mac,
        mtu: shared.mtu,
        limits: spec.net_limits(),
    })
}

/// A card of the machine for each that others have made.
fn carried_nets(spec: &PodSpec, identity: &Identity) -> impl Iterator<Item = NetPlan> {
    let cards = identity.carried.iter().flat_map(|all| &all.cards);
    cards.map(|card| NetPlan {
        id: card.name.clone(),
        tap: card.tap.clone(),
        mac: card.mac,
        mtu: card.mtu,
        limits: spec.net_limits(),
    })
}

/// `name-uid`, cut so that the process list shows which pod it is.
fn machine_name(identity: &Identity) -> String {
    let short = &identity.uid.as_str()[..8];
    let name: String = identity.name.chars().take(54).collect();
    format!("{name}-{short}")
}

/// What the pod's volumes and writable layers may hold, as far as the manifest
/// says so.
pub fn storage_asked(spec: &PodSpec) -> u64 {
    let volumes = spec
        .volumes
        .iter()
        .filter_map(|volume| match volume.source {
            VolumeSource::EmptyDir {
                medium: Medium::Disk,
                size_limit,
            } => size_limit,
            VolumeSource::EmptyDir { .. }
            | VolumeSource::Files { .. }
            | VolumeSource::Claim { .. }
            | VolumeSource::Ephemeral { .. }
            | VolumeSource::HostPath { .. }
            | VolumeSource::Image { .. } => None,
        });
    let layers = spec.all_containers().filter_map(|container| {
        let of = &container.resources;
        of.storage_limit.or(of.storage_request)
    });
    volumes
        .chain(layers)
        .fold(0u64, |sum, bytes| sum.saturating_add(bytes))
}

/// The default, or that sum when it is more.
fn scratch_bytes(spec: &PodSpec, host: &HostFacts) -> u64 {
    let wanted = storage_asked(spec);
    // A twentieth more: inode tables, journal and reserved blocks of ext4.
    let wanted = wanted.saturating_add(wanted / 20);
    let bytes = host.scratch_bytes.max(wanted);
    bytes.div_ceil(EXTENT_ALIGN).saturating_mul(EXTENT_ALIGN)
}

fn host_steps(
    host: &HostFacts,
    identity: &Identity,
    cgroup: CgroupPlan,
    (scratch_bytes, published): (u64, Vec<Published>),
) -> Vec<HostStep> {
    let directory = |path: &std::path::Path| HostStep::Directory {
        path: path.to_owned(),
        mode: 0o700,
    };
    let mut steps = vec![
        HostStep::Cgroup(cgroup),
        directory(&host.pod_dir),
        directory(&host.pod_dir.join("logs")),
        directory(&host.run_dir),
        HostStep::Scratch {
            path: host.pod_dir.join("scratch.img"),
            bytes: scratch_bytes,
        },
    ];
    if let Some((shared, own)) = host.network.as_ref().zip(identity.network.as_ref()) {
        steps.push(HostStep::Bridge {
            name: shared.bridge.clone(),
            network: shared.name.clone(),
            gateway: shared.gateway,
            gateway6: shared.gateway6,
            mtu: shared.mtu,
            beyond: shared.beyond.clone(),
        });
        steps.push(HostStep::Tap {
            name: own.tap.clone(),
            bridge: shared.bridge.clone(),
            mtu: shared.mtu,
        });
        steps.push(HostStep::Guard {
            tap: own.tap.clone(),
            mac: own.mac,
            addresses: own.addresses().collect(),
        });
        if !published.is_empty() {
            steps.push(HostStep::Publish {
                table: own.tap.clone(),
                addresses: own.addresses().collect(),
                ports: published,
            });
        }
    }
    steps.extend(identity.carried.iter().flat_map(Carried::steps));
    steps
}
