//! The kinds of `apps/v1`.

use super::{
    Parts, TEMPLATE, Update, Workload, WorkloadKind, amount, at_most_all, finish, replicas,
    without_spec, workload,
};
use crate::spec::Issue;
use crate::spec::check::Check;
use crate::spec::decode::decode_around;
use crate::spec::yaml::Node;
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

/// Seconds after which a step of an update counts as stuck.
pub(super) const PROGRESS_SECONDS: u32 = 600;

/// Converts a Deployment.
pub fn deployment(tree: &Node, issues: &mut Vec<Issue>) -> Option<Workload> {
    let decoded = decode_around::<apps::Deployment>(tree, TEMPLATE);
    issues.extend(decoded.issues);
    let apps::Deployment {
        metadata,
        spec,
        status: _, // the system's own
    } = decoded.value?;
    let mut check = Check::new(tree, &decoded.masked);
    let Some(spec) = spec else {
        return without_spec(check, issues);
    };
    let apps::DeploymentSpec {
        min_ready_seconds,
        paused,
        progress_deadline_seconds,
        replicas: count,
        revision_history_limit,
        selector,
        strategy,
        template,
    } = &spec;
    check.unsupported("spec", &[("paused", *paused == Some(true))]);
    check.ignore(
        "spec",
        &[
            ("minReadySeconds", is_more_than_none(*min_ready_seconds)),
            ("revisionHistoryLimit", revision_history_limit.is_some()),
        ],
    );
    let count = replicas(*count, &mut check);
    let update = strategy_of(strategy.as_ref(), count, &mut check);
    let seconds = (*progress_deadline_seconds, *min_ready_seconds);
    let progress_seconds = progress(seconds, &mut check);
    let parts = Parts {
        kind: WorkloadKind::Deployment,
        metadata: &metadata,
        template,
        selector,
        replicas: count,
        update,
        progress_seconds,
        ordinals: None,
        claims: &[],
        job: None,
    };
    let mut filled = spec.clone();
    filled.replicas.get_or_insert(1);
    filled.progress_deadline_seconds.get_or_insert(600);
    let strategy = filled.strategy.get_or_insert_default();
    strategy.type_.get_or_insert("RollingUpdate".into());
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let share = || IntOrString::String("25%".into());
        let rolling = strategy.rolling_update.get_or_insert_default();
        rolling.max_surge.get_or_insert_with(share);
        rolling.max_unavailable.get_or_insert_with(share);
    }
    let workload = workload(parts, json!(filled), &mut check);
    Some(finish(workload, check, issues))
}

/// Converts a ReplicaSet.
pub fn replica_set(tree: &Node, issues: &mut Vec<Issue>) -> Option<Workload> {
    let decoded = decode_around::<apps::ReplicaSet>(tree, TEMPLATE);
    issues.extend(decoded.issues);
    let apps::ReplicaSet {
        metadata,
        spec,
        status: _,
    } = decoded.value?;
    let mut check = Check::new(tree, &decoded.masked);
    let Some(spec) = spec else {
        return without_spec(check, issues);
    };
    let apps::ReplicaSetSpec {
        min_ready_seconds,
        replicas: count,
        selector,
        template,
    } = &spec;
    check.ignore(
        "spec",
        &[("minReadySeconds", is_more_than_none(*min_ready_seconds))],
    );
    if template.is_none() {
        check.wrong(TEMPLATE, "required: the pods that it shall have");
    }
    let template = template.clone().unwrap_or_default();
    let parts = Parts {
        kind: WorkloadKind::ReplicaSet,
        metadata: &metadata,
        template: &template,
        selector,
        replicas: replicas(*count, &mut check),
        // As in Kubernetes: only new pods are of a new template.
        update: Update::OnDelete,
        progress_seconds: PROGRESS_SECONDS,
        ordinals: None,
        claims: &[],
        job: None,
    };
    let mut filled = spec.clone();
    filled.replicas.get_or_insert(1);
    let workload = workload(parts, json!(filled), &mut check);
    Some(finish(workload, check, issues))
}

/// Converts a DaemonSet: this host is all the nodes there are.
pub fn daemon_set(tree: &Node, issues: &mut Vec<Issue>) -> Option<Workload> {
    let decoded = decode_around::<apps::DaemonSet>(tree, TEMPLATE);
    issues.extend(decoded.issues);
    let apps::DaemonSet {
        metadata,
        spec,
        status: _,
    } = decoded.value?;
    let mut check = Check::new(tree, &decoded.masked);
    let Some(spec) = spec else {
        return without_spec(check, issues);
    };
    let apps::DaemonSetSpec {
        min_ready_seconds,
        revision_history_limit,
        selector,
        template,
        update_strategy,
    } = &spec;
    check.ignore(
        "spec",
        &[("minReadySeconds", is_more_than_none(*min_ready_seconds))],
    );
    check.ignore(
        "spec",
        &[("revisionHistoryLimit", revision_history_limit.is_some())],
    );
    let update = daemon_update(update_strategy.as_ref(), &mut check);
    let parts = Parts {
        kind: WorkloadKind::DaemonSet,
        metadata: &metadata,
        template,
        selector,
        replicas: 1,
        update,
        progress_seconds: PROGRESS_SECONDS,
        ordinals: None,
        claims: &[],
        job: None,
    };
    let workload = workload(parts, json!(spec), &mut check);
    Some(finish(workload, check, issues))
}

