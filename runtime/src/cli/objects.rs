//! ConfigMaps, Secrets and claims on the command line.

use super::error::ChangeError;
use super::pods::Scope;
use super::style::Style;
use super::table::Table;
use super::time::{age, rfc3339};
use super::{CliError, manifest};
use crate::engine;
use crate::objects::{self, Applied, Kept};
use crate::plan::Objects;
use crate::settings::Settings;
use crate::spec::{
    ConfigObject, Document, EnvFrom, EnvValue, FileSource, Issue, Manifest, ManifestError,
    ObjectKind, ValueSource,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Words that mean an object's kind where kubectl wants a resource type.
pub fn kind(word: &str) -> Option<ObjectKind> {
    match word {
        "configmap" | "configmaps" | "cm" => Some(ObjectKind::ConfigMap),
        "secret" | "secrets" => Some(ObjectKind::Secret),
        "persistentvolumeclaim" | "persistentvolumeclaims" | "pvc" => Some(ObjectKind::Claim),
        _ => None,
    }
}

/// The kind and names behind arguments like `configmaps`, `cm a b` or
/// `secret/a`; `None` when they are about something else.
pub fn named(words: &[String]) -> Result<Option<(ObjectKind, Vec<String>)>, CliError> {
    let Some((first, rest)) = words.split_first() else {
        return Ok(None);
    };
    let (type_word, _) = first.split_once('/').unwrap_or((first, ""));
    let Some(found) = kind(type_word) else {
        return Ok(None);
    };
    if !first.contains('/') {
        return Ok(Some((found, rest.to_vec())));
    }
    let names = words.iter().map(|word| match word.split_once('/') {
        Some((same, name)) if kind(same) == Some(found) => Ok(name.to_owned()),
        _ => Err(CliError::Usage {
            message: format!("{word:?}: all must be of one type, like {found}/NAME"),
        }),
    });
    Ok(Some((found, names.collect::<Result<_, _>>()?)))
}

/// What each pod and template of a manifest refers to: objects of the manifest, then those
/// that are kept. Errors with every place that refers to what is not there.
pub fn resolve(settings: &Settings, read: &Manifest) -> Result<Vec<Objects>, CliError> {
    let mut resolved = Vec::new();
    let mut missing: BTreeMap<&str, Vec<Issue>> = BTreeMap::new();
    for pod in read.documents() {
        let objects = of_pod(settings, pod, &read.objects)?;
        for reference in &pod.references {
            let object = objects.get(reference.kind, &reference.name);
            if let Some(message) = reference.missing(&pod.spec.namespace, object) {
                let issues = missing.entry(&pod.source_name).or_default();
                issues.push(Issue {
                    at: reference.at,
                    path: reference.path.clone(),
                    message,
                    hint: None,
                });
            }
        }
        resolved.push(objects);
    }
    match missing.into_iter().next() {
        None => Ok(resolved),
        Some((source_name, mut issues)) => {
            issues.sort();
            let source_name = source_name.to_owned();
            Err(ManifestError {
                source_name,
                issues,
            }
            .into())
        }
    }
}

fn of_pod(
    settings: &Settings,
    pod: &Document,
    fresh: &[ConfigObject],
) -> Result<Objects, CliError> {
    let mut objects = objects::of_pod(settings, &pod.spec)?;
    let wanted = pod.spec.objects();
    for object in fresh {
        let is_its = object.namespace == pod.spec.namespace;
        if is_its && wanted.contains(&(object.kind, object.name.as_str())) {
            objects.insert(object.clone());
        }
    }
    Ok(objects)
}

/// Keeps the objects of a manifest, all of them or, where one may not be
/// changed, none; `tell` hears what came of each.
pub fn keep(
    settings: &Settings,
    fresh: &[ConfigObject],
    tell: impl Fn(&ConfigObject, Applied),
) -> Result<(), CliError> {
    for object in fresh {
        objects::admit(settings, object)?;
    }
    for object in fresh {
        tell(object, objects::apply(settings, object)?);
    }
    Ok(())
}

/// Brings the volumes of running pods in line with these objects, whether they
/// have just changed or an earlier attempt has failed.
pub async fn update_pods(settings: &Settings, fresh: &[ConfigObject]) -> Result<(), CliError> {
    if fresh.is_empty() {
        return Ok(());
    }
    let _lock = objects::update_lock(settings)?;
    let mut failed = None;
    for pod in engine::list(settings).await? {
        let is_its = |object: &ConfigObject| {
            let mut made_of = pod.spec.volumes.iter().flat_map(|one| one.source.objects());
            object.namespace == pod.namespace
                && made_of.any(|its| its == (object.kind, object.name.as_str()))
        };
        if pod.status.phase.is_end() || !fresh.iter().any(is_its) {
            continue;
        }
        let objects = objects::of_pod(settings, &pod.spec)?;
        if let Err(source) = engine::update(settings, &pod, &objects).await {
            let name = pod.name.clone();
            failed.get_or_insert(ChangeError::NotUpdated { name, source }.into());
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Tells on standard error what has been kept, for commands whose output is
/// their pods'.
pub fn tell_aside(object: &ConfigObject, applied: Applied) {
    if applied != Applied::Unchanged {
        let line = format!("{}/{} {applied}", object.kind, object.name);
        tell!("{}", Style::stderr().dim(&line));
    }
}

/// The objects of a scope; with names only those, and the names that are not there.
pub fn choose(
    settings: &Settings,
    scope: &Scope,
    kind: ObjectKind,
    names: &[String],
) -> Result<(Vec<Kept>, Option<String>), CliError> {
    let mut found = objects::list(settings, kind)?;
    found.retain(|kept| {
        let object = &kept.object;
        (scope.all_namespaces || object.namespace == scope.namespace)
            && (names.is_empty() || names.contains(&object.name))
    });
    let is_there = |name: &&String| found.iter().any(|kept| kept.object.name == **name);
    let absent = names.iter().find(|name| !is_there(name)).cloned();
    Ok((found, absent))
}

/// The object as Kubernetes' own tools read it.
pub fn value(kept: &Kept) -> Value {
    let object = &kept.object;
    let mut metadata = Map::new();
    let mut put = |key: &str, value: Value| drop(metadata.insert(key.to_owned(), value));
    put("name", json!(object.name));
    put("namespace", json!(object.namespace));
    put("uid", json!(kept.uid));
    put("resourceVersion", json!(kept.revision.to_string()));
    put("creationTimestamp", json!(rfc3339(kept.created)));
    if !object.labels.is_empty() {
        put("labels", json!(object.labels));
    }
    if !object.annotations.is_empty() {
        put("annotations", json!(object.annotations));
    }
    let mut out = json!({
        "apiVersion": "v1",
        "kind": object.kind.kind(),
        "metadata": metadata,
    });
    if object.immutable {
        out["immutable"] = json!(true);
    }
    match object.kind {
        ObjectKind::ConfigMap => {
            if !object.text.is_empty() {
                out["data"] = json!(object.text);
            }
            if !object.binary.is_empty() {
                out["binaryData"] = json!(object.binary);
            }
        }
        ObjectKind::Secret => {
            if !object.binary.is_empty() {
                out["data"] = json!(object.binary);
            }
            out["type"] = json!(object.secret_type);
        }
        ObjectKind::Claim => {
            if let Some(claim) = &object.claim {
                let size = crate::spec::Bytes(claim.bytes).to_string();
                let modes = &claim.access_modes;
                out["spec"] = json!({
                    "accessModes": modes,
                    "resources": {"requests": {"storage": size}},
                    "volumeMode": "Filesystem",
                });
                out["status"] = json!({
                    "phase": "Bound",
                    "accessModes": modes,
                    "capacity": {"storage": size},
                });
            }
        }
    }
    out
}

/// The lines of a table of objects of one kind.
pub fn table(found: &[Kept], kind: ObjectKind, scope: &Scope) -> Vec<String> {
    let mut heads = match kind {
        ObjectKind::ConfigMap => vec!["NAME", "DATA", "AGE"],
        ObjectKind::Secret => vec!["NAME", "TYPE", "DATA", "AGE"],
        ObjectKind::Claim => vec!["NAME", "STATUS", "CAPACITY", "ACCESS MODES", "AGE"],
    };
    if scope.all_namespaces {
        heads.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(&heads);
    for kept in found {
        let object = &kept.object;
        let mut row = vec![object.name.clone()];
        match (kind, &object.claim) {
            (ObjectKind::Claim, Some(claim)) => {
                let short = claim.access_modes.iter().map(|mode| match mode.as_str() {
                    "ReadWriteOnce" => "RWO",
                    _ => "RWOP",
                });
                row.push("Bound".to_owned());
                row.push(crate::spec::Bytes(claim.bytes).to_string());
                row.push(short.collect::<Vec<_>>().join(","));
            }
            _ => {
                row.extend(object.secret_type.clone());
                row.push(object.count().to_string());
            }
        }
        row.push(age(kept.created));
        if scope.all_namespaces {
            row.insert(0, object.namespace.clone());
        }
        table.row(row);
    }
    table.lines(0)
}

/// Deletes objects and says so; the first name that is not there.
pub fn delete<'n>(
    settings: &Settings,
    kind: ObjectKind,
    names: impl IntoIterator<Item = (&'n str, &'n str)>,
) -> Result<Option<String>, CliError> {
    let mut absent = None;
    // No pod may come to hold a claim between the look and the end of it.
    let _claims = match kind {
        ObjectKind::Claim => Some(objects::claims_lock(settings)?),
        ObjectKind::ConfigMap | ObjectKind::Secret => None,
    };
    for (namespace, name) in names {
        if kind == ObjectKind::Claim
            && let Some(holder) = engine::claims::holder(settings, namespace, name)?
        {
            let claim = name.to_owned();
            return Err(engine::EngineError::ClaimHeld { claim, holder }.into());
        }
        if objects::delete(settings, namespace, kind, name)? {
            say!("{kind} \"{name}\" deleted");
        } else if absent.is_none() {
            absent = Some(name.to_owned());
        }
    }
    Ok(absent)
}

/// What a table of something that is not there says.
pub fn tell_none(scope: &Scope) {
    if scope.all_namespaces {
        tell!("No resources found");
    } else {
        tell!("No resources found in {} namespace.", scope.namespace);
    }
}

/// Reads a manifest and finds what its pods refer to.
pub fn read(
    settings: &Settings,
    files: &[std::path::PathBuf],
) -> Result<(Manifest, Vec<Objects>), CliError> {
    let read = manifest::read(files)?;
    let resolved = resolve(settings, &read)?;
    Ok((read, resolved))
}

/// A variable and where its value is from. What a secret says is not shown.
pub fn variable(name: &str, value: &EnvValue) -> String {
    match value {
        EnvValue::Text(text) => format!("{name}={text}"),
        EnvValue::From(ValueSource::Key(key)) => {
            let optional = if key.optional { ", optional" } else { "" };
            format!(
                "{name} from key {} of {} {}{optional}",
                key.key, key.kind, key.name
            )
        }
        EnvValue::From(ValueSource::Field(_)) => format!("{name} from the pod"),
        EnvValue::From(ValueSource::Resource(field)) => {
            format!("{name} from the resources of {}", field.container)
        }
    }
}

/// An object that gives all of its keys as variables.
pub fn all_keys(from: &EnvFrom) -> String {
    let optional = if from.optional { ", optional" } else { "" };
    let prefix = match from.prefix.as_str() {
        "" => String::new(),
        prefix => format!(" with prefix {prefix}"),
    };
    format!("{} {}{prefix}{optional}", from.kind, from.name)
}

/// What a volume of files is made of.
pub fn sources(sources: &[FileSource]) -> String {
    let names = sources.iter().map(|source| match source {
        FileSource::Object {
            kind,
            name,
            optional,
            ..
        } => {
            let optional = if *optional { " (optional)" } else { "" };
            format!("{kind} {name}{optional}")
        }
        FileSource::Downward { items } => {
            let paths: Vec<&str> = items.iter().map(|item| item.path.as_str()).collect();
            format!("the pod itself ({})", paths.join(", "))
        }
    });
    let names: Vec<String> = names.collect();
    format!("files from {}", names.join(", "))
}
