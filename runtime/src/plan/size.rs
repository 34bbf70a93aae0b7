//! The size of a pod's machine is arithmetic, and every summand is kept.
//!
//! ```text
//! CPUs   = ceil(max(Σ app + Σ sidecars, each init container + the sidecars before it))
//! memory =      max(Σ app + Σ sidecars, each init container + the sidecars before it) + overhead
//! ```
//!
//! A limit of the pod itself stands in place of the sum; without one, the sum is
//! never less than what the pod itself requests.
//!
//! The overhead of a pod of tiny containers is what its machine needs to boot.
//!
//! A container counts with its limit or, without one, its request; one that has
//! neither counts as nothing. But a request is no bound, and who has no limit may
//! use what its peers leave idle: where an app or sidecar has none, the machine is
//! half as large again as the sum, as far as the host goes, and never smaller than
//! the default; where an init container alone has none, it is the default at least.

use super::PlanError;
use super::types::CgroupPlan;
use crate::spec::{Bytes, Container, PodSpec, Resources};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the size of a VM came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizing {
    /// Where the CPU figure is from.
    pub cpu_source: SizeSource,
    /// Thousandths of a CPU by container.
    pub cpu_terms: Vec<SizeTerm>,
    /// Where the memory figure is from.
    pub memory_source: SizeSource,
    /// Bytes by container.
    pub memory_terms: Vec<SizeTerm>,
    /// MiB that the guest itself needs, part of the sum.
    pub overhead_mib: u32,
}

/// Where a figure is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeSource {
    /// No container says anything.
    Default,
    /// The containers' limits or, where they have none, requests.
    Containers,
}

/// One summand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeTerm {
    /// The container's name.
    pub container: String,
    /// Its share.
    pub amount: u64,
}

/// MiB of a machine about which no container says anything.
const DEFAULT_MEMORY_MIB: u64 = 512;

/// MiB that the guest's kernel and agent need beside the containers.
const GUEST_OVERHEAD_MIB: u32 = 32;

/// Fewest MiB that a machine boots with: the kernel lies from 16 to 33 MiB, and
/// the initramfs and what a kernel needs to come up come on top. The VMM refuses
/// less (`TooLittleMemory`), so a pod of tiny containers is given more.
const LEAST_MEMORY_MIB: u64 = 48;

/// One page structure of 64 bytes per page of 4096: memory costs memory.
const PAGE_STRUCT_SHARE: u64 = 64;

/// MiB beside the guest's memory that VMM and supervisor may use on the host.
const HOST_OVERHEAD_MIB: u64 = 64;

/// MiB that the server of a shared directory may use: the files that a guest
/// knows at a time, at most 65,536, with what the host's kernel keeps of each.
const SHARE_OVERHEAD_MIB: u64 = 64;

/// Threads beside vCPUs that VMM, supervisor and what they run may have: a few,
/// and some more while plugins of CNI work.
const HOST_THREADS: u32 = 128;

/// Most virtual CPUs of a machine.
const MAX_VCPUS: u64 = 32;

/// Memory is given in steps of so many MiB: whole huge pages.
const STEP_MIB: u64 = 2;

const MIB: u64 = 1 << 20;

/// Why a machine is larger than the sum.
const UNBOUNDED: &str = "as not every container has a limit";

/// The machine's size and how it came about.
#[derive(Debug)]
pub struct Machine {
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// The least that would do for what the containers ask for, without room to burst.
    pub least: Least,
    /// The arithmetic.
    pub sums: Sizing,
}

/// The least size of a machine.
#[derive(Debug, Clone, Copy)]
pub struct Least {
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
}

impl Machine {
    /// The host cgroup that belongs to it, with so many servers of shared
    /// directories in it.
    pub fn cgroup(&self, path: PathBuf, shares: usize) -> CgroupPlan {
        let overhead = HOST_OVERHEAD_MIB + shares as u64 * SHARE_OVERHEAD_MIB;
        let requested: u64 = self.sums.cpu_terms.iter().map(|term| term.amount).sum();
        CgroupPlan {
            path,
            // A pod that said nothing is overcommitted, but bounded all the same.
            memory_max: Some((u64::from(self.memory_mib) + overhead) * MIB),
            // Whole CPUs: a limit below one would slow down the boot, and is
            // kept exactly inside the guest.
            cpu_quota_micros: Some(u64::from(self.vcpus) * 100_000),
            cpu_weight: Some(weight(requested.max(1000))),
            pids_max: Some(HOST_THREADS + u32::from(self.vcpus)),
        }
    }
}

