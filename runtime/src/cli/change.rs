//! What verbs that change a running pod have in common.

use super::ensure::Mode;
use super::error::ChangeError;
use super::{CliError, manifest, object};
use crate::engine::change::Outcome;
use crate::engine::{self, ChangeOf, PodView};
use crate::plan::Changes;
use crate::settings::Settings;
use crate::spec::{self, Document, PodSpec};
use serde_json::Value;
use std::time::Duration;

/// Seconds that a container which is replaced may take until it is ready.
pub const PATIENCE: &str = "2m";

/// A span of time, like `2m`.
pub fn patience(text: &str) -> Result<Duration, String> {
    super::time::duration(text).ok_or_else(|| format!("{text:?} is not a time like 30s or 2m"))
}

/// How many of the fields that cannot change an error names.
const SHOWN_PATHS: usize = 5;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The pod was that already.
    Unchanged,
    /// It is now.
    Configured,
    /// It will be: why not yet.
    Converging(String),
}

/// A pod's manifest, to be changed and read again.
pub fn editable(pod: &PodView) -> Value {
    let mut object = object::object(pod);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object
}

/// Makes a running pod what an edited manifest says.
pub async fn to_manifest(
    settings: &Settings,
    pod: &PodView,
    object: &Value,
    patience: Duration,
) -> Result<Changed, CliError> {
    let mut documents = spec::parse(manifest::COMMAND_LINE, &object.to_string())?;
    let document = documents.remove(0);
    to_document(settings, pod, &document, patience).await
}

/// In what a document differs from its pod. Errors with what cannot change.
pub fn admit(pod: &PodView, document: &Document) -> Result<spec::Difference, CliError> {
    let found = spec::difference(&pod.spec, &as_it_is(pod, document));
    if !found.is_more {
        return match found.refusal {
            Some(why) => Err(ChangeError::Refused {
                name: pod.name.clone(),
                why,
            }
            .into()),
            None => Ok(found),
        };
    }
    let manifest = as_recorded(pod, document);
    Err(ChangeError::Differs {
        name: pod.name.clone(),
        fields: spec::fixed_paths(&pod.manifest, &manifest, SHOWN_PATHS),
    }
    .into())
}

/// Makes a running pod what a document says. Errors with what cannot change.
pub async fn to_document(
    settings: &Settings,
    pod: &PodView,
    document: &Document,
    patience: Duration,
) -> Result<Changed, CliError> {
    let found = admit(pod, document)?;
    if found == spec::Difference::default() {
        return Ok(Changed::Unchanged);
    }
    if !found.added.is_empty() {
        return Err(ChangeError::Differs {
            name: pod.name.clone(),
            fields: vec!["spec.ephemeralContainers".to_owned()],
        }
        .into());
    }
    let change = change_of(settings, pod, document, found, patience)?;
    Ok(match engine::change::change(settings, pod, change).await? {
        Outcome::Done => Changed::Configured,
        Outcome::Converging(why) => Changed::Converging(why),
    })
}

/// Puts a container beside those of a running pod. Returns when that has begun:
/// the change's number.
pub async fn add(settings: &Settings, pod: &PodView, container: Value) -> Result<u64, CliError> {
    let mut object = editable(pod);
    let fields = object["spec"].as_object_mut();
    let list = fields.map(|fields| {
        let list = fields.entry("ephemeralContainers");
        list.or_insert_with(|| Value::Array(Vec::new()))
    });
    if let Some(Value::Array(list)) = list {
        list.push(container);
    }
    let mut documents = spec::parse(manifest::COMMAND_LINE, &object.to_string())?;
    let document = documents.remove(0);
    let found = admit(pod, &document)?;
    let change = change_of(settings, pod, &document, found, Duration::ZERO)?;
    Ok(engine::change::begin(settings, pod, change).await?)
}

fn change_of(
    settings: &Settings,
    pod: &PodView,
    document: &Document,
    found: spec::Difference,
    patience: Duration,
) -> Result<ChangeOf, CliError> {
    let spec = as_it_is(pod, document);
    let manifest = as_recorded(pod, document);
    let mut changed = document.clone();
    // In a manifest that was made from the pod's own, every policy is written out.
    changed.always_pulled.clear();
    let mut names = found.images;
    names.extend(found.added);
    let changes = Changes {
        anew: names.clone(),
        resized: found.resized,
    };
    let is_changed = |one: &spec::Container| names.contains(&one.name);
    changed.spec.init_containers.retain(is_changed);
    changed.spec.containers.retain(is_changed);
    changed.spec.ephemeral_containers.retain(is_changed);
    Ok(ChangeOf {
        manifest,
        images: manifest::images(settings, &[(&changed, Mode::Started)], (&[], false))?,
        objects: crate::objects::of_pod(settings, &spec)?,
        spec,
        changes,
        restart: found.restarted,
        patience_seconds: u32::try_from(patience.as_secs()).unwrap_or(u32::MAX),
    })
}

/// A document's object with the containers that look at the pod's, which come and go by themselves.
fn as_recorded(pod: &PodView, document: &Document) -> Value {
    let mut manifest = super::apply::value(document);
    let looking = &pod.manifest["spec"]["ephemeralContainers"];
    if document.spec.ephemeral_containers.is_empty() && !looking.is_null() {
        manifest["spec"]["ephemeralContainers"] = looking.clone();
    }
    manifest
}

/// A document's pod with what no manifest can say of a pod that is there.
fn as_it_is(pod: &PodView, document: &Document) -> PodSpec {
    let mut spec = document.spec.clone();
    // A generated name stays what it became.
    spec.name.clone_from(&pod.spec.name);
    spec.conditions.clone_from(&pod.spec.conditions);
    // Containers that look at the others come and go by themselves.
    if spec.ephemeral_containers.is_empty() {
        let present = &pod.spec.ephemeral_containers;
        spec.ephemeral_containers.clone_from(present);
    }
    spec
}
