//! A pod's next plan: what changes while it runs, and nothing else.
//!
//! The machine, the volumes and the network stay as they are. The layer disk
//! only grows: a layer that lies on it keeps its place for as long as the
//! machine runs, so that a mounted file system never moves.

use super::downward::{Facts, Objects};
use super::layers::{DISK, Layers};
use super::types::{ContainerKind, ContainerPlan, DiskPlan, HostFacts, HostStep, ImageFacts, Plan};
use super::{PlanError, container, memory, size, tenant};
use crate::spec::{Container, PodSpec};
use std::collections::{BTreeMap, BTreeSet};

/// What is changed about a running pod, by the containers' names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Planned anew, with the images and objects of now.
    pub anew: BTreeSet<String>,
    /// Other limits, everything else as it is.
    pub resized: BTreeSet<String>,
}

/// The plan of a running pod that is to be as `spec` says. Containers that are
/// not among the changes stay as they are. Errors when the machine is too small.
pub fn amend(
    present: &Plan,
    spec: &PodSpec,
    changes: &Changes,
    images: &BTreeMap<String, ImageFacts>,
    objects: &Objects,
    host: &HostFacts,
) -> Result<Plan, PlanError> {
    tenant::check_change(present, spec)?;
    let mut layers = layer_disk(present).map(Layers::of).unwrap_or_default();
    let facts = Facts {
        spec,
        identity: &present.identity,
        host: Some(host),
        objects,
        vcpus: present.vm.vcpus,
        memory_mib: present.vm.memory_mib,
        // What a pod was started with counts for who says nothing.
        memory_throttling: host.memory_throttling.or(present.memory_throttling),
        // Only a start bounds the pod's cgroup.
        pids_max: present.guest.cgroup.pids_max,
        scratch_bytes: scratch_bytes(present),
    };
    let is_new = |one: &Container| changes.anew.contains(&one.name);
    let fresh = container::plan(&facts, images, &mut layers, is_new)?;
    let mut plan = present.clone();
    plan.memory_throttling = facts.memory_throttling;
    let throttling = memory::throttling(&facts);
    for container in fresh {
        match place(&plan, spec, container.name()) {
            Some(at) => plan.containers[at] = container,
            None => plan.containers.push(container),
        }
    }
    if !changes.resized.is_empty() {
        resize(&mut plan, spec, changes, (host, throttling))?;
    }
    plan.layers = layers.extents();
    if let Some(disk) = plan.vm.disks.iter_mut().find(|disk| disk.id == DISK) {
        *disk = layers.disk();
    }
    Ok(plan)
}

/// Where a container is put: where it is, or in a sandbox where one was that is
/// not in it any more.
fn place(plan: &Plan, spec: &PodSpec, name: &str) -> Option<usize> {
    let own = plan.containers.iter().position(|one| one.name() == name);
    let is_gone =
        |one: &ContainerPlan| !spec.all_containers().any(|known| known.name == one.name());
    own.or_else(|| {
        let mut all = plan.containers.iter();
        all.position(is_gone).filter(|_| plan.sandbox)
    })
}

/// Gives containers other limits, and the pod's cgroup on the host its share.
fn resize(
    plan: &mut Plan,
    spec: &PodSpec,
    changes: &Changes,
    (host, throttling): (&HostFacts, Option<memory::Throttling>),
) -> Result<(), PlanError> {
    let machine = size::machine(spec, (host.memory_mib, host.cpus))?;
    let (vcpus, memory_mib) = (plan.vm.vcpus, plan.vm.memory_mib);
    // Room to burst is what was there at the start.
    let least = machine.least;
    if least.vcpus > vcpus {
        return Err(PlanError::Grow {
            present: cpus(vcpus),
            needed: cpus(least.vcpus),
            sum: machine.sums.cpu_line(least.vcpus),
        });
    }
    if least.memory_mib > memory_mib {
        return Err(PlanError::Grow {
            present: format!("{memory_mib} MiB"),
            needed: format!("{} MiB", least.memory_mib),
            sum: machine.sums.memory_line(least.memory_mib),
        });
    }
    for container in &mut plan.containers {
        let mut all = spec.own_containers();
        let name = container.name();
        let found = all.find(|one| one.name == name && changes.resized.contains(name));
        if let Some(found) = found {
            container.resources.clone_from(&found.resources);
            let pids_max = container.template.cgroup.pids_max;
            container.template.cgroup = container::own_limits(spec, found, throttling);
            container.template.cgroup.pids_max = pids_max;
        }
    }
    // The guest keeps the memory that it was started with.
    let machine = size::Machine {
        vcpus: machine.vcpus.min(vcpus),
        memory_mib,
        ..machine
    };
    let is_share = |step: &&HostStep| matches!(step, HostStep::Share(_));
    let shares = plan.host.iter().filter(is_share).count();
    for step in &mut plan.host {
        if let HostStep::Cgroup(cgroup) = step {
            *cgroup = machine.cgroup(cgroup.path.clone(), shares);
        }
    }
    Ok(())
}

