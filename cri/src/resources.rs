//! What containers may use: limits of cgroups as the engine has them, and by name
//! what a pod's machine does not have.
//!
//! What neither holds nor is refused would be believed to hold.

use crate::error::CallError;
use beluga_runtime::engine::PodView;
use beluga_runtime::spec::{Bytes, Container, Guest, Resources};
use k8s_cri::v1 as cri;
use std::collections::BTreeMap;

/// Microseconds of a period of CPU time where the request names none.
const PERIOD: i64 = 100_000;

/// What a full CPU is in shares.
const SHARES: u64 = 1024;

/// What the kernel takes for `oom_score_adj`.
const OOM_SCORES: std::ops::RangeInclusive<i64> = -1000..=1000;

/// What of `unified` the guest's cgroups have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unified {
    /// `memory.high` in bytes.
    memory_high: Option<u64>,
    /// `memory.low`, or `memory.min`, in bytes.
    memory_low: Option<u64>,
    /// `pids.max`.
    pids_max: Option<u64>,
}

impl Unified {
    fn parse(given: &cri::LinuxContainerResources) -> Result<Self, CallError> {
        let mut found = Self::default();
        // In order: of several that are refused, it is always the same one.
        for (key, value) in given.unified.iter().collect::<BTreeMap<_, _>>() {
            match key.as_str() {
                "memory.high" => found.memory_high = bound(key, value)?,
                "memory.low" | "memory.min" => {
                    found.memory_low = found.memory_low.max(bound(key, value)?);
                }
                "pids.max" => found.pids_max = bound(key, value)?,
                // All containers end whole.
                "memory.oom.group" if value == "1" => {}
                // A machine without swap keeps to any limit of it.
                "memory.swap.max" | "memory.swap.high" => drop(bound(key, value)?),
                _ => {
                    let why = "of cgroups, memory.high, memory.low and pids.max can be set";
                    return Err(refused(&format!("unified {key} {value:?}"), why));
                }
            }
        }
        Ok(found)
    }
}

fn bound(key: &str, value: &str) -> Result<Option<u64>, CallError> {
    if value == "max" {
        return Ok(None);
    }
    let number = value.parse().map_err(|_| CallError::Invalid {
        field: "unified",
        why: format!("{key}: {value:?} is neither a number nor \"max\""),
    });
    number.map(Some)
}

fn refused(field: &str, why: &'static str) -> CallError {
    let field = field.to_owned();
    CallError::Refused { field, why }
}

/// Refuses what would not hold in the machine of that pod.
fn check(given: &cri::LinuxContainerResources, pod: &PodView) -> Result<Unified, CallError> {
    let huge = given.hugepage_limits.iter().any(|one| one.limit > 0);
    let cpus = "the CPUs of the host are not those of the pod's machine";
    let asked = [
        (!given.cpuset_cpus.is_empty(), "cpuset_cpus", cpus),
        (!given.cpuset_mems.is_empty(), "cpuset_mems", cpus),
        (huge, "hugepage_limits", "the pod's machine has none"),
    ];
    if let Some((_, field, why)) = asked.into_iter().find(|(is_asked, ..)| *is_asked) {
        return Err(refused(field, why));
    }
    if !OOM_SCORES.contains(&given.oom_score_adj) {
        return Err(CallError::Invalid {
            field: "oom_score_adj",
            why: format!("{} is not from -1000 to 1000", given.oom_score_adj),
        });
    }
    let machine = pod.plan.as_ref().map(|plan| plan.vm.memory_mib);
    fits(given.memory_limit_in_bytes, machine)?;
    Unified::parse(given)
}

/// A machine does not grow: a limit above its memory would be none.
fn fits(limit: i64, machine_mib: Option<u32>) -> Result<(), CallError> {
    let machine = machine_mib.map(|mib| u64::from(mib) << 20);
    match (u64::try_from(limit), machine) {
        (Ok(limit), Some(machine)) if limit > machine => Err(CallError::Invalid {
            field: "memory_limit_in_bytes",
            why: format!(
                "{} are more than the {} of the sandbox's machine, which has what its \
                 linux.resources said, or memory_mib of the configuration",
                Bytes(limit),
                Bytes(machine)
            ),
        }),
        _ => Ok(()),
    }
}

