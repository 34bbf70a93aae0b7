//! ConfigMap and Secret documents: what pods are configured with.

use super::check::Check;
use super::claim::{self, ClaimSpec};
use super::decode;
use super::meta;
use super::policy::{self, Policy};
use super::yaml::{Node, Value, join};
use super::{names, yaml};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Most bytes of all values of an object together, as in Kubernetes.
pub const MAX_DATA: usize = 1 << 20;

/// The type of a secret that names none.
pub const OPAQUE: &str = "Opaque";

/// Which kind of configuration an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// For anybody to see.
    ConfigMap,
    /// Values are shown in base64 only.
    Secret,
    /// A disk or directory that outlives pods.
    #[serde(rename = "persistentvolumeclaim")]
    Claim,
    /// Who may talk to whom.
    #[serde(rename = "networkpolicy")]
    Policy,
}

impl ObjectKind {
    /// As documents have it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::Claim => "PersistentVolumeClaim",
            Self::Policy => "NetworkPolicy",
        }
    }

    /// As kubectl prints one of several: `configmap`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
            Self::Claim => "persistentvolumeclaim",
            Self::Policy => "networkpolicy.networking.k8s.io",
        }
    }

    /// The version of its documents.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::ConfigMap | Self::Secret | Self::Claim => "v1",
            Self::Policy => "networking.k8s.io/v1",
        }
    }

    /// The kind of a document.
    pub(super) fn of(kind: &str) -> Option<Self> {
        [Self::ConfigMap, Self::Secret, Self::Claim, Self::Policy]
            .into_iter()
            .find(|one| one.kind() == kind)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A ConfigMap, a Secret or a claim, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigObject {
    /// Which of them.
    pub kind: ObjectKind,
    /// `default` when the document names none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// For selection.
    pub labels: BTreeMap<String, String>,
    /// For tools.
    pub annotations: BTreeMap<String, String>,
    /// Whether its data may never change.
    pub immutable: bool,
    /// Of a secret: what it is for.
    pub secret_type: Option<String>,
    /// A ConfigMap's `data`.
    pub text: BTreeMap<String, String>,
    /// A ConfigMap's `binaryData`; a secret's `data`.
    pub binary: BTreeMap<String, ByteString>,
    /// Of a claim: what it asks for.
    #[serde(default)]
    pub claim: Option<ClaimSpec>,
    /// Of a policy: what it says.
    #[serde(default)]
    pub policy: Option<Policy>,
}

impl ConfigObject {
    /// An object of that name with nothing in it.
    pub(super) fn named(kind: ObjectKind, identity: meta::Identity) -> Self {
        Self {
            kind,
            namespace: identity.namespace,
            name: identity.name,
            labels: identity.labels,
            annotations: identity.annotations,
            immutable: false,
            secret_type: None,
            text: BTreeMap::new(),
            binary: BTreeMap::new(),
            claim: None,
            policy: None,
        }
    }

    /// Every key with its value, as files see them.
    pub fn values(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let text = self.text.iter().map(|(key, text)| (key, text.as_bytes()));
        let binary = self.binary.iter().map(|(key, bytes)| (key, &*bytes.0));
        text.chain(binary).map(|(key, bytes)| (key.as_str(), bytes))
    }

    /// The value of a key, as a file has it.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        let text = self.text.get(key).map(String::as_bytes);
        text.or_else(|| self.binary.get(key).map(|bytes| &*bytes.0))
    }

    /// The value of a key, as a variable has it: `binaryData` has none there.
    #[must_use]
    pub fn variable(&self, key: &str) -> Option<&[u8]> {
        match self.kind {
            ObjectKind::ConfigMap => self.text.get(key).map(String::as_bytes),
            ObjectKind::Secret => self.binary.get(key).map(|bytes| &*bytes.0),
            ObjectKind::Claim | ObjectKind::Policy => None,
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.text.len() + self.binary.len()
    }
}

/// Converts a document of this kind.
pub(super) fn convert(
    kind: ObjectKind,
    tree: &Node,
    issues: &mut Issues,
    warnings: &mut Vec<String>,
) -> Option<ConfigObject> {
    let mut tree = tree.clone();
    empty_where_null(&mut tree, kind);
    unfold_base64(&mut tree, kind, issues);
    let mut object = match kind {
        ObjectKind::ConfigMap => config_map(&tree, issues),
        ObjectKind::Secret => secret(&tree, issues),
        ObjectKind::Claim => claim::convert(&tree, issues, warnings),
        ObjectKind::Policy => policy::convert(&tree, issues),
    }?;
    if object.namespace.is_empty() {
        object.namespace = "default".into();
    }
    Some(object)
}

type Issues = Vec<super::Issue>;

/// `key:` without a value is an empty one, as for an API server.
fn empty_where_null(tree: &mut Node, kind: ObjectKind) {
    let fields = match kind {
        ObjectKind::ConfigMap => ["data", "binaryData"],
        ObjectKind::Secret => ["data", "stringData"],
        ObjectKind::Claim | ObjectKind::Policy => return,
    };
    let Value::Object(entries) = &mut tree.value else {
        return;
    };
    let data = entries.iter_mut();
    for (_, data) in data.filter(|(key, _)| fields.contains(&key.as_str())) {
        let Value::Object(data) = &mut data.value else {
            continue;
        };
        for (_, node) in data {
            if let Value::Scalar(scalar) = &mut node.value
                && scalar.is_null()
            {
                (scalar.text, scalar.plain) = (String::new(), false);
            }
        }
    }
}

/// Base64 may be folded into lines, which the decoder does not take; what is
/// no base64 is told here, in better words than the decoder's.
fn unfold_base64(tree: &mut Node, kind: ObjectKind, issues: &mut Issues) {
    let field = match kind {
        ObjectKind::ConfigMap => "binaryData",
        ObjectKind::Secret => "data",
        ObjectKind::Claim | ObjectKind::Policy => return,
    };
    let Value::Object(entries) = &mut tree.value else {
        return;
    };
    let data = entries.iter_mut().find(|(key, _)| key == field);
    let Some((
        _,
        Node {
            value: Value::Object(data),
            ..
        },
    )) = data
    else {
        return;
    };
    for (_, node) in data {
        let (at, path) = (node.report_at(), node.path.clone());
        if let Value::Scalar(yaml::Scalar { text, .. }) = &mut node.value {
            text.retain(|c| !matches!(c, '\n' | '\r'));
            let decoded: Result<ByteString, _> =
                serde_json::from_value(serde_json::Value::String(text.clone()));
            if let Err(error) = decoded {
                text.clear();
                let (message, hint) = (format!("is not base64: {error}"), None);
                issues.push(super::Issue {
                    at,
                    path,
                    message,
                    hint,
                });
            }
        }
    }
}

fn config_map(tree: &Node, issues: &mut Issues) -> Option<ConfigObject> {
    let decoded = decode::decode::<core::ConfigMap>(tree);
    issues.extend(decoded.issues);
    let core::ConfigMap {
        binary_data,
        data,
        immutable,
        metadata,
    } = decoded.value?;
    let mut check = Check::new(tree, &decoded.masked);
    let identity = meta::object(&metadata, "the ConfigMap's name", &mut check);
    let (text, binary) = (data.unwrap_or_default(), binary_data.unwrap_or_default());
    keys("data", text.keys(), &mut check);
    keys("binaryData", binary.keys(), &mut check);
    for key in binary.keys().filter(|key| text.contains_key(*key)) {
        check.wrong(&join("binaryData", key), "is a key of data as well");
    }
    let total: usize = text.values().map(String::len).sum();
    let total = total + binary.values().map(|bytes| bytes.0.len()).sum::<usize>();
    limit("data", total, &mut check);
    issues.extend(check.finish().0);
    Some(ConfigObject {
        immutable: immutable.unwrap_or_default(),
        text,
        binary,
        ..ConfigObject::named(ObjectKind::ConfigMap, identity)
    })
}

fn secret(tree: &Node, issues: &mut Issues) -> Option<ConfigObject> {
    let decoded = decode::decode::<core::Secret>(tree);
    issues.extend(decoded.issues);
    let core::Secret {
        data,
        immutable,
        metadata,
        string_data,
        type_,
    } = decoded.value?;
    let mut check = Check::new(tree, &decoded.masked);
    let identity = meta::object(&metadata, "the Secret's name", &mut check);
    let (mut binary, text) = (data.unwrap_or_default(), string_data.unwrap_or_default());
    keys("data", binary.keys(), &mut check);
    keys("stringData", text.keys(), &mut check);
    // What is written as text wins, as in the API server.
    for (key, text) in text {
        binary.insert(key, ByteString(text.into_bytes()));
    }
    limit(
        "data",
        binary.values().map(|bytes| bytes.0.len()).sum(),
        &mut check,
    );
    let secret_type = type_.filter(|text| !text.is_empty());
    let secret_type = secret_type.unwrap_or_else(|| OPAQUE.to_owned());
    has_what_its_type_needs(&secret_type, &binary, &mut check);
    issues.extend(check.finish().0);
    Some(ConfigObject {
        immutable: immutable.unwrap_or_default(),
        secret_type: Some(secret_type),
        binary,
        ..ConfigObject::named(ObjectKind::Secret, identity)
    })
}

fn keys<'k>(field: &str, keys: impl Iterator<Item = &'k String>, check: &mut Check<'_>) {
    for key in keys {
        check.shape(&join(field, key), key, names::config_key);
    }
}

