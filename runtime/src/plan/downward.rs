//! What a pod and its containers are told of the pod, and of the objects of
//! its namespace.

use super::types::{HostFacts, Identity};
use super::{PlanError, size};
use crate::spec::{
    ConfigObject, Container, Field, KeyRef, ObjectKind, PodSpec, Resource, ResourceField,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

/// The service account of a pod that names none.
const DEFAULT_ACCOUNT: &str = "default";

/// The ConfigMaps and Secrets that a pod can see: those of its namespace.
#[derive(Debug, Clone, Default)]
pub struct Objects(BTreeMap<(ObjectKind, String), ConfigObject>);

impl Objects {
    /// The object of that kind and name.
    #[must_use]
    pub fn get(&self, kind: ObjectKind, name: &str) -> Option<&ConfigObject> {
        self.0.get(&(kind, name.to_owned()))
    }

    /// Puts an object in, instead of one of the same kind and name.
    pub fn insert(&mut self, object: ConfigObject) {
        self.0.insert((object.kind, object.name.clone()), object);
    }

    /// The same to be shown: of each value of a Secret only how long it is.
    #[must_use]
    pub fn veiled(&self) -> Self {
        let mut veiled = self.clone();
        let all = veiled.0.values_mut();
        for secret in all.filter(|object| object.kind == ObjectKind::Secret) {
            for value in secret.text.values_mut() {
                *value = veil(value.len());
            }
            for value in secret.binary.values_mut() {
                value.0 = veil(value.0.len()).into_bytes();
            }
        }
        veiled
    }
}

fn veil(length: usize) -> String {
    format!("*** ({length} bytes)")
}

/// All that a pod can be told.
pub struct Facts<'a> {
    pub spec: &'a PodSpec,
    pub identity: &'a Identity,
    /// Not needed for what files are told.
    pub host: Option<&'a HostFacts>,
    pub objects: &'a Objects,
    /// CPUs of the machine.
    pub vcpus: u8,
    /// Its memory.
    pub memory_mib: u32,
    /// Where containers are slowed down, in millionths of what is above their request.
    pub memory_throttling: Option<u32>,
    /// Most processes of the pod, and of each container.
    pub pids_max: Option<u64>,
    /// Size of the scratch disk.
    pub scratch_bytes: u64,
}

impl Facts<'_> {
    /// The text of a field of the pod.
    pub fn field(&self, field: &Field) -> String {
        let spec = self.spec;
        let of = |map: &BTreeMap<String, String>, key| map.get(key).cloned().unwrap_or_default();
        match field {
            Field::Name => self.identity.name.clone(),
            Field::Namespace => self.identity.namespace.clone(),
            Field::Uid => self.identity.uid.to_string(),
            Field::Labels => lines(&spec.labels),
            Field::Annotations => lines(&spec.annotations),
            Field::Label(key) => of(&spec.labels, key),
            Field::Annotation(key) => of(&spec.annotations, key),
            Field::NodeName => spec
                .node_name
                .clone()
                .or_else(|| Some(self.host?.node_name.clone()))
                .unwrap_or_default(),
            Field::ServiceAccount => spec
                .service_account
                .clone()
                .unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()),
            Field::PodIp => self.addresses().into_iter().next().unwrap_or_default(),
            Field::PodIps => self.addresses().join(","),
            Field::HostIp | Field::HostIps => self.host_ip().to_string(),
        }
    }

    fn addresses(&self) -> Vec<String> {
        let own = self.identity.addresses().into_iter();
        own.map(|ip| ip.to_string()).collect()
    }

    /// The host as the pod reaches it.
    fn host_ip(&self) -> IpAddr {
        let network = self.host.and_then(|host| host.network.as_ref());
        network.map_or(Ipv4Addr::LOCALHOST.into(), |shared| shared.gateway.ip)
    }

    /// A request or limit in units of the divisor, rounded up. A limit that is
    /// not there is the pod's or, without one, what the machine leaves to containers,
    /// as a kubelet tells what its node does.
    pub fn resource(&self, field: &ResourceField) -> String {
        let named = |one: &&Container| one.name == field.container;
        let resources = self.spec.all_containers().find(named);
        let resources = resources.map(|one| &one.resources);
        let pod = &self.spec.resources;
        let (request, limit, all) = match field.resource {
            Resource::Cpu => (
                resources.and_then(|own| own.cpu_request_milli),
                resources.and_then(|own| own.cpu_limit_milli.or(pod.cpu_limit_milli)),
                u64::from(self.vcpus) * 1000,
            ),
            Resource::Memory => (
                resources.and_then(|own| own.memory_request),
                resources.and_then(|own| own.memory_limit.or(pod.memory_limit)),
                size::usable(self.memory_mib),
            ),
            Resource::EphemeralStorage => (
                resources.and_then(|own| own.storage_request),
                resources.and_then(|own| own.storage_limit),
                self.scratch_bytes,
            ),
        };
        let amount = if field.is_limit {
            limit.unwrap_or(all)
        } else {
            request.unwrap_or_default()
        };
        amount.div_ceil(field.divisor.max(1)).to_string()
    }

    /// The value that a variable of a container takes from an object; `None`
    /// when it may be missing, and is.
    pub fn key(&self, container: &str, key: &KeyRef) -> Result<Option<String>, PlanError> {
        let object = self.objects.get(key.kind, &key.name);
        let bytes = object.and_then(|object| object.variable(&key.key));
        match bytes {
            Some(bytes) => text(container, &key.key, key.kind, &key.name, bytes).map(Some),
            None if key.optional => Ok(None),
            None => Err(PlanError::Missing {
                container: container.to_owned(),
                what: match object {
                    None => format!("{} {:?}", key.kind, key.name),
                    Some(_) => format!("key {:?} of {} {:?}", key.key, key.kind, key.name),
                },
            }),
        }
    }
}

/// A value as an environment can carry it.
pub fn text(
    container: &str,
    key: &str,
    kind: ObjectKind,
    name: &str,
    bytes: &[u8],
) -> Result<String, PlanError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(PlanError::NotText {
            container: container.to_owned(),
            key: key.to_owned(),
            kind,
            name: name.to_owned(),
        }),
    }
}

/// A line `key="value"` for each, as a kubelet writes them.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}={}", quoted(value)))
        .collect();
    lines.join("\n")
}

/// Go's `%q`.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c < ' ' || c == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_lines_of_quoted_values() {
        let map = BTreeMap::from([
            ("b".to_owned(), "two\nlines \"x\" \\ \u{1}".to_owned()),
            ("a".to_owned(), "ä".to_owned()),
        ]);
        assert_eq!(
            lines(&map),
            "a=\"ä\"\nb=\"two\\nlines \\\"x\\\" \\\\ \\x01\""
        );
    }

    #[test]
    fn of_a_secret_only_its_length_is_shown() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {p: hidden}\n\
                    ---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {p: seen}\n";
        let mut objects = Objects::default();
        for object in crate::spec::read("objects.yaml", text).unwrap().objects {
            objects.insert(object);
        }
        let shown = format!("{:?}", objects.veiled());
        assert!(
            !shown.contains("hidden") && shown.contains("seen"),
            "{shown}"
        );
        let veiled = objects.veiled();
        let secret = veiled.get(ObjectKind::Secret, "s").unwrap();
        assert_eq!(secret.binary["p"].0, b"*** (6 bytes)");
    }
}
