//! Environment variables and where their values come from.

use super::check::Check;
use super::config::{
    EnvFrom, EnvValue, Field, FileKeyRef, KeyRef, Resource, ResourceField, ValueSource, Volume,
    VolumeSource,
};
use super::names;
use super::object::ObjectKind;
use super::yaml::join;
use k8s_openapi::api::core::v1 as core;

/// Units that a divisor may be: of memory and storage.
const BYTE_DIVISORS: [u64; 13] = [
    1,
    1_000,
    1_000_000,
    1_000_000_000,
    1_000_000_000_000,
    1_000_000_000_000_000,
    1_000_000_000_000_000_000,
    1 << 10,
    1 << 20,
    1 << 30,
    1 << 40,
    1 << 50,
    1 << 60,
];

/// What a variable may refer to.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The container's own name.
    pub own: &'a str,
    /// The containers of the pod.
    pub containers: &'a [&'a str],
    /// The volumes of the pod.
    pub volumes: &'a [Volume],
}

/// Longest name of a variable in a file, as in Kubernetes.
const MAX_FILE_KEY: usize = 128;

/// Converts the variables of a container.
pub fn variables(
    path: &str,
    list: &[core::EnvVar],
    around: Around<'_>,
    check: &mut Check<'_>,
) -> Vec<(String, EnvValue)> {
    let mut out = Vec::new();
    for (at, variable) in list.iter().enumerate() {
        let core::EnvVar {
            name,
            value,
            value_from,
        } = variable;
        let path = format!("{path}.env[{at}]");
        check.shape(&join(&path, "name"), name, names::variable);
        let text = value.clone().unwrap_or_default();
        if text.contains('\0') {
            check.wrong(&join(&path, "value"), "contains a NUL character");
        }
        let value = match value_from {
            None => Some(EnvValue::Text(text)),
            Some(from) => {
                let path = join(&path, "valueFrom");
                if !text.is_empty() {
                    check.wrong(&path, "cannot be used together with a value");
                }
                source(&path, from, around, check).map(EnvValue::From)
            }
        };
        out.extend(value.map(|value| (name.clone(), value)));
    }
    out
}

fn source(
    path: &str,
    from: &core::EnvVarSource,
    around: Around<'_>,
    check: &mut Check<'_>,
) -> Option<ValueSource> {
    let core::EnvVarSource {
        config_map_key_ref,
        field_ref,
        file_key_ref,
        resource_field_ref,
        secret_key_ref,
    } = from;
    let mut found = Vec::new();
    if let Some(field_ref) = field_ref {
        let path = join(path, "fieldRef");
        found.push(field(&path, field_ref, false, check).map(ValueSource::Field));
    }
    if let Some(selector) = resource_field_ref {
        let path = join(path, "resourceFieldRef");
        let (own, all) = (Some(around.own), around.containers);
        found.push(resource(&path, selector, own, all, check).map(ValueSource::Resource));
    }
    if let Some(core::ConfigMapKeySelector {
        key,
        name,
        optional,
    }) = config_map_key_ref
    {
        let path = join(path, "configMapKeyRef");
        let reference = (
            ObjectKind::ConfigMap,
            name.as_str(),
            key.as_str(),
            *optional,
        );
        found.push(Some(ValueSource::Key(key_ref(&path, reference, check))));
    }
    if let Some(core::SecretKeySelector {
        key,
        name,
        optional,
    }) = secret_key_ref
    {
        let path = join(path, "secretKeyRef");
        let reference = (ObjectKind::Secret, name.as_str(), key.as_str(), *optional);
        found.push(Some(ValueSource::Key(key_ref(&path, reference, check))));
    }
    if let Some(selector) = file_key_ref {
        let path = join(path, "fileKeyRef");
        let reference = file_key(&path, selector, around.volumes, check);
        found.push(Some(ValueSource::File(reference)));
    }
    if found.len() > 1 {
        check.wrong(path, "only one of its fields may be there");
    } else if found.is_empty() {
        check.wrong(
            path,
            "required: fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef or fileKeyRef",
        );
    }
    found.into_iter().next().flatten()
}