fn daemon_update(
    strategy: Option<&apps::DaemonSetUpdateStrategy>,
    check: &mut Check<'_>,
) -> Update {
    let is_rolling = check.choice(
        "spec.updateStrategy.type",
        strategy.and_then(|one| one.type_.as_deref()),
        &[("RollingUpdate", true), ("OnDelete", false)],
    );
    let rolling = strategy.and_then(|one| one.rolling_update.as_ref());
    let apps::RollingUpdateDaemonSet {
        max_surge,
        max_unavailable,
    } = rolling.cloned().unwrap_or_default();
    let mut pods = |field: &str, value: Option<&IntOrString>| {
        let path = format!("spec.updateStrategy.rollingUpdate.{field}");
        at_most_all(&path, value, check);
        value.map_or(0, |value| amount(&path, value, 1, true, check))
    };
    let surge = pods("maxSurge", max_surge.as_ref());
    // Of one pod at least one: it is the only way to replace it without surge.
    pods("maxUnavailable", max_unavailable.as_ref());
    match (is_rolling, surge) {
        (false, _) => Update::OnDelete,
        (true, 0) => Update::Rolling {
            surge: 0,
            unavailable: 1,
        },
        (true, surge) => Update::Rolling {
            surge,
            unavailable: 0,
        },
    }
}

fn strategy_of(
    strategy: Option<&apps::DeploymentStrategy>,
    count: u32,
    check: &mut Check<'_>,
) -> Update {
    let is_rolling = check.choice(
        "spec.strategy.type",
        strategy.and_then(|one| one.type_.as_deref()),
        &[("RollingUpdate", true), ("Recreate", false)],
    );
    let rolling = strategy.and_then(|one| one.rolling_update.as_ref());
    let base = "spec.strategy.rollingUpdate";
    if !is_rolling {
        if rolling.is_some() {
            check.wrong(base, "may not stand beside the type Recreate");
        }
        return Update::Recreate;
    }
    let quarter = IntOrString::String("25%".into());
    let surge = rolling.and_then(|one| one.max_surge.as_ref());
    let path = format!("{base}.maxSurge");
    let surge = amount(&path, surge.unwrap_or(&quarter), count, true, check);
    let unavailable = rolling.and_then(|one| one.max_unavailable.as_ref());
    let is_given =
        rolling.is_some_and(|one| one.max_surge.is_some() && one.max_unavailable.is_some());
    let path = format!("{base}.maxUnavailable");
    at_most_all(&path, unavailable, check);
    let mut unavailable = amount(&path, unavailable.unwrap_or(&quarter), count, false, check);
    if surge == 0 && unavailable == 0 {
        let zero = |value: Option<&IntOrString>| match value {
            Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(text)) => text == "0%",
            _ => false,
        };
        let one = rolling.and_then(|one| one.max_surge.as_ref());
        let other = rolling.and_then(|one| one.max_unavailable.as_ref());
        if is_given && zero(one) && zero(other) {
            check.wrong(&path, "must not be 0 while maxSurge is 0");
        }
        // As the deployment controller does: something must be able to move.
        unavailable = 1;
    }
    Update::Rolling { surge, unavailable }
}

fn progress((seconds, ready): (Option<i32>, Option<i32>), check: &mut Check<'_>) -> u32 {
    let path = "spec.progressDeadlineSeconds";
    let found = seconds.map_or(Some(PROGRESS_SECONDS), |seconds| {
        u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
    });
    let is_short = |deadline| ready.is_some_and(|ready| i64::from(ready) >= i64::from(deadline));
    match found {
        None => {
            let seconds = seconds.unwrap_or_default();
            check.wrong(path, format!("{seconds} is not a number of seconds from 1"));
        }
        Some(deadline) if is_short(deadline) => {
            check.wrong(path, "must be greater than minReadySeconds");
        }
        Some(_) => {}
    }
    found.unwrap_or(PROGRESS_SECONDS)
}

pub(super) fn is_more_than_none(seconds: Option<i32>) -> bool {
    seconds.is_some_and(|seconds| seconds != 0)
}
