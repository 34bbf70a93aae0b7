//! Which fields a Pod has, and where: asked of the Kubernetes types
//! themselves, so that there is no second list to keep.
//!
//! A type that implements `Deserialize` names its fields when it asks for a
//! struct. The [`Probe`] is a decoder without data that walks down a path of
//! field names, notes the names it is given at the end, and gives up.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, ReplicationController, Secret,
};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use std::cell::RefCell;
use std::sync::OnceLock;

/// Most edits between a key and the one that was meant.
const MAX_EDITS: usize = 3;

/// How deep misplaced keys are looked for: `spec.containers[].resources.limits`.
const MAX_DEPTH: usize = 4;

/// What to do about the unknown `key` of the object at `here` that has `fields`;
/// `pod` is where the document has its pod, empty when it is one.
pub fn hint(key: &str, fields: &[&str], here: &str, pod: &str) -> Option<String> {
    let here = here
        .strip_prefix(pod)
        .unwrap_or_default()
        .trim_start_matches('.');
    let here = without_numbers(here);
    let mut found: Vec<&Home> = homes()
        .iter()
        .filter(|home| home.fields.contains(&key))
        .collect();
    // A field of something that the object itself has is the likeliest.
    let is_below = |home: &Home| {
        let rest = home.path.strip_prefix(&here);
        !here.is_empty() && rest.is_some_and(|rest| rest.starts_with('.'))
    };
    found.sort_by_key(|home| !is_below(home));
    let home = found.first().map(|home| match (pod, home.path.as_str()) {
        ("", "") => format!("{key} belongs at the top level"),
        (pod, path) => {
            let parts = [pod, path].into_iter().filter(|part| !part.is_empty());
            let path = parts.collect::<Vec<_>>().join(".");
            format!("{key} belongs under {path}")
        }
    });
    let is_near = found.first().is_some_and(|home| is_below(home));
    // A slip of one letter is more likely than a field that moved, and so is half of a
    // name: `port` for containerPort, `secretName` for name.
    match closest(key, fields) {
        Some((1, meant)) => Some(format!("did you mean {meant}?")),
        _ if !is_near && half(key, fields).is_some() => {
            half(key, fields).map(|meant| format!("did you mean {meant}?"))
        }
        Some((_, meant)) if home.is_none() => Some(format!("did you mean {meant}?")),
        _ => home,
    }
}

/// The field whose name ends in the key, or in whose name the key ends.
fn half<'a>(key: &str, fields: &[&'a str]) -> Option<&'a str> {
    let ends_in = |long: &str, short: &str| {
        let head = long.len().checked_sub(short.len());
        let tail = head
            .filter(|head| *head > 0)
            .and_then(|head| long.get(head..));
        tail.is_some_and(|tail| {
            tail.starts_with(|c: char| c.is_ascii_uppercase()) && tail.eq_ignore_ascii_case(short)
        })
    };
    let mut fields = fields.iter().copied();
    fields.find(|field| ends_in(field, key) || ends_in(key, field))
}

/// `spec.containers[0]` as the homes have it: `spec.containers[]`.
fn without_numbers(path: &str) -> String {
    let mut inside = false;
    let kept = path.chars().filter(|c| {
        inside = if *c == '[' { true } else { inside && *c != ']' };
        !(inside && c.is_ascii_digit())
    });
    kept.collect()
}

/// The name nearest to `word`, with its distance, when it is near enough.
pub fn closest<'a>(word: &str, names: &[&'a str]) -> Option<(usize, &'a str)> {
    // The distance is quadratic, and a key may be as long as the manifest.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    names
        .iter()
        .map(|name| {
            let distance = strsim::damerau_levenshtein(&lower, &name.to_lowercase());
            (distance.max(1), *name)
        })
        .filter(|(distance, name)| *distance <= MAX_EDITS.min(name.len().div_ceil(3)))
        .min()
}

/// An object of a Pod and the names of its fields.
struct Home {
    path: String,
    fields: &'static [&'static str],
}

