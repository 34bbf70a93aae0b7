//! Requests and limits of a container, and of a pod.

use super::check::Check;
use super::pod::some;
use super::quantity::Quantity;
use super::schema::closest;
use super::types::{Container, PodSpec, Resources};
use super::yaml::join;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as RawQuantity;
use std::collections::BTreeMap;

/// Below this no process lives; `100m` of memory is a tenth of a byte.
const MIN_MEMORY: u64 = 1 << 20;

/// Converts what a container asks for and may use.
pub fn convert(
    path: &str,
    resources: Option<&core::ResourceRequirements>,
    check: &mut Check<'_>,
) -> Resources {
    let Some(core::ResourceRequirements {
        claims,
        limits,
        requests,
    }) = resources
    else {
        return Resources::default();
    };
    let path = join(path, "resources");
    check.unsupported(&path, &[("claims", some(claims))]);
    let raw_limits = limits;
    let limits = amounts(&join(&path, "limits"), raw_limits, check);
    // A request that was filled in from its limit is told with the limit only.
    let own = requests.as_ref().map(|requests| {
        let filled = |name: &String, request: &RawQuantity| {
            raw_limits.as_ref().and_then(|limits| limits.get(name)) == Some(request)
        };
        let mut own = requests.clone();
        own.retain(|name, request| !filled(name, request));
        own
    });
    let mut requests = amounts(&join(&path, "requests"), &own, check);
    for (name, request) in &requests {
        if limits.get(name).is_some_and(|limit| request > limit) {
            let path = join(&join(&path, "requests"), name);
            check.wrong(&path, format!("must not be more than the {name} limit"));
        }
    }
    for (name, limit) in &limits {
        requests.entry(name.clone()).or_insert(*limit);
    }
    if let Some(memory) = limits.get("memory")
        && (1..MIN_MEMORY).contains(&memory.units())
    {
        check.wrong_with_hint(
            &join(&join(&path, "limits"), "memory"),
            format!("{} bytes are too little for any process", memory.units()),
            "m is a thousandth; write M or Mi for megabytes".into(),
        );
    }
    // For the kubelet 0 is no request and no limit, as if nothing were written.
    let given = |amount: &u64| *amount > 0;
    let millis =
        |map: &BTreeMap<String, Quantity>, name| map.get(name).map(|q| q.millis()).filter(given);
    let units =
        |map: &BTreeMap<String, Quantity>, name| map.get(name).map(|q| q.units()).filter(given);
    Resources {
        cpu_request_milli: millis(&requests, "cpu"),
        cpu_limit_milli: millis(&limits, "cpu"),
        memory_request: units(&requests, "memory"),
        memory_limit: units(&limits, "memory"),
        storage_request: units(&requests, "ephemeral-storage"),
        storage_limit: units(&limits, "ephemeral-storage"),
    }
}

/// Converts what the containers of a pod ask for and may use together. Where it
/// requests nothing itself, it requests what they do, or else what it may use.
pub fn of_pod(
    resources: Option<&core::ResourceRequirements>,
    spec: &PodSpec,
    check: &mut Check<'_>,
) -> Resources {
    let mut out = convert("spec", resources, check);
    let Some(raw) = resources.filter(|_| !out.is_empty()) else {
        return out;
    };
    let has = |map: &Option<BTreeMap<String, RawQuantity>>, name: &str| {
        map.as_ref().is_some_and(|map| map.contains_key(name))
    };
    for (list, map) in [("requests", &raw.requests), ("limits", &raw.limits)] {
        if has(map, "ephemeral-storage") {
            check.wrong(
                &format!("spec.resources.{list}.ephemeral-storage"),
                "no resource of a whole pod; cpu and memory are",
            );
        }
    }
    let cpu = together(spec, |one| one.cpu_request_milli);
    let memory = together(spec, |one| one.memory_request);
    for (name, asked, request, limit) in [
        ("cpu", cpu, &mut out.cpu_request_milli, out.cpu_limit_milli),
        ("memory", memory, &mut out.memory_request, out.memory_limit),
    ] {
        let is_own = has(&raw.requests, name);
        if !is_own {
            *request = asked.or(limit);
        }
        let (list, bound) = if is_own {
            ("requests", Some(request.unwrap_or_default()))
        } else {
            ("limits", limit)
        };
        if bound.is_some_and(|bound| asked > Some(bound)) {
            let path = format!("spec.resources.{list}.{name}");
            check.wrong(&path, "must not be less than what the containers request");
        }
    }
    within_pod(spec, &out, check);
    out
}

