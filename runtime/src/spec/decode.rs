//! A tree of nodes to a Kubernetes type, by the type's own `Deserialize`.
//!
//! A serde decoder stops at its first error. Here the value that does not fit
//! is told, masked, and the decoding starts again, so that one run over a
//! manifest tells everything that is wrong with it. Keys that the type does
//! not have are told by the list of names that the type itself hands over.

use super::issue::{Issue, Position};
use super::plain::{Plain, integer};
use super::schema;
use super::yaml::{Node, Scalar, Value, join};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Most values of one document that are told as being of a wrong type.
const MAX_ROUNDS: usize = 50;

/// A decoded value, and what was wrong with it.
pub struct Decoded<T> {
    /// `None` when not even the outermost value fits.
    pub value: Option<T>,
    /// Unknown keys and values of a wrong type.
    pub issues: Vec<Issue>,
    /// Paths of the values that were left out because of their type.
    pub masked: BTreeSet<String>,
}

/// Decodes `node` as a `T`.
pub fn decode<T: de::DeserializeOwned>(node: &Node) -> Decoded<T> {
    decode_around(node, "")
}

/// The same for a `T` that has its pod at the path `pod`.
pub fn decode_around<T: de::DeserializeOwned>(node: &Node, pod: &'static str) -> Decoded<T> {
    let mut sink = Sink {
        pod,
        ..Sink::default()
    };
    let mut wrong = Vec::new();
    let mut value = None;
    for _ in 0..MAX_ROUNDS {
        sink.unknown.borrow_mut().clear();
        match T::deserialize(Reader { node, sink: &sink }) {
            Ok(decoded) => {
                value = Some(decoded);
                break;
            }
            Err(error) => {
                let at = error.at.unwrap_or_else(|| node.report_at());
                let again = error.path.is_empty() || !sink.masked.insert(error.path.clone());
                wrong.push(Issue {
                    at,
                    path: error.path,
                    message: error.message,
                    hint: error.hint,
                });
                if again {
                    break;
                }
            }
        }
    }
    wrong.extend(sink.unknown.into_inner());
    Decoded {
        value,
        issues: wrong,
        masked: sink.masked,
    }
}

#[derive(Default)]
struct Sink {
    /// Where the document has its pod.
    pod: &'static str,
    unknown: RefCell<Vec<Issue>>,
    masked: BTreeSet<String>,
}

/// A value that does not fit.
#[derive(Debug)]
struct Misfit {
    path: String,
    at: Option<Position>,
    message: String,
    hint: Option<String>,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<M: std::fmt::Display>(message: M) -> Self {
        Self {
            path: String::new(),
            at: None,
            message: message.to_string(),
            hint: None,
        }
    }
}

#[derive(Clone, Copy)]
struct Reader<'de, 'sink> {
    node: &'de Node,
    sink: &'sink Sink,
}

impl<'de> Reader<'de, '_> {
    fn misfit(&self, wanted: &str, hint: Option<String>) -> Misfit {
        Misfit {
            path: self.node.path.clone(),
            at: Some(self.node.report_at()),
            message: format!("expected {wanted}, got {}", describe(self.node)),
            hint,
        }
    }

    /// An error of a visitor, which knows no places.
    fn place(&self, mut error: Misfit) -> Misfit {
        if error.at.is_none() {
            error.at = Some(self.node.report_at());
            error.path.clone_from(&self.node.path);
        }
        error
    }

    fn scalar(&self, wanted: &str) -> Result<&'de Scalar, Misfit> {
        match &self.node.value {
            Value::Scalar(scalar) => Ok(scalar),
            _ => Err(self.misfit(wanted, None)),
        }
    }

    fn integer(&self) -> Result<i64, Misfit> {
        let scalar = self.scalar("an integer")?;
        match Plain::read(scalar) {
            Plain::Integer(number) => Ok(number),
            _ if !scalar.plain && integer(&scalar.text).is_some() => {
                Err(self.misfit("an integer", Some("remove the quotes".into())))
            }
            _ => Err(self.misfit("an integer", None)),
        }
    }
}