/// The objects of a Pod down to [`MAX_DEPTH`], those nearest to the top first.
fn homes() -> &'static [Home] {
    static HOMES: OnceLock<Vec<Home>> = OnceLock::new();
    HOMES.get_or_init(|| {
        let mut found: Vec<Home> = Vec::new();
        let mut level: Vec<Vec<&'static str>> = vec![Vec::new()];
        for _ in 0..=MAX_DEPTH {
            let mut next = Vec::new();
            for path in level {
                // What the system writes is no place for what people write.
                if path.first() == Some(&"status") || path.contains(&"managedFields") {
                    continue;
                }
                let Some((fields, shown)) = fields_at(&path) else {
                    continue;
                };
                found.push(Home {
                    path: shown,
                    fields,
                });
                for field in fields {
                    let mut longer = path.clone();
                    longer.push(field);
                    next.push(longer);
                }
            }
            level = next;
        }
        found
    })
}

/// The fields of the object at `path`, and the path with `[]` after lists.
fn fields_at(path: &[&str]) -> Option<(&'static [&'static str], String)> {
    let notes = notes_at::<Pod>(path);
    notes.fields.map(|fields| (fields, notes.shown))
}

fn notes_at<T: de::DeserializeOwned>(path: &[&str]) -> Notes {
    let notes = RefCell::new(Notes::default());
    let probe = Probe {
        path,
        notes: &notes,
    };
    // The error is how the probe stops.
    drop(T::deserialize(probe));
    notes.into_inner()
}

/// What kind of value a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Has fields of its own.
    Object,
    /// Any keys.
    Map,
    /// `true` or `false`.
    Boolean,
    /// A number without fraction.
    Integer,
    /// Text.
    Text,
    /// A number with a unit, or whatever is neither of the above.
    Other,
}

/// Every field of a Pod with what it is, objects before their fields; lists
/// are written `containers[]`.
#[must_use]
pub fn fields() -> Vec<(String, FieldKind)> {
    fields_in::<Pod>()
}

/// The same of what stands beside pods; what is in a template is a Pod's or a
/// claim's, and left out. None of a kind that has no such list.
#[must_use]
pub fn fields_of(kind: &str) -> Vec<(String, FieldKind)> {
    match kind {
        "ConfigMap" => fields_in::<ConfigMap>(),
        "DaemonSet" => fields_in::<DaemonSet>(),
        "Deployment" => fields_in::<Deployment>(),
        "Job" => fields_in::<Job>(),
        "PersistentVolumeClaim" => fields_in::<PersistentVolumeClaim>(),
        "ReplicaSet" => fields_in::<ReplicaSet>(),
        "ReplicationController" => fields_in::<ReplicationController>(),
        "Secret" => fields_in::<Secret>(),
        "StatefulSet" => fields_in::<StatefulSet>(),
        _ => Vec::new(),
    }
}

fn fields_in<T: de::DeserializeOwned>() -> Vec<(String, FieldKind)> {
    let mut found = Vec::new();
    below::<T>(&mut Vec::new(), &mut found);
    found
}

fn below<T: de::DeserializeOwned>(
    path: &mut Vec<&'static str>,
    found: &mut Vec<(String, FieldKind)>,
) {
    let notes = notes_at::<T>(path);
    let kind = notes.kind.unwrap_or(FieldKind::Other);
    if !path.is_empty() {
        found.push((notes.shown, kind));
    }
    if matches!(
        path.as_slice(),
        ["spec", "template" | "volumeClaimTemplates"]
    ) {
        return;
    }
    for field in notes.fields.unwrap_or_default() {
        path.push(field);
        below::<T>(path, found);
        path.pop();
    }
}

#[derive(Default)]
struct Notes {
    fields: Option<&'static [&'static str]>,
    shown: String,
    kind: Option<FieldKind>,
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    path: &'a [&'a str],
    notes: &'a RefCell<Notes>,
}

#[derive(Debug)]
struct Stop;

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the probe has seen enough")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<M: std::fmt::Display>(_: M) -> Self {
        Self
    }
}