fn cpus(count: u8) -> String {
    format!("{count} CPU{}", if count == 1 { "" } else { "s" })
}

/// `plan` with the layer disk of a later one: what has come to lie on the disk
/// stays there when a change is undone.
#[must_use]
pub fn with_layers_of(plan: &Plan, later: &Plan) -> Plan {
    let mut plan = plan.clone();
    plan.layers.clone_from(&later.layers);
    if let Some(grown) = layer_disk(later)
        && let Some(disk) = plan.vm.disks.iter_mut().find(|disk| disk.id == DISK)
    {
        disk.clone_from(grown);
    }
    plan
}

fn scratch_bytes(plan: &Plan) -> u64 {
    let mut disks = plan.vm.disks.iter();
    let scratch = disks.find(|disk| disk.id == "scratch");
    scratch.map_or(0, |disk| disk.extents.iter().map(|one| one.length).sum())
}

fn layer_disk(plan: &Plan) -> Option<&DiskPlan> {
    plan.vm.disks.iter().find(|disk| disk.id == DISK)
}

/// What a next plan asks of a running pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Places of containers that are to run from something else.
    pub replaced: Vec<usize>,
    /// Places of containers that are not there yet: ephemeral ones, or those of
    /// a sandbox.
    pub added: Vec<usize>,
}

/// In what two plans of one pod differ. Errors when the later one is not of
/// the same containers on the same, perhaps longer, layer disk.
///
/// `restart` names containers that are run anew though they need not be.
pub fn difference(
    present: &Plan,
    next: &Plan,
    restart: &BTreeSet<String>,
) -> Result<Difference, &'static str> {
    let extents = |plan| layer_disk(plan).map(|disk| disk.extents.as_slice());
    let grows = match (extents(present), extents(next)) {
        (Some(old), Some(new)) => new.starts_with(old),
        (None, None) => true,
        _ => false,
    };
    if present.identity != next.identity || present.tenant != next.tenant || !grows {
        return Err("it was made for another state of the pod");
    }
    if tenant::beside(present, next.containers.iter().map(ContainerPlan::name)).is_some() {
        return Err("the profile tenant has no containers for debugging");
    }
    let names = |plan: &Plan| -> Vec<String> {
        let all = plan.containers.iter();
        all.map(|one| one.name().to_owned()).collect()
    };
    if present.sandbox {
        let known = names(present);
        let numbered = names(next).into_iter().enumerate();
        let added = numbered.filter(|(at, name)| known.get(*at) != Some(name));
        return Ok(Difference {
            replaced: Vec::new(),
            added: added.map(|(at, _)| at).collect(),
        });
    }
    let more = next.containers.get(present.containers.len()..);
    let only_more = names(next).starts_with(&names(present));
    let is_looking = |one: &ContainerPlan| one.kind == ContainerKind::Ephemeral;
    if !only_more || !more.is_some_and(|more| more.iter().all(is_looking)) {
        return Err("its containers are others");
    }
    let pairs = present.containers.iter().zip(&next.containers).enumerate();
    let replaced =
        pairs.filter(|(_, (old, new))| is_other(old, new) || restart.contains(new.name()));
    Ok(Difference {
        replaced: replaced.map(|(at, _)| at).collect(),
        added: (present.containers.len()..next.containers.len()).collect(),
    })
}

/// Whether a container must be run anew to be as the later plan says: other
/// limits reach it while it runs.
fn is_other(old: &ContainerPlan, new: &ContainerPlan) -> bool {
    let mut old = old.clone();
    old.resources.clone_from(&new.resources);
    old.template.cgroup.clone_from(&new.template.cgroup);
    old != *new
}