/// What a new container may use, put into what is made of it.
pub fn give(
    container: &mut Container,
    asked: Option<&cri::LinuxContainerResources>,
    pod: &PodView,
) -> Result<(), CallError> {
    let Some(asked) = asked else {
        return Ok(());
    };
    let unified = check(asked, pod)?;
    container.resources = limits(asked);
    let guest = container.guest.get_or_insert_default();
    guest.memory_high = unified.memory_high;
    guest.pids_max = unified.pids_max;
    guest.oom_score_adj = i32::try_from(asked.oom_score_adj).unwrap_or_default();
    Ok(())
}

/// What a container may use from now on: what is not named stays as it is, and below
/// zero is no limit. A process keeps its `oom_score_adj` for its life, as with runc.
pub fn amended(
    present: &Container,
    asked: &cri::LinuxContainerResources,
    pod: &PodView,
) -> Result<Resources, CallError> {
    let unified = check(asked, pod)?;
    let guest = present.guest.as_ref();
    let stays = |wanted: Option<u64>, of: fn(&Guest) -> Option<u64>| {
        wanted.is_none() || wanted == guest.and_then(of)
    };
    if !stays(unified.memory_high, |one| one.memory_high)
        || !stays(unified.pids_max, |one| one.pids_max)
    {
        let why = "it is set when the container is created";
        return Err(refused("a change of memory.high or pids.max", why));
    }
    let (wanted, present) = (limits(asked), present.resources.clone());
    let kept = |asked: i64, present| if asked < 0 { None } else { present };
    Ok(Resources {
        cpu_limit_milli: wanted
            .cpu_limit_milli
            .or(kept(asked.cpu_quota, present.cpu_limit_milli)),
        cpu_request_milli: wanted.cpu_request_milli.or(present.cpu_request_milli),
        memory_limit: wanted
            .memory_limit
            .or(kept(asked.memory_limit_in_bytes, present.memory_limit)),
        memory_request: wanted.memory_request.or(present.memory_request),
        ..present
    })
}

/// Limits of a cgroup as the engine has them; what is not positive says nothing.
pub fn limits(given: &cri::LinuxContainerResources) -> Resources {
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let period = positive(given.cpu_period).or_else(|| positive(PERIOD));
    let quota = positive(given.cpu_quota).zip(period);
    let unified = Unified::parse(given).unwrap_or_default();
    Resources {
        cpu_limit_milli: quota.map(|(quota, period)| quota.saturating_mul(1000).div_ceil(period)),
        cpu_request_milli: positive(given.cpu_shares)
            .map(|shares| (shares.saturating_mul(1000) / SHARES).max(1)),
        memory_limit: positive(given.memory_limit_in_bytes),
        memory_request: unified.memory_low,
        ..Resources::default()
    }
}

