//! The notebook of a check: what is wrong with one document, by field path.

use super::config::Reference;
use super::issue::{Issue, Position};
use super::object::ObjectKind;
use super::quantity::Quantity;
use super::schema::closest;
use super::yaml::{Node, Value, join};
use std::collections::{BTreeMap, BTreeSet};

/// Collects what a check of one document finds.
pub struct Check<'a> {
    document: &'a Node,
    masked: &'a BTreeSet<String>,
    /// Path of the object that is checked, when that is not the whole document.
    inside: String,
    issues: Vec<Issue>,
    ignored: Vec<String>,
    warnings: Vec<String>,
    references: Vec<Reference>,
}

impl<'a> Check<'a> {
    /// An empty notebook. What touches a path in `masked` has been told
    /// already as a value of a wrong type.
    pub fn new(document: &'a Node, masked: &'a BTreeSet<String>) -> Self {
        Self {
            document,
            masked,
            inside: String::new(),
            issues: Vec::new(),
            ignored: Vec::new(),
            warnings: Vec::new(),
            references: Vec::new(),
        }
    }

    /// From here on paths are those of the object at `path`.
    pub fn enter(&mut self, path: &str) {
        path.clone_into(&mut self.inside);
    }

    /// The same below where they are now; gives back what to enter again.
    pub fn enter_below(&mut self, path: &str) -> String {
        let below = self.full(path);
        std::mem::replace(&mut self.inside, below)
    }

    /// The path in the document.
    pub fn full(&self, path: &str) -> String {
        match (self.inside.as_str(), path) {
            ("", path) => path.to_owned(),
            (inside, "") => inside.to_owned(),
            (inside, path) => format!("{inside}.{path}"),
        }
    }

    /// Where the field at `path` stands, and its path in the document.
    pub fn position(&self, path: &str) -> (Position, String) {
        let path = self.full(path);
        (self.document.locate(&path).report_at(), path)
    }