/// `cpu.weight` of so many thousandths of a CPU; 1000 is the kernel's default
/// of 100 here, so that a pod of one CPU weighs as much as any other process.
pub fn weight(milli: u64) -> u32 {
    u32::try_from((milli / 10).clamp(1, 10_000)).unwrap_or(10_000)
}

/// What a machine of so much memory leaves to containers, in bytes: what a pod
/// without limits can have.
pub fn usable(memory_mib: u32) -> u64 {
    let total = u64::from(memory_mib);
    let overhead = u64::from(GUEST_OVERHEAD_MIB) + total / PAGE_STRUCT_SHARE;
    total.saturating_sub(overhead) * MIB
}

/// Sizes the machine of a pod on a host of so much memory and so many CPUs, or
/// says with the sum why it cannot be.
pub fn machine(spec: &PodSpec, (host_mib, cpus): (u64, u32)) -> Result<Machine, PlanError> {
    let cpu = needed(spec, |of| (of.cpu_limit_milli, of.cpu_request_milli));
    let memory = needed(spec, |of| (of.memory_limit, of.memory_request));
    let (least_vcpus, vcpus) = cpus_of(&cpu, u64::from(cpus))?;
    let containers_mib = memory.total.div_ceil(MIB);
    let mut overhead = u64::from(GUEST_OVERHEAD_MIB) + containers_mib / PAGE_STRUCT_SHARE;
    let counted = if memory.terms.is_empty() {
        0
    } else {
        overhead = overhead.max(LEAST_MEMORY_MIB.saturating_sub(containers_mib));
        steps(containers_mib + overhead)
    };
    let refuse = || PlanError::Memory {
        needed: counted,
        sum: format!(
            "{} + {overhead} MiB for the guest",
            terms(&memory.terms, |bytes| Bytes(bytes).to_string())
        ),
        present: host_mib,
    };
    if counted > host_mib {
        return Err(refuse());
    }
    // The default holds the overhead already: 512 MiB are 512 MiB.
    let wanted = match (memory.complete, memory.inits_complete) {
        (true, true) => counted,
        (true, false) => counted.max(DEFAULT_MEMORY_MIB),
        (false, _) => half_again(counted).max(DEFAULT_MEMORY_MIB),
    };
    // Who asks for nothing is overcommitted; room to burst is what the host has.
    let wanted = if memory.terms.is_empty() {
        wanted
    } else {
        wanted.min(host_mib).max(counted)
    };
    let mib = |mib: u64| u32::try_from(mib).map_err(|_| refuse());
    Ok(Machine {
        vcpus,
        memory_mib: mib(steps(wanted))?,
        least: Least {
            vcpus: least_vcpus,
            memory_mib: mib(counted)?,
        },
        sums: Sizing {
            cpu_source: cpu.source(),
            memory_source: memory.source(),
            cpu_terms: cpu.terms,
            memory_terms: memory.terms,
            overhead_mib: u32::try_from(overhead).unwrap_or(u32::MAX),
        },
    })
}

/// Fewest CPUs that come to the sum, and those that the machine has.
fn cpus_of(cpu: &Sum, host: u64) -> Result<(u8, u8), PlanError> {
    let least = cpu.total.div_ceil(1000).max(1);
    let wanted = if cpu.complete {
        least
    } else {
        let room = half_again(cpu.total).div_ceil(1000);
        room.min(host).min(MAX_VCPUS).max(least)
    };
    let refuse = || PlanError::Cpus {
        needed: least,
        sum: terms(&cpu.terms, milli_cpus),
    };
    if wanted > MAX_VCPUS {
        return Err(refuse());
    }
    let count = |cpus: u64| u8::try_from(cpus).map_err(|_| refuse());
    Ok((count(least)?, count(wanted)?))
}

/// What leaves half of a sum idle beside it.
fn half_again(amount: u64) -> u64 {
    amount.saturating_add(amount / 2)
}

/// MiB in whole huge pages.
fn steps(mib: u64) -> u64 {
    mib.div_ceil(STEP_MIB).saturating_mul(STEP_MIB)
}

struct Sum {
    total: u64,
    /// The summands of the larger side.
    terms: Vec<SizeTerm>,
    /// Whether each app container and sidecar has a limit.
    complete: bool,
    /// Whether each init container has one.
    inits_complete: bool,
}

impl Sum {
    fn source(&self) -> SizeSource {
        if self.terms.is_empty() {
            SizeSource::Default
        } else {
            SizeSource::Containers
        }
    }
}

