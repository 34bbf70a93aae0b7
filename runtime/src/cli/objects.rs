//! ConfigMaps, Secrets and claims on the command line.

mod show;

pub use show::{describe, found, names};

use super::error::{ChangeError, UsageError};
use super::pods::Scope;
use super::style::Style;
use super::{CliError, manifest};
use crate::engine;
use crate::host::HostError;
use crate::host::ordinary::OrdinaryError;
use crate::objects::{self, Applied};
use crate::plan::Objects;
use crate::policy;
use crate::settings::Settings;
use crate::spec::{
    ConfigObject, Document, EnvFrom, EnvValue, FileSource, Issue, Manifest, ManifestError,
    ObjectKind, ValueSource,
};
use std::collections::BTreeMap;

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
    admit(settings, fresh)?;
    for object in fresh {
        tell(object, objects::apply(settings, object)?);
    }
    if opens(fresh) {
        policy::enforce(settings).map_err(engine::EngineError::from)?;
    }
    Ok(())
}

/// Errors where an object of a manifest may not be kept.
pub fn admit(settings: &Settings, fresh: &[ConfigObject]) -> Result<(), CliError> {
    if opens(fresh) && settings.tenant.is_some() {
        return Err(UsageError::PolicyOfTenant.into());
    }
    if opens(fresh) && settings.is_ordinary {
        let refused = HostError::from(OrdinaryError::Policy);
        return Err(engine::EngineError::from(refused).into());
    }
    for object in fresh {
        objects::admit(settings, object)?;
    }
    Ok(())
}

fn opens(fresh: &[ConfigObject]) -> bool {
    fresh.iter().any(|one| one.kind == ObjectKind::Policy)
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

/// Deletes an object; whether there was one.
pub fn delete(
    settings: &Settings,
    kind: ObjectKind,
    (namespace, name): (&str, &str),
) -> Result<bool, CliError> {
    if kind == ObjectKind::Claim {
        return Ok(engine::claims::delete(settings, namespace, name)?);
    }
    let was_there = objects::delete(settings, namespace, kind, name)?.is_some();
    if kind == ObjectKind::Policy {
        policy::enforce(settings).map_err(engine::EngineError::from)?;
    }
    Ok(was_there)
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
    namespace: Option<&str>,
) -> Result<(Manifest, Vec<Objects>), CliError> {
    let read = manifest::read(files, namespace)?;
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
        EnvValue::From(ValueSource::File(file)) => {
            let optional = if file.optional { ", optional" } else { "" };
            let (key, path, volume) = (&file.key, &file.path, &file.volume);
            format!("{name} from {key} in file {path} of volume {volume}{optional}")
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
