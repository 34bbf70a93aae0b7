//! A StatefulSet: pods with numbers, and claims of their own.

use super::apps::{PROGRESS_SECONDS, is_more_than_none};
use super::{
    Ordinals, Parts, TEMPLATE, Update, Workload, WorkloadKind, finish, replicas, without_spec,
    workload,
};
use crate::spec::Issue;
use crate::spec::check::Check;
use crate::spec::decode::decode_around;
use crate::spec::yaml::Node;
use crate::spec::{claim, names};
use k8s_openapi::api::apps::v1 as apps;
use serde_json::json;

/// Converts a StatefulSet.
#[expect(clippy::too_many_lines, reason = "every field of a StatefulSet once")]
pub fn stateful_set(tree: &Node, issues: &mut Vec<Issue>) -> Option<Workload> {
    let decoded = decode_around::<apps::StatefulSet>(tree, TEMPLATE);
    issues.extend(decoded.issues);
    let apps::StatefulSet {
        metadata,
        spec,
        status: _,
    } = decoded.value?;
    let mut check = Check::new(tree, &decoded.masked);
    let Some(spec) = spec else {
        return without_spec(check, issues);
    };
    let apps::StatefulSetSpec {
        min_ready_seconds,
        ordinals: _, // below, like the others
        persistent_volume_claim_retention_policy: _,
        pod_management_policy: _,
        replicas: count,
        revision_history_limit,
        selector,
        service_name: _,
        template,
        update_strategy,
        volume_claim_templates,
    } = &spec;
    check.ignore(
        "spec",
        &[("minReadySeconds", is_more_than_none(*min_ready_seconds))],
    );
    check.ignore(
        "spec",
        &[("revisionHistoryLimit", revision_history_limit.is_some())],
    );
    let strategy = update_strategy.as_ref();
    let update = check.choice(
        "spec.updateStrategy.type",
        strategy.and_then(|one| one.type_.as_deref()),
        &[
            (
                "RollingUpdate",
                Update::Rolling {
                    surge: 0,
                    unavailable: 1,
                },
            ),
            ("OnDelete", Update::OnDelete),
        ],
    );
    let ordinals = ordinals(&spec, &mut check);
    let claims = volume_claim_templates.as_deref().unwrap_or_default();
    let parts = Parts {
        kind: WorkloadKind::StatefulSet,
        metadata: &metadata,
        template,
        selector,
        replicas: replicas(*count, &mut check),
        update,
        progress_seconds: PROGRESS_SECONDS,
        ordinals: Some(ordinals),
        claims,
        job: None,
    };
    let mut filled = spec.clone();
    filled.replicas.get_or_insert(1);
    filled
        .pod_management_policy
        .get_or_insert("OrderedReady".into());
    let mut workload = workload(parts, json!(filled), &mut check);
    // The claims of its pods are made with them.
    let own = claims.iter().map(|claim| claim.metadata.name.as_deref());
    let own: Vec<_> = own.collect();
    workload.template.references.retain(|one| {
        one.kind != crate::spec::ObjectKind::Claim || !own.contains(&Some(one.name.as_str()))
    });
    Some(finish(workload, check, issues))
}

fn ordinals(spec: &apps::StatefulSetSpec, check: &mut Check<'_>) -> Ordinals {
    let in_order = check.choice(
        "spec.podManagementPolicy",
        spec.pod_management_policy.as_deref(),
        &[("OrderedReady", true), ("Parallel", false)],
    );
    let start = spec.ordinals.as_ref().and_then(|one| one.start);
    let rolling = spec.update_strategy.as_ref();
    let rolling = rolling.and_then(|one| one.rolling_update.as_ref());
    if rolling.is_some_and(|one| one.max_unavailable.is_some()) {
        check.unsupported(
            "spec.updateStrategy.rollingUpdate",
            &[("maxUnavailable", true)],
        );
    }
    let partition = rolling.and_then(|one| one.partition);
    let mut number = |path: &str, value: Option<i32>| {
        let value = i64::from(value.unwrap_or_default());
        check
            .number(path, value, "a number from 0")
            .unwrap_or_default()
    };
    let first = number("spec.ordinals.start", start);
    let partition = number("spec.updateStrategy.rollingUpdate.partition", partition);
    let retention = spec.persistent_volume_claim_retention_policy.as_ref();
    let mut retains = |field: &str, value: Option<&String>| {
        check.choice(
            &format!("spec.persistentVolumeClaimRetentionPolicy.{field}"),
            value.map(String::as_str),
            &[("Retain", false), ("Delete", true)],
        )
    };
    let delete_claims = retains(
        "whenDeleted",
        retention.and_then(|one| one.when_deleted.as_ref()),
    );
    let trim_claims = retains(
        "whenScaled",
        retention.and_then(|one| one.when_scaled.as_ref()),
    );
    let claims = claim_templates(spec, check);
    let service = spec.service_name.clone().filter(|name| !name.is_empty());
    if let Some(service) = &service {
        check.shape("spec.serviceName", service, names::label);
    }
    Ordinals {
        service,
        first,
        in_order,
        partition,
        claims,
        delete_claims,
        trim_claims,
    }
}

/// The names of the claims that each pod has for itself.
fn claim_templates(spec: &apps::StatefulSetSpec, check: &mut Check<'_>) -> Vec<String> {
    let mut claims = Vec::new();
    for (at, one) in spec.volume_claim_templates.iter().flatten().enumerate() {
        let path = format!("spec.volumeClaimTemplates[{at}]");
        let name = one.metadata.name.clone().unwrap_or_default();
        check.shape(&format!("{path}.metadata.name"), &name, names::label);
        check.enter(&path);
        match &one.spec {
            Some(spec) => drop(claim::spec(spec, check)),
            None => check.wrong("spec", "required"),
        }
        check.enter("");
        claims.push(name);
    }
    claims
}