/// The larger of what the containers need and what the pod requests for them, or
/// what it limits them to. `amounts` are a limit and a request.
fn needed(spec: &PodSpec, amounts: impl Fn(&Resources) -> (Option<u64>, Option<u64>)) -> Sum {
    let (limit, request) = amounts(&spec.resources);
    if let Some(limit) = limit {
        return of_pod(limit);
    }
    let containers = sum(spec, |container| amounts(&container.resources));
    // Who makes a sandbox requests nothing by which it could be sized.
    match request.filter(|request| spec.sandbox.is_none() && *request > containers.total) {
        Some(request) => Sum {
            complete: containers.complete,
            inits_complete: containers.inits_complete,
            ..of_pod(request)
        },
        None => containers,
    }
}

/// What the pod itself says is the sum, whatever its containers say.
fn of_pod(amount: u64) -> Sum {
    Sum {
        total: amount,
        terms: vec![SizeTerm {
            container: "pod".to_owned(),
            amount,
        }],
        complete: true,
        inits_complete: true,
    }
}

/// `amounts` are a limit and a request.
fn sum(spec: &PodSpec, amounts: impl Fn(&Container) -> (Option<u64>, Option<u64>)) -> Sum {
    let term = |container: &Container| {
        let (limit, request) = amounts(container);
        limit.or(request).map(|amount| SizeTerm {
            container: container.name.clone(),
            amount,
        })
    };
    let is_bounded = |container: &Container| amounts(container).0.is_some();
    let mut running: Vec<SizeTerm> = Vec::new();
    let mut largest: Vec<SizeTerm> = Vec::new();
    for container in &spec.init_containers {
        let mut here = running.clone();
        here.extend(term(container));
        if container.sidecar {
            running.clone_from(&here);
        }
        if total(&here) > total(&largest) {
            largest = here;
        }
    }
    running.extend(spec.containers.iter().filter_map(term));
    if total(&running) >= total(&largest) {
        largest = running;
    }
    let (sidecars, inits): (Vec<_>, Vec<_>) =
        spec.init_containers.iter().partition(|one| one.sidecar);
    Sum {
        total: total(&largest),
        terms: largest,
        // Who will come to a sandbox has not said anything yet.
        complete: spec.sandbox.is_none()
            && sidecars.into_iter().chain(&spec.containers).all(is_bounded),
        inits_complete: inits.into_iter().all(is_bounded),
    }
}

fn total(terms: &[SizeTerm]) -> u64 {
    let amounts = terms.iter().map(|term| term.amount);
    amounts.fold(0, u64::saturating_add)
}

fn terms(terms: &[SizeTerm], amount: impl Fn(u64) -> String) -> String {
    let terms: Vec<String> = terms
        .iter()
        .map(|term| format!("{} {}", term.container, amount(term.amount)))
        .collect();
    terms.join(" + ")
}

/// Thousandths of a CPU as Kubernetes writes them.
pub fn milli_cpus(milli: u64) -> String {
    if milli.is_multiple_of(1000) {
        format!("{}", milli / 1000)
    } else {
        format!("{milli}m")
    }
}

impl Sizing {
    /// The CPU figure in one line: `app 500m + db 1`, or `default`, or why the
    /// machine has more than that sum.
    #[must_use]
    pub fn cpu_line(&self, vcpus: u8) -> String {
        if self.cpu_source == SizeSource::Default {
            return "default".into();
        }
        let sum = terms(&self.cpu_terms, milli_cpus);
        let counted = total(&self.cpu_terms).div_ceil(1000).max(1);
        if u64::from(vcpus) > counted {
            format!("more, {UNBOUNDED}; {sum}")
        } else {
            sum
        }
    }

    /// The memory figure in one line: `app 64Mi + db 1Gi + 49Mi guest`, or `default`, or why
    /// the machine has more than that sum.
    #[must_use]
    pub fn memory_line(&self, memory_mib: u32) -> String {
        if self.memory_source == SizeSource::Default {
            return "default".into();
        }
        let sum = format!(
            "{} + {}Mi guest",
            terms(&self.memory_terms, |bytes| Bytes(bytes).to_string()),
            self.overhead_mib
        );
        let counted = total(&self.memory_terms).div_ceil(MIB) + u64::from(self.overhead_mib);
        let is_more = u64::from(memory_mib) >= counted + STEP_MIB;
        match (is_more, u64::from(memory_mib)) {
            (false, _) => sum,
            (true, DEFAULT_MEMORY_MIB) => format!("default, {UNBOUNDED}; {sum}"),
            (true, _) => format!("more, {UNBOUNDED}; {sum}"),
        }
    }
}