/// No container may have a limit above the pod's.
fn within_pod(spec: &PodSpec, pod: &Resources, check: &mut Check<'_>) {
    let lists = [
        ("initContainers", &spec.init_containers),
        ("containers", &spec.containers),
    ];
    for (list, containers) in lists {
        for (at, one) in containers.iter().enumerate() {
            let of = &one.resources;
            for (name, own, limit) in [
                ("cpu", of.cpu_limit_milli, pod.cpu_limit_milli),
                ("memory", of.memory_limit, pod.memory_limit),
            ] {
                if limit.is_some_and(|limit| own > Some(limit)) {
                    let path = format!("spec.{list}[{at}].resources.limits.{name}");
                    check.wrong(
                        &path,
                        format!("must not be more than the pod's {name} limit"),
                    );
                }
            }
        }
    }
}

/// What the containers of a pod have at a time, at most: those that run beside
/// each other, or one init container with the sidecars before it.
pub fn together(spec: &PodSpec, amount: impl Fn(&Resources) -> Option<u64>) -> Option<u64> {
    let add = |sum: Option<u64>, one: &Container| match (sum, amount(&one.resources)) {
        (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
        (sum, more) => sum.or(more),
    };
    let (mut running, mut largest) = (None, None);
    for container in &spec.init_containers {
        let here = add(running, container);
        if container.sidecar {
            running = here;
        }
        largest = largest.max(here);
    }
    spec.containers.iter().fold(running, add).max(largest)
}

impl PodSpec {
    /// Most memory that its containers may have together, in bytes; none where one
    /// of them has no limit, nor the pod.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        let is_bounded = |one: &Container| one.resources.memory_limit.is_some();
        let own = self.own_containers().all(is_bounded);
        let sum = || together(self, |one| one.memory_limit).filter(|_| own);
        self.resources.memory_limit.or_else(sum)
    }

    /// Most bytes that its containers and its volumes on the scratch disk may have
    /// together: as for the kubelet, one limit is enough to have a sum.
    #[must_use]
    pub fn storage_limit(&self) -> Option<u64> {
        together(self, |one| one.storage_limit)
    }
}

fn amounts(
    path: &str,
    map: &Option<BTreeMap<String, RawQuantity>>,
    check: &mut Check<'_>,
) -> BTreeMap<String, Quantity> {
    let mut out = BTreeMap::new();
    let known = if path.starts_with("spec.resources.") {
        "cpu and memory"
    } else {
        "cpu, memory and ephemeral-storage"
    };
    for (name, amount) in map.iter().flatten() {
        let path = join(path, name);
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {
                if let Some(quantity) = check.quantity(&path, &amount.0) {
                    out.insert(name.clone(), quantity);
                }
            }
            // Kubernetes has no other names without a domain.
            _ if !name.contains('/') && !name.starts_with("hugepages-") => {
                let message = format!("no resource; {known} are");
                match closest(name, &["cpu", "memory", "ephemeral-storage"]) {
                    Some((_, meant)) => {
                        check.wrong_with_hint(&path, message, format!("did you mean {meant}?"));
                    }
                    None => check.wrong(&path, message),
                }
            }
            _ => check.wrong(&path, format!("not supported yet; {known} are")),
        }
    }
    out
}
