//! `beluga patch`: fields of a running pod by a strategic merge, as kubectl's.

mod status;

use super::change::{self, Changed, PATIENCE};
use super::error::UsageError;
use super::{CliError, exit, pods};
use crate::settings::Settings;
use crate::spec;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Arguments of `patch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `pod NAME` or `pod/NAME`
    #[arg(required = true, value_name = "POD")]
    what: Vec<String>,
    /// The fields that are to be others, as JSON or YAML
    #[arg(short, long, required_unless_present = "patch_file")]
    patch: Option<String>,
    /// A file with them
    #[arg(long, value_name = "FILE", conflicts_with = "patch")]
    patch_file: Option<PathBuf>,
    /// How they meet those that are there
    #[arg(long = "type", default_value = "strategic")]
    kind: Kind,
    /// status: conditions of the pod that are others' to say; resize: for kubectl's habit
    #[arg(long, value_parser = ["resize", "status"])]
    subresource: Option<String>,
    /// Namespace of the pod
    #[arg(short, long, default_value = pods::DEFAULT)]
    namespace: String,
    /// How long containers that are replaced may take until they are ready, like 2m
    #[arg(long, default_value = PATIENCE, value_parser = change::patience)]
    timeout: std::time::Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Lists of containers, volumes and variables by name
    Strategic,
    /// Lists are replaced whole (RFC 7386)
    Merge,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let names = pods::names(&args.what)?;
    let [name] = names.as_slice() else {
        return Err(UsageError::OnePod {
            example: "beluga patch pod NAME -p PATCH",
        }
        .into());
    };
    let text = match (&args.patch, &args.patch_file) {
        (_, Some(file)) => {
            std::fs::read_to_string(file).map_err(|source| CliError::read(file, source))?
        }
        (text, None) => text.clone().unwrap_or_default(),
    };
    let patch = spec::value("the patch", &text)?;
    if !patch.is_object() {
        return Err(UsageError::PatchShape.into());
    }
    let pod = pods::one(settings, &args.namespace, name).await?;
    if args.subresource.as_deref() == Some("status") {
        return status::patch(settings, pod, &patch).await;
    }
    let mut object = change::editable(&pod);
    merge(&mut object, &patch, "", args.kind == Kind::Strategic);
    let changed = change::to_manifest(settings, &pod, &object, args.timeout).await?;
    match changed {
        Changed::Unchanged => say!("pod/{name} patched (no change)"),
        Changed::Configured => say!("pod/{name} patched: applied"),
        Changed::Converging(why) => say!("pod/{name} patched: converging ({why})"),
    }
    Ok(exit::OK)
}

/// By which field elements of a list are told apart (`x-kubernetes-patch-merge-key`).
fn key(field: &str) -> Option<&'static str> {
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets" => Some("name"),
        "ports" => Some("containerPort"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "hostAliases" => Some("ip"),
        _ => None,
    }
}

/// Merges a patch into a value: null removes, objects merge, other values and
/// lists without a key replace.
fn merge(target: &mut Value, patch: &Value, field: &str, strategic: bool) {
    match (patch, key(field).filter(|_| strategic)) {
        (Value::Object(fields), _) => {
            if !target.is_object() || fields.get("$patch").is_some_and(|how| how == "replace") {
                *target = Value::Object(Map::new());
            }
            let Some(object) = target.as_object_mut() else {
                return;
            };
            for (name, value) in fields.iter().filter(|(name, _)| *name != "$patch") {
                if value.is_null() {
                    object.remove(name);
                } else {
                    let place = object.entry(name).or_insert(Value::Null);
                    merge(place, value, name, strategic);
                }
            }
        }
        (Value::Array(patches), Some(key)) if target.is_array() => {
            let Some(list) = target.as_array_mut() else {
                return;
            };
            for patch in patches {
                merge_element(list, patch, key);
            }
        }
        _ => target.clone_from(patch),
    }
}

fn merge_element(list: &mut Vec<Value>, patch: &Value, key: &str) {
    let found = list.iter().position(|one| one[key] == patch[key]);
    match found {
        Some(at) if patch["$patch"] == "delete" => drop(list.remove(at)),
        Some(at) => merge(&mut list[at], patch, "", true),
        None if patch["$patch"] == "delete" => {}
        None => {
            let mut fresh = Value::Null;
            merge(&mut fresh, patch, "", true);
            list.push(fresh);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(patch: Value, strategic: bool) -> Value {
        let mut pod = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [
            {"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}], "command": ["p", "q"]},
            {"name": "b", "image": "y"},
        ]}});
        merge(&mut pod, &patch, "", strategic);
        pod
    }

    #[test]
    fn lists_merge_by_their_keys_and_null_removes() {
        let pod = merged(
            json!({"metadata": {"labels": {"a": null, "b": "2"}}, "spec": {"containers": [
                {"name": "a", "env": [{"name": "F", "value": "2"}], "command": ["r"],
                 "resources": {"limits": {"cpu": "1"}}},
                {"name": "b", "$patch": "delete"},
                {"name": "c", "image": "z"},
            ]}}),
            true,
        );
        assert_eq!(
            pod,
            json!({"metadata": {"labels": {"b": "2"}}, "spec": {"containers": [
                {"name": "a", "image": "x", "command": ["r"],
                 "env": [{"name": "E", "value": "1"}, {"name": "F", "value": "2"}],
                 "resources": {"limits": {"cpu": "1"}}},
                {"name": "c", "image": "z"},
            ]}})
        );
    }

    #[test]
    fn a_patch_is_json_or_yaml() {
        let expected = json!({"a": {"b": null, "c": "500m", "d": [1, true]}});
        for text in [
            "{\"a\": {\"b\": null, \"c\": \"500m\", \"d\": [1, true]}}",
            "a:\n  b: ~\n  c: 500m\n  d: [1, true]\n",
        ] {
            assert_eq!(spec::value("the patch", text).unwrap(), expected);
        }
        assert!(spec::value("the patch", "{a: ").is_err());
    }

    #[test]
    fn a_plain_merge_replaces_lists() {
        let pod = merged(json!({"spec": {"containers": [{"name": "c"}]}}), false);
        assert_eq!(pod["spec"], json!({"containers": [{"name": "c"}]}));
    }
}
