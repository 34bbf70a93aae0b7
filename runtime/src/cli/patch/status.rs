//! `beluga patch --subresource=status`: what others say of a pod, for its
//! readiness gates.

use crate::cli::error::UsageError;
use crate::cli::{CliError, exit};
use crate::engine::{self, ChangeOf, PodView};
use crate::objects;
use crate::plan::Changes;
use crate::pod;
use crate::settings::Settings;
use crate::spec::GivenCondition;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Conditions that are Beluga's own to say.
const OWN: [&str; 6] = [
    "PodScheduled",
    "Initialized",
    "ContainersReady",
    "Ready",
    "PodResizeInProgress",
    "PodResizePending",
];

/// Gives a pod the conditions of a patch.
pub async fn patch(settings: &Settings, pod: PodView, patch: &Value) -> Result<u8, CliError> {
    let mut spec = pod.spec.clone();
    for condition in conditions(patch)? {
        give(&mut spec.conditions, condition)?;
    }
    if spec.conditions == pod.spec.conditions {
        say!("pod/{} patched (no change)", pod.name);
        return Ok(exit::OK);
    }
    let change = ChangeOf {
        manifest: pod.manifest.clone(),
        objects: objects::of_pod(settings, &spec).map_err(engine::EngineError::from)?,
        spec,
        changes: Changes::default(),
        restart: BTreeSet::new(),
        images: BTreeMap::new(),
        patience_seconds: 0,
    };
    engine::change::change(settings, &pod, change).await?;
    say!("pod/{} patched", pod.name);
    Ok(exit::OK)
}

/// The conditions of a patch that has nothing else.
fn conditions(patch: &Value) -> Result<&[Value], CliError> {
    let only = |value: &Value, name: &str| {
        let object = value.as_object();
        object.is_some_and(|fields| fields.keys().all(|key| key == name))
    };
    let conditions = patch["status"]["conditions"].as_array();
    match conditions {
        Some(conditions) if only(patch, "status") && only(&patch["status"], "conditions") => {
            Ok(conditions)
        }
        _ => Err(UsageError::OnlyConditions.into()),
    }
}

/// Puts a condition among those that are there, or takes it from them.
fn give(all: &mut BTreeMap<String, GivenCondition>, condition: &Value) -> Result<(), CliError> {
    let text = |name: &str| condition[name].as_str().map(str::to_owned);
    let Some(kind) = text("type").filter(|kind| !kind.is_empty()) else {
        return Err(UsageError::ConditionWithoutType.into());
    };
    if OWN.contains(&kind.as_str()) {
        return Err(UsageError::OwnCondition { kind }.into());
    }
    if condition["$patch"] == "delete" {
        all.remove(&kind);
        return Ok(());
    }
    let status = text("status").unwrap_or_default();
    if !["True", "False", "Unknown"].contains(&status.as_str()) {
        return Err(UsageError::ConditionStatus { kind, status }.into());
    }
    let before = all.get(&kind).filter(|before| before.status == status);
    let since = before.map_or_else(|| pod::now().unix, |before| before.since);
    let given = GivenCondition {
        status,
        reason: text("reason"),
        message: text("message"),
        since,
    };
    all.insert(kind, given);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_given_kept_and_taken() {
        let mut all = BTreeMap::new();
        let mut say = |condition: Value| give(&mut all, &condition).map(|()| all.clone());
        let first = say(json!({"type": "a/b", "status": "True", "reason": "Why"})).unwrap();
        let again = say(json!({"type": "a/b", "status": "True", "message": "m"})).unwrap();
        assert_eq!(first["a/b"].since, again["a/b"].since);
        assert_eq!(again["a/b"].message.as_deref(), Some("m"));
        for (wrong, why) in [
            (json!({"type": "Ready", "status": "True"}), "Beluga's own"),
            (
                json!({"type": "x", "status": "yes"}),
                "True, False or Unknown",
            ),
            (json!({"status": "True"}), "has a type"),
        ] {
            let error = say(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(
            say(json!({"type": "a/b", "$patch": "delete"}))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn nothing_else_of_a_status_can_be_patched() {
        let good = json!({"status": {"conditions": []}});
        assert!(conditions(&good).unwrap().is_empty());
        for bad in [
            json!({"status": {"phase": "Running"}}),
            json!({"status": {"conditions": [], "phase": "x"}}),
            json!({"spec": {}, "status": {"conditions": []}}),
            json!({}),
        ] {
            assert!(conditions(&bad).is_err(), "{bad}");
        }
    }
}
