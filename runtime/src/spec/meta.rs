//! Metadata that all objects have.

use super::check::Check;
use super::names;
use super::pod::some;
use super::yaml::join;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// Bytes of all annotations together, as in Kubernetes.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// Who an object is.
pub struct Identity {
    pub name: String,
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// The metadata of an object that has a name of its own.
pub fn object(metadata: &ObjectMeta, what: &str, check: &mut Check<'_>) -> Identity {
    let name = metadata.name.clone().unwrap_or_default();
    if name.is_empty() {
        let message = format!("required: {what}");
        match &metadata.generate_name {
            Some(_) => check.wrong_with_hint(
                "metadata.name",
                message,
                "a generateName is for what `beluga run` makes anew".to_owned(),
            ),
            None => check.wrong("metadata.name", message),
        }
    } else {
        check.shape("metadata.name", &name, names::subdomain);
    }
    let namespace = metadata.namespace.clone().unwrap_or_default();
    if !namespace.is_empty() {
        check.shape("metadata.namespace", &namespace, names::label);
    }
    let (labels, annotations) = labels(metadata, check);
    check.ignore(
        "metadata",
        &[
            ("finalizers", some(&metadata.finalizers)),
            ("ownerReferences", some(&metadata.owner_references)),
        ],
    );
    Identity {
        name,
        namespace,
        labels,
        annotations,
    }
}

/// Labels and annotations.
pub fn labels(
    metadata: &ObjectMeta,
    check: &mut Check<'_>,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let labels = metadata.labels.clone().unwrap_or_default();
    for (key, value) in &labels {
        let path = join("metadata.labels", key);
        check.shape(&path, key, names::qualified);
        if let Err(why) = names::label_value(value) {
            check.wrong(&path, format!("{value:?} {why}"));
        }
    }
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let mut total = 0;
    for (key, value) in &annotations {
        total += key.len() + value.len();
        // As in Kubernetes, where case does not matter in the keys of annotations.
        check.shape(&join("metadata.annotations", key), key, |key| {
            names::qualified(&key.to_ascii_lowercase())
        });
    }
    if total > MAX_ANNOTATIONS {
        check.wrong(
            "metadata.annotations",
            format!("{total} bytes in all are more than {MAX_ANNOTATIONS}"),
        );
    }
    (labels, annotations)
}