    /// Whether the manifest has something at `path`, wrong or not.
    pub fn is_written(&self, path: &str) -> bool {
        let path = self.full(path);
        let found = self.document.locate(&path);
        found.path == path && !matches!(&found.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// Where each field of the object that is checked stands, by its path in the object.
    pub fn places(&self) -> BTreeMap<String, Position> {
        let mut out = BTreeMap::new();
        let object = self.document.locate(&self.inside);
        let strip = |path: &str| {
            let rest = path.strip_prefix(self.inside.as_str()).unwrap_or(path);
            rest.trim_start_matches('.').to_owned()
        };
        let mut next = vec![object];
        while let Some(node) = next.pop() {
            out.insert(strip(&node.path), node.report_at());
            match &node.value {
                Value::Scalar(_) => {}
                Value::List(items) => next.extend(items),
                Value::Object(entries) => next.extend(entries.iter().map(|(_, node)| node)),
            }
        }
        out
    }

    /// The same as text: `9:12: spec.containers[0].image`.
    pub fn place(&self, path: &str) -> String {
        let (Position { line, column }, path) = self.position(path);
        format!("{line}:{column}: {path}")
    }

    /// The issues, and the warnings with the one that lists ignored fields.
    pub fn finish(self) -> (Vec<Issue>, Vec<String>) {
        let mut warnings = self.warnings;
        if !self.ignored.is_empty() {
            warnings.insert(
                0,
                format!(
                    "without a cluster these fields have no effect: {}",
                    self.ignored.join(", ")
                ),
            );
        }
        (self.issues, warnings)
    }

    /// The objects that must be there.
    pub fn references(&mut self) -> Vec<Reference> {
        std::mem::take(&mut self.references)
    }

    /// Notes that the object under `path` must be there, and its key, for a
    /// variable.
    pub fn refer(&mut self, path: &str, (kind, name): (ObjectKind, &str), key: Option<&str>) {
        let field = if key.is_some() { "key" } else { "name" };
        let path = self.full(&join(path, field));
        self.references.push(Reference {
            kind,
            name: name.to_owned(),
            key: key.map(ToOwned::to_owned),
            is_file: false,
            at: self.document.locate(&path).report_at(),
            path,
        });
    }

    /// Notes that the object that is named at `path` must be there, or its key,
    /// for a file.
    pub fn refer_to(&mut self, path: &str, (kind, name): (ObjectKind, &str), key: Option<&str>) {
        let path = self.full(path);
        self.references.push(Reference {
            kind,
            name: name.to_owned(),
            key: key.map(ToOwned::to_owned),
            is_file: true,
            at: self.document.locate(&path).report_at(),
            path,
        });
    }

    /// Notes that the field at `path` is wrong.
    pub fn wrong(&mut self, path: &str, message: impl Into<String>) {
        self.note(path, message.into(), None);
    }

    /// Notes that the field at `path` is wrong, and what to do.
    pub fn wrong_with_hint(&mut self, path: &str, message: impl Into<String>, hint: String) {
        self.note(path, message.into(), Some(hint));
    }

    fn note(&mut self, path: &str, message: String, hint: Option<String>) {
        let path = self.full(path);
        let path = path.as_str();
        let related = |masked: &String| {
            let (long, short) = if masked.len() > path.len() {
                (masked.as_str(), path)
            } else {
                (path, masked.as_str())
            };
            long.strip_prefix(short)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if self.masked.iter().any(related) {
            return;
        }
        self.issues.push(Issue {
            at: self.document.locate(path).report_at(),
            path: path.to_owned(),
            message,
            hint,
        });
    }

    /// Something the user should know, with the field's path.
    pub fn warn(&mut self, path: &str, message: &str) {
        let path = self.full(path);
        self.warnings.push(format!("{path}: {message}"));
    }

    /// Refuses each field of `base` that is present.
    pub fn unsupported(&mut self, base: &str, fields: &[(&str, bool)]) {
        for (name, present) in fields {
            if *present {
                self.wrong(&join(base, name), "not supported yet");
            }
        }
    }

    /// Lists each field of `base` that is present in the one warning about
    /// fields that are a cluster's business.
    pub fn ignore(&mut self, base: &str, fields: &[(&str, bool)]) {
        let base = self.full(base);
        let present = fields.iter().filter(|(_, present)| *present);
        self.ignored
            .extend(present.map(|(name, _)| join(&base, name)));
    }

    /// Checks a required text for its shape.
    pub fn shape(
        &mut self,
        path: &str,
        text: &str,
        shape: impl Fn(&str) -> Result<(), &'static str>,
    ) {
        if text.is_empty() {
            self.wrong(path, "required");
        } else if let Err(why) = shape(text) {
            let shown: String = text.chars().take(80).collect();
            self.wrong(path, format!("{shown:?} {why}"));
        }
    }

    /// One of a set of words; the first one when there is none.
    pub fn choice<T: Copy>(&mut self, path: &str, word: Option<&str>, words: &[(&str, T)]) -> T {
        let Some(word) = word else { return words[0].1 };
        if let Some((_, value)) = words.iter().find(|(name, _)| *name == word) {
            return *value;
        }
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let shown: String = word.chars().take(60).collect();
        let message = format!("{shown:?} is not one of {}", names.join(", "));
        match closest(word, &names) {
            Some((_, meant)) => {
                self.wrong_with_hint(path, message, format!("did you mean {meant}?"));
            }
            None => self.wrong(path, message),
        }
        words[0].1
    }

    /// A quantity that is not negative.
    pub fn quantity(&mut self, path: &str, text: &str) -> Option<Quantity> {
        match Quantity::parse(text) {
            Ok(quantity) if quantity.is_negative() => {
                self.wrong(path, format!("{text:?} is negative"));
                None
            }
            Ok(quantity) => Some(quantity),
            Err(error) => {
                let message = error.to_string();
                // A million CPUs are meant by nobody.
                let meant = error.meant().map(|meant| match meant.strip_suffix("Mi") {
                    Some(milli) if path.ends_with(".cpu") => format!("{milli}m"),
                    _ => meant,
                });
                match meant {
                    Some(meant) => {
                        self.wrong_with_hint(path, message, format!("did you mean {meant}?"));
                    }
                    None => self.wrong(path, message),
                }
                None
            }
        }
    }

    /// A number that fits the range of the type wanted.
    pub fn number<T: TryFrom<i64>>(&mut self, path: &str, value: i64, range: &str) -> Option<T> {
        let number = T::try_from(value).ok();
        if number.is_none() {
            self.wrong(path, format!("{value} is not {range}"));
        }
        number
    }

    /// Notes the second and later ones of equal names.
    pub fn unique<'n>(&mut self, what: &str, names: impl IntoIterator<Item = (String, &'n str)>) {
        let mut seen = BTreeSet::new();
        for (path, name) in names {
            if !name.is_empty() && !seen.insert(name) {
                self.wrong(&path, format!("{name:?} is the name of another {what}"));
            }
        }
    }
}