/// A variable of a file: only what the pod itself can have written has one.
fn file_key(
    path: &str,
    selector: &core::FileKeySelector,
    volumes: &[Volume],
    check: &mut Check<'_>,
) -> FileKeyRef {
    let core::FileKeySelector {
        key,
        optional,
        path: file,
        volume_name,
    } = selector;
    check.shape(&join(path, "key"), key, |key| {
        names::variable(key)?;
        if key.len() > MAX_FILE_KEY {
            return Err("is longer than 128 characters");
        }
        Ok(())
    });
    check.shape(&join(path, "path"), file, names::file_path);
    let at = join(path, "volumeName");
    let volume = volumes.iter().find(|volume| volume.name == *volume_name);
    match volume.map(|volume| &volume.source) {
        _ if volume_name.is_empty() => check.wrong(&at, "required: the volume's name"),
        None => check.wrong(
            &at,
            format!("{volume_name:?} is not a volume of the pod (spec.volumes declares them)"),
        ),
        Some(VolumeSource::EmptyDir { .. }) => {}
        Some(_) => check.wrong(&at, "only an emptyDir may have the file"),
    }
    FileKeyRef {
        volume: volume_name.clone(),
        path: file.clone(),
        key: key.clone(),
        optional: optional.unwrap_or_default(),
    }
}

fn key_ref(
    path: &str,
    (kind, name, key, optional): (ObjectKind, &str, &str, Option<bool>),
    check: &mut Check<'_>,
) -> KeyRef {
    let optional = optional.unwrap_or_default();
    check.shape(&join(path, "name"), name, names::subdomain);
    check.shape(&join(path, "key"), key, names::config_key);
    if !optional {
        check.refer(path, (kind, name), Some(key));
    }
    KeyRef {
        kind,
        name: name.to_owned(),
        key: key.to_owned(),
        optional,
    }
}