impl Probe<'_> {
    /// Notes what is at the end of the path.
    fn at_end<T>(self, kind: FieldKind) -> Result<T, Stop> {
        if self.path.is_empty() {
            self.notes.borrow_mut().kind = Some(kind);
        }
        Err(Stop)
    }
}

macro_rules! scalars {
    ($($method:ident $kind:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            self.at_end(FieldKind::$kind)
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    scalars! {
        deserialize_any Other;
        deserialize_bool Boolean;
        deserialize_i32 Integer;
        deserialize_i64 Integer;
        deserialize_str Text;
        deserialize_string Text;
        deserialize_map Map;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.notes.borrow_mut().shown.push_str("[]");
        visitor.visit_seq(One(Some(self)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let Some((first, rest)) = self.path.split_first() else {
            self.notes.borrow_mut().fields = Some(fields);
            return self.at_end(FieldKind::Object);
        };
        {
            let shown = &mut self.notes.borrow_mut().shown;
            if !shown.is_empty() {
                shown.push('.');
            }
            shown.push_str(first);
        }
        let value = Probe { path: rest, ..self };
        visitor.visit_map(Field {
            key: Some(first),
            value,
        })
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit
        unit_struct newtype_struct tuple tuple_struct enum identifier ignored_any
    }
}

struct One<'a>(Option<Probe<'a>>);

impl<'de> de::SeqAccess<'de> for One<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Stop> {
        self.0
            .take()
            .map(|probe| seed.deserialize(probe))
            .transpose()
    }
}

struct Field<'a> {
    key: Option<&'a str>,
    value: Probe<'a>,
}

impl<'de> de::MapAccess<'de> for Field<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Stop> {
        self.key
            .take()
            .map(|key| seed.deserialize(key.into_deserializer()))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_tell_their_fields() {
        let (fields, shown) = fields_at(&["spec", "containers", "resources"]).expect("an object");
        assert_eq!(fields, ["claims", "limits", "requests"]);
        assert_eq!(shown, "spec.containers[].resources");
        assert!(fields_at(&["spec", "hostname"]).is_none());
    }

    #[test]
    fn a_misplaced_key_is_sent_home() {
        let (metadata, _) = fields_at(&["metadata"]).expect("an object");
        assert_eq!(
            hint("restartPolicy", metadata, "metadata", "").as_deref(),
            Some("restartPolicy belongs under spec")
        );
        let (container, _) = fields_at(&["spec", "containers"]).expect("an object");
        assert_eq!(
            hint("imagee", container, "spec.containers[0]", "").as_deref(),
            Some("did you mean image?")
        );
        assert_eq!(
            hint("volumes", container, "spec.containers[0]", "").as_deref(),
            Some("volumes belongs under spec")
        );
        assert_eq!(hint("qqqqqqq", container, "spec.containers[0]", ""), None);
        for (object, key, meant) in [
            (
                &["spec", "containers", "ports"][..],
                "port",
                "containerPort",
            ),
            (&["spec", "volumes", "secret"], "name", "secretName"),
            (&["spec", "containers", "volumeMounts"], "path", "mountPath"),
        ] {
            let (fields, shown) = fields_at(object).expect("an object");
            let meant = format!("did you mean {meant}?");
            assert_eq!(hint(key, fields, &shown, "").as_deref(), Some(&*meant));
        }
        let env = ["spec", "containers", "env", "valueFrom", "secretKeyRef"];
        let (fields, shown) = fields_at(&env).expect("an object");
        assert_eq!(
            hint("secretName", fields, &shown, "").as_deref(),
            Some("did you mean name?")
        );
        assert_eq!(
            hint("limits", container, "spec.containers[0]", "").as_deref(),
            Some("limits belongs under spec.containers[].resources")
        );
        assert_eq!(
            hint(
                "restartPolicy",
                metadata,
                "spec.template.metadata",
                "spec.template"
            )
            .as_deref(),
            Some("restartPolicy belongs under spec.template.spec")
        );
    }
}