/// What a node is, for people.
fn describe(node: &Node) -> String {
    match &node.value {
        Value::List(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        Value::Scalar(scalar) if scalar.is_null() => "nothing".into(),
        Value::Scalar(scalar) => {
            let text: String = scalar.text.chars().take(60).collect();
            match Plain::read(scalar) {
                Plain::Bool(_) => format!("the boolean {text}"),
                Plain::Integer(_) | Plain::Float(_) => format!("the number {text}"),
                Plain::Text => format!("the text {text:?}"),
            }
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            match <$type>::try_from(self.integer()?) {
                Ok(number) => visitor.$visit(number).map_err(|error| self.place(error)),
                Err(_) => Err(self.misfit(
                    &format!("an integer from {} to {}", <$type>::MIN, <$type>::MAX),
                    None,
                )),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
            Value::Scalar(scalar) if scalar.is_null() => visitor.visit_unit(),
            Value::Scalar(scalar) => match Plain::read(scalar) {
                Plain::Bool(value) => visitor.visit_bool(value),
                Plain::Integer(value) => match i32::try_from(value) {
                    // What is an int or a text in Kubernetes is an i32.
                    Ok(small) => visitor.visit_i32(small),
                    Err(_) => visitor.visit_i64(value),
                },
                Plain::Float(value) => visitor.visit_f64(value),
                Plain::Text => visitor.visit_borrowed_str(&scalar.text),
            },
        }
        .map_err(|error| self.place(error))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let scalar = self.scalar("true or false")?;
        // kubectl reads YAML 1.1, where yes and on are true.
        let value = match scalar.text.to_ascii_lowercase().as_str() {
            _ if !scalar.plain => None,
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        };
        match value {
            Some(value) => visitor.visit_bool(value).map_err(|error| self.place(error)),
            None => Err(self.misfit("true or false", None)),
        }
    }

    integers! {
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match Plain::read(self.scalar("a number")?) {
            #[expect(clippy::cast_precision_loss, reason = "a float was asked for")]
            Plain::Integer(number) => visitor.visit_f64(number as f64),
            Plain::Float(number) => visitor.visit_f64(number),
            _ => return Err(self.misfit("a number", None)),
        }
        .map_err(|error| self.place(error))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let scalar = self.scalar("a text")?;
        if scalar.is_null() {
            return Err(self.misfit("a text", None));
        }
        match Plain::read(scalar) {
            Plain::Text => visitor
                .visit_borrowed_str(&scalar.text)
                .map_err(|error| self.place(error)),
            _ => Err(self.misfit(
                "a text",
                Some(format!("put it in quotes: {:?}", scalar.text)),
            )),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.is_null() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|error| self.place(error))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.node.value {
            // `cpu: 0.1` is a quantity as it is written, not a float.
            Value::Scalar(scalar) if name == "Quantity" && !scalar.is_null() => {
                visitor.visit_str(&scalar.text)
            }
            _ if name == "Quantity" => Err(self.misfit("a quantity", None)),
            _ => visitor.visit_newtype_struct(self),
        }
        .map_err(|error| self.place(error))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let Value::List(items) = &self.node.value else {
            let hint = match &self.node.value {
                Value::Scalar(scalar) if !scalar.is_null() => {
                    Some(format!("a list of one is written [{:?}]", scalar.text))
                }
                Value::Object(_) => Some("each item of a list begins with \"- \"".into()),
                _ => None,
            };
            return Err(self.misfit("a list", hint));
        };
        visitor
            .visit_seq(Items {
                items: items.iter(),
                sink: self.sink,
            })
            .map_err(|error| self.place(error))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.object(visitor, None)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.object(visitor, Some(fields))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct
        enum identifier
    }
}

impl<'de> Reader<'de, '_> {
    fn object<V: Visitor<'de>>(
        self,
        visitor: V,
        fields: Option<&'static [&'static str]>,
    ) -> Result<V::Value, Misfit> {
        let Value::Object(entries) = &self.node.value else {
            return Err(self.misfit("an object", None));
        };
        visitor
            .visit_map(Entries {
                parent: self.node,
                entries: entries.iter(),
                value: None,
                fields,
                sink: self.sink,
            })
            .map_err(|error| self.place(error))
    }
}

struct Items<'de, 'sink> {
    items: std::slice::Iter<'de, Node>,
    sink: &'sink Sink,
}

impl<'de> de::SeqAccess<'de> for Items<'de, '_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let sink = self.sink;
        let next = self.items.find(|node| !sink.masked.contains(&node.path));
        next.map(|node| seed.deserialize(Reader { node, sink }))
            .transpose()
    }
}

struct Entries<'de, 'sink> {
    parent: &'de Node,
    entries: std::slice::Iter<'de, (String, Node)>,
    value: Option<&'de Node>,
    fields: Option<&'static [&'static str]>,
    sink: &'sink Sink,
}

impl<'de> de::MapAccess<'de> for Entries<'de, '_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        for (key, node) in self.entries.by_ref() {
            if self.sink.masked.contains(&node.path) {
                continue;
            }
            match self.fields {
                Some(fields) if !fields.contains(&key.as_str()) => {
                    self.sink.unknown.borrow_mut().push(Issue {
                        at: node.key_at.unwrap_or(node.at),
                        path: join(&self.parent.path, key),
                        message: "unknown field".into(),
                        hint: schema::hint(key, fields, &self.parent.path, self.sink.pod),
                    });
                }
                _ => {
                    self.value = Some(node);
                    return seed.deserialize(key.as_str().into_deserializer()).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        match self.value.take() {
            Some(node) => seed.deserialize(Reader {
                node,
                sink: self.sink,
            }),
            None => Err(de::Error::custom("a value is read before its key")),
        }
    }
}