/// What it was asked for, with the limits that it was given since.
pub fn current(
    asked: cri::LinuxContainerResources,
    now: &Resources,
) -> cri::LinuxContainerResources {
    if limits(&asked) == *now {
        return asked;
    }
    let signed = |value: Option<u64>| value.and_then(|one| i64::try_from(one).ok());
    let quota = now.cpu_limit_milli.map(|milli| milli.saturating_mul(100));
    cri::LinuxContainerResources {
        cpu_period: if quota.is_some() { PERIOD } else { 0 },
        cpu_quota: signed(quota).unwrap_or_default(),
        cpu_shares: signed(now.cpu_request_milli.map(|milli| milli * SHARES / 1000))
            .unwrap_or_default(),
        memory_limit_in_bytes: signed(now.memory_limit).unwrap_or_default(),
        ..asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(unified: &[(&str, &str)]) -> cri::LinuxContainerResources {
        let unified = unified.iter();
        cri::LinuxContainerResources {
            unified: unified
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..cri::LinuxContainerResources::default()
        }
    }

    fn pod() -> PodView {
        PodView {
            uid: beluga_proto::PodUid::from_random([1; 16]),
            name: "a".into(),
            namespace: "default".into(),
            manifest: serde_json::Value::Null,
            spec: beluga_runtime::spec::PodSpec::of_sandbox(
                "a".into(),
                "default".into(),
                beluga_runtime::spec::Sandbox::default(),
            ),
            plan: None,
            status: beluga_runtime::store::status::PodStatus::default(),
        }
    }

    fn container() -> Container {
        Container::of_sandbox("c".into(), "i".into(), Guest::default())
    }

    #[test]
    fn limits_are_thousandths_of_a_cpu_and_bytes() {
        let found = limits(&cri::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 25_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 1 << 20,
            ..cri::LinuxContainerResources::default()
        });
        assert_eq!(found.cpu_limit_milli, Some(250));
        assert_eq!(found.cpu_request_milli, Some(500));
        assert_eq!(found.memory_limit, Some(1 << 20));
        let nothing = limits(&cri::LinuxContainerResources::default());
        assert!(nothing.is_empty());
    }

    #[test]
    fn a_limit_that_is_taken_away_is_gone_and_one_that_is_not_named_stays() {
        let mut present = container();
        present.resources.cpu_limit_milli = Some(500);
        present.resources.memory_limit = Some(1 << 20);
        let amended = |cpu_quota, memory_limit_in_bytes| {
            let asked = cri::LinuxContainerResources {
                cpu_quota,
                memory_limit_in_bytes,
                ..cri::LinuxContainerResources::default()
            };
            let found = super::amended(&present, &asked, &pod()).unwrap();
            (found.cpu_limit_milli, found.memory_limit)
        };
        assert_eq!(amended(0, 0), (Some(500), Some(1 << 20)));
        assert_eq!(amended(-1, 0), (None, Some(1 << 20)));
        assert_eq!(amended(0, -1), (Some(500), None));
        assert_eq!(amended(100_000, 2 << 20), (Some(1000), Some(2 << 20)));
    }

    #[test]
    fn what_the_guest_has_is_given_and_the_rest_is_refused_by_name() {
        let mut made = container();
        let mut all = asked(&[
            ("memory.high", "4096"),
            ("memory.min", "8192"),
            ("pids.max", "7"),
            ("memory.oom.group", "1"),
            ("memory.swap.max", "0"),
        ]);
        all.oom_score_adj = -500;
        give(&mut made, Some(&all), &pod()).unwrap();
        let guest = made.guest.clone().unwrap();
        assert_eq!(
            (guest.memory_high, guest.pids_max, guest.oom_score_adj),
            (Some(4096), Some(7), -500)
        );
        assert_eq!(made.resources.memory_request, Some(8192));
        assert!(amended(&made, &all, &pod()).is_ok(), "nothing changes");
        let cpuset = cri::LinuxContainerResources {
            cpuset_cpus: "3".into(),
            ..cri::LinuxContainerResources::default()
        };
        let huge = cri::LinuxContainerResources {
            hugepage_limits: vec![cri::HugepageLimit {
                page_size: "2MB".into(),
                limit: 4 << 20,
            }],
            ..cri::LinuxContainerResources::default()
        };
        for (wrong, name) in [
            (asked(&[("nope.x", "1")]), "unified nope.x"),
            (asked(&[("memory.oom.group", "0")]), "memory.oom.group"),
            (asked(&[("pids.max", "some")]), "unified: pids.max"),
            (cpuset, "cpuset_cpus"),
            (huge, "hugepage_limits"),
        ] {
            let error = give(&mut container(), Some(&wrong), &pod());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let error = amended(&made, &asked(&[("pids.max", "8")]), &pod());
        assert!(error.unwrap_err().to_string().contains("pids.max"));
    }

    #[test]
    fn a_limit_above_the_machine_is_refused_with_both() {
        assert!(fits(-1, Some(64)).is_ok() && fits(64 << 20, Some(64)).is_ok());
        let error = fits(1 << 30, Some(64)).unwrap_err().to_string();
        assert!(error.contains("1Gi") && error.contains("64Mi"), "{error}");
    }
}