fn limit(field: &str, total: usize, check: &mut Check<'_>) {
    if total > MAX_DATA {
        check.wrong(
            field,
            format!("{total} bytes in all are more than {MAX_DATA}"),
        );
    }
}

/// What the API server demands of the well-known types.
fn has_what_its_type_needs(
    secret_type: &str,
    data: &BTreeMap<String, ByteString>,
    check: &mut Check<'_>,
) {
    let (any_of, all): (&[&str], bool) = match secret_type {
        "kubernetes.io/service-account-token" => {
            check.wrong(
                "type",
                format!("{secret_type} is refused: there are no service accounts here"),
            );
            return;
        }
        "kubernetes.io/dockercfg" => (&[".dockercfg"], true),
        "kubernetes.io/dockerconfigjson" => (&[".dockerconfigjson"], true),
        "kubernetes.io/basic-auth" => (&["username", "password"], false),
        "kubernetes.io/ssh-auth" => (&["ssh-privatekey"], true),
        "kubernetes.io/tls" => (&["tls.crt", "tls.key"], true),
        _ => return,
    };
    let absent = |key: &&&str| !data.contains_key(**key);
    let missing: Vec<&&str> = any_of.iter().filter(absent).collect();
    if all {
        for key in &missing {
            check.wrong(
                &join("data", key),
                format!("required in a secret of type {secret_type}"),
            );
        }
    } else if missing.len() == any_of.len() {
        check.wrong(
            "data",
            format!(
                "a secret of type {secret_type} needs {}",
                any_of.join(" or ")
            ),
        );
    }
    if secret_type.starts_with("kubernetes.io/docker")
        && let Some(config) = data.get(any_of[0])
        && serde_json::from_slice::<serde_json::Value>(&config.0).is_err()
    {
        check.wrong(&join("data", any_of[0]), "is not JSON");
    }
}
