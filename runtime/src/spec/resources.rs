//! Requests and limits of a container.

use super::check::Check;
use super::pod::some;
use super::quantity::Quantity;
use super::types::Resources;
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
        && memory.units() < MIN_MEMORY
    {
        check.wrong_with_hint(
            &join(&join(&path, "limits"), "memory"),
            format!("{} bytes are too little for any process", memory.units()),
            "m is a thousandth; write M or Mi for megabytes".into(),
        );
    }
    let millis = |map: &BTreeMap<String, Quantity>, name| map.get(name).map(|q| q.millis());
    let units = |map: &BTreeMap<String, Quantity>, name| map.get(name).map(|q| q.units());
    Resources {
        cpu_request_milli: millis(&requests, "cpu"),
        cpu_limit_milli: millis(&limits, "cpu"),
        memory_request: units(&requests, "memory"),
        memory_limit: units(&limits, "memory"),
        storage_request: units(&requests, "ephemeral-storage"),
        storage_limit: units(&limits, "ephemeral-storage"),
    }
}

fn amounts(
    path: &str,
    map: &Option<BTreeMap<String, RawQuantity>>,
    check: &mut Check<'_>,
) -> BTreeMap<String, Quantity> {
    let mut out = BTreeMap::new();
    for (name, amount) in map.iter().flatten() {
        let path = join(path, name);
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {
                if let Some(quantity) = check.quantity(&path, &amount.0) {
                    out.insert(name.clone(), quantity);
                }
            }
            _ => check.wrong(
                &path,
                "not supported yet; cpu, memory and ephemeral-storage are",
            ),
        }
    }
    out
}
