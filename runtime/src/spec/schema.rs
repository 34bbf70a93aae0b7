//! Which fields a Pod has, and where: asked of the Kubernetes types
//! themselves, so that there is no second list to keep.
//!
//! A type that implements `Deserialize` names its fields when it asks for a
//! struct. The [`Probe`] is a decoder without data that walks down a path of
//! field names, notes the names it is given at the end, and gives up.

use k8s_openapi::api::core::v1::Pod;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use std::cell::RefCell;
use std::sync::OnceLock;

/// Most edits between a key and the one that was meant.
const MAX_EDITS: usize = 3;

/// How deep misplaced keys are looked for: `spec.containers[].resources.limits`.
const MAX_DEPTH: usize = 4;

/// What to do about the unknown `key` of an object that has `fields`.
pub fn hint(key: &str, fields: &[&str]) -> Option<String> {
    let home = homes()
        .iter()
        .find(|home| home.fields.contains(&key))
        .map(|home| match home.path.as_str() {
            "" => format!("{key} belongs at the top level"),
            path => format!("{key} belongs under {path}"),
        });
    // A slip of one letter is more likely than a field that moved.
    match closest(key, fields) {
        Some((1, meant)) => Some(format!("did you mean {meant}?")),
        Some((_, meant)) if home.is_none() => Some(format!("did you mean {meant}?")),
        _ => home,
    }
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
    let notes = RefCell::new(Notes::default());
    let probe = Probe {
        path,
        notes: &notes,
    };
    // The error is how the probe stops.
    drop(Pod::deserialize(probe));
    let notes = notes.into_inner();
    notes.fields.map(|fields| (fields, notes.shown))
}

#[derive(Default)]
struct Notes {
    fields: Option<&'static [&'static str]>,
    shown: String,
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

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
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
            return Err(Stop);
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
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct tuple tuple_struct map enum identifier ignored_any
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
            hint("restartPolicy", metadata).as_deref(),
            Some("restartPolicy belongs under spec")
        );
        let (container, _) = fields_at(&["spec", "containers"]).expect("an object");
        assert_eq!(
            hint("imagee", container).as_deref(),
            Some("did you mean image?")
        );
        assert_eq!(
            hint("volumes", container).as_deref(),
            Some("volumes belongs under spec")
        );
        assert_eq!(hint("qqqqqqq", container), None);
    }
}