/// Paths and the fields that they name.
type Known<'k> = &'k [(&'k str, Field)];

/// Converts a reference to a field of the pod. Files and variables may have
/// different ones.
pub fn field(
    path: &str,
    selector: &core::ObjectFieldSelector,
    for_file: bool,
    check: &mut Check<'_>,
) -> Option<Field> {
    let core::ObjectFieldSelector {
        api_version,
        field_path,
    } = selector;
    if let Some(version) = api_version.as_deref().filter(|version| !version.is_empty()) {
        check.choice(&join(path, "apiVersion"), Some(version), &[("v1", ())]);
    }
    let path = join(path, "fieldPath");
    if let Some((base, key)) = subscript(field_path) {
        return keyed(&path, base, key, check);
    }
    let (for_both, for_one): (Known<'_>, Known<'_>) = (
        &[
            ("metadata.name", Field::Name),
            ("metadata.namespace", Field::Namespace),
            ("metadata.uid", Field::Uid),
        ],
        if for_file {
            &[
                ("metadata.labels", Field::Labels),
                ("metadata.annotations", Field::Annotations),
            ]
        } else {
            &[
                ("spec.nodeName", Field::NodeName),
                ("spec.serviceAccountName", Field::ServiceAccount),
                ("status.podIP", Field::PodIp),
                ("status.podIPs", Field::PodIps),
                ("status.hostIP", Field::HostIp),
                ("status.hostIPs", Field::HostIps),
            ]
        },
    );
    let mut known = for_both.iter().chain(for_one);
    match known.find(|(name, _)| name == field_path) {
        Some((_, field)) => Some(field.clone()),
        None => {
            let names: Vec<&str> = for_both
                .iter()
                .chain(for_one)
                .map(|(name, _)| *name)
                .collect();
            let shown: String = field_path.chars().take(60).collect();
            check.wrong(
                &path,
                format!(
                    "{shown:?} is not one of {}, metadata.labels['KEY'], metadata.annotations['KEY']",
                    names.join(", ")
                ),
            );
            None
        }
    }
}

/// The label or annotation of a key.
fn keyed(path: &str, base: &str, key: &str, check: &mut Check<'_>) -> Option<Field> {
    let found = match base {
        "metadata.labels" => Field::Label(key.to_owned()),
        "metadata.annotations" => Field::Annotation(key.to_owned()),
        _ => {
            check.wrong(path, format!("{base} has no keys in brackets"));
            return None;
        }
    };
    if let Err(why) = names::qualified(key) {
        check.wrong(path, format!("the key {key:?} {why}"));
    }
    Some(found)
}

/// `metadata.labels['key']` taken apart.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (base, rest) = path.split_once("['")?;
    Some((base, rest.strip_suffix("']")?))
}

/// Converts a reference to a request or limit. A variable's is of its own
/// container when it names none.
pub fn resource(
    path: &str,
    selector: &core::ResourceFieldSelector,
    own: Option<&str>,
    all: &[&str],
    check: &mut Check<'_>,
) -> Option<ResourceField> {
    let core::ResourceFieldSelector {
        container_name,
        divisor,
        resource,
    } = selector;
    let named = container_name.as_deref().filter(|name| !name.is_empty());
    let container = named.or(own);
    let name_path = join(path, "containerName");
    match container {
        None => check.wrong(&name_path, "required: the container's name"),
        Some(name) if !all.contains(&name) => {
            check.wrong(
                &name_path,
                format!("{name:?} is not a container of the pod"),
            );
        }
        Some(_) => {}
    }
    let (is_limit, what) = check.choice(
        &join(path, "resource"),
        Some(resource),
        &[
            ("limits.cpu", (true, Resource::Cpu)),
            ("limits.memory", (true, Resource::Memory)),
            (
                "limits.ephemeral-storage",
                (true, Resource::EphemeralStorage),
            ),
            ("requests.cpu", (false, Resource::Cpu)),
            ("requests.memory", (false, Resource::Memory)),
            (
                "requests.ephemeral-storage",
                (false, Resource::EphemeralStorage),
            ),
        ],
    );
    let divisor = divisor.as_ref().map_or("1", |divisor| divisor.0.as_str());
    let divisor = unit(&join(path, "divisor"), divisor, what, check)?;
    Some(ResourceField {
        container: container?.to_owned(),
        is_limit,
        resource: what,
        divisor,
    })
}

/// The divisor: in thousandths of a CPU, or in bytes.
fn unit(path: &str, text: &str, what: Resource, check: &mut Check<'_>) -> Option<u64> {
    let quantity = check.quantity(path, text)?;
    let (amount, one, is_good) = match what {
        Resource::Cpu => (
            quantity.millis(),
            1000,
            matches!(quantity.millis(), 0 | 1 | 1000),
        ),
        Resource::Memory | Resource::EphemeralStorage => (
            quantity.units(),
            1,
            quantity.units() == 0 || BYTE_DIVISORS.contains(&quantity.units()),
        ),
    };
    if !is_good {
        let units = if what == Resource::Cpu {
            "1 and 1m"
        } else {
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi and 1Ei"
        };
        check.wrong(path, format!("{text:?} is not one of {units}"));
    }
    Some(if amount == 0 { one } else { amount })
}

/// Converts what whole objects give as variables.
pub fn from_objects(
    path: &str,
    list: &[core::EnvFromSource],
    check: &mut Check<'_>,
) -> Vec<EnvFrom> {
    let mut out = Vec::new();
    for (at, source) in list.iter().enumerate() {
        let core::EnvFromSource {
            config_map_ref,
            prefix,
            secret_ref,
        } = source;
        let path = format!("{path}.envFrom[{at}]");
        let prefix = prefix.clone().unwrap_or_default();
        if !prefix.is_empty() {
            check.shape(&join(&path, "prefix"), &prefix, names::variable);
        }
        let config_map =
            config_map_ref
                .as_ref()
                .map(|core::ConfigMapEnvSource { name, optional }| {
                    ("configMapRef", ObjectKind::ConfigMap, name, optional)
                });
        let secret = secret_ref
            .as_ref()
            .map(|core::SecretEnvSource { name, optional }| {
                ("secretRef", ObjectKind::Secret, name, optional)
            });
        let (field, kind, name, optional) = match (config_map, secret) {
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => {
                check.wrong(&path, "required: configMapRef or secretRef");
                continue;
            }
            (Some(_), Some(_)) => {
                check.wrong(&path, "only one of configMapRef and secretRef may be there");
                continue;
            }
        };
        let path = join(&path, field);
        check.shape(&join(&path, "name"), name, names::subdomain);
        let optional = optional.unwrap_or_default();
        if !optional {
            check.refer(&path, (kind, name), None);
        }
        out.push(EnvFrom {
            kind,
            name: name.clone(),
            prefix,
            optional,
        });
    }
    out
}
