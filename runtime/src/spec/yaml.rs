//! YAML (and JSON, which is YAML) to a tree in which every node knows its
//! place in the text and its field path.
//!
//! The text is hostile: its length, the depth of its tree and the size that
//! aliases may blow it up to are bounded.

use super::habits;
use super::issue::{Issue, Position};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use std::collections::BTreeMap;

/// Longest manifest in bytes. An API server takes 1.5 MiB for one object.
pub const MAX_TEXT: usize = 4 << 20;

/// Deepest nesting. The deepest field of a Pod lies about 15 levels down.
const MAX_DEPTH: usize = 64;

/// What a document may weigh after its aliases are expanded, in bytes or so; and what
/// anchors and aliases of a text may copy in all: many documents are no way around it.
const MAX_WEIGHT: usize = 32 << 20;

/// Characters of a key that a path shows.
const MAX_SHOWN_KEY: usize = 80;

/// Longest key that is a name of something.
const MAX_NAME: usize = 253;

/// How long a path may get before it is not continued.
const MAX_SHOWN_PATH: usize = 256;

/// What a node weighs beside its text.
const NODE_WEIGHT: usize = 128;

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where the value begins.
    pub at: Position,
    /// Where its key is, for the value of a mapping.
    pub key_at: Option<Position>,
    /// Field path from the top of the document.
    pub path: String,
    /// What it is.
    pub value: Value,
}

/// A value of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Anything that is written as one word or text.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// An object: each key once, in the order of the text.
    Object(Vec<(String, Node)>),
}

/// Text, and whether it may be read as something else than text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// The text, quotes and escapes undone.
    pub text: String,
    /// Without quotes: `5` is a number, `true` a boolean, `~` is nothing.
    pub plain: bool,
}

impl Scalar {
    /// Whether this is YAML's way to say nothing.
    pub fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Node {
    /// Where an error about this node points: at the text of a scalar, at the
    /// key of anything longer.
    pub fn report_at(&self) -> Position {
        match self.value {
            Value::Scalar(ref scalar) if !scalar.is_null() => self.at,
            _ => self.key_at.unwrap_or(self.at),
        }
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Object(entries) => entries
                .iter()
                .find_map(|(name, node)| (name == key).then_some(node)),
            _ => None,
        }
    }

    /// The node of that path or, without one, its nearest ancestor.
    pub fn locate(&self, path: &str) -> &Node {
        let reaches = |node: &&Node| {
            path.strip_prefix(node.path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let mut here = self;
        loop {
            let next = match &here.value {
                Value::Scalar(_) => None,
                Value::List(items) => items.iter().find(reaches),
                Value::Object(entries) => entries.iter().map(|(_, node)| node).find(reaches),
            };
            match next {
                Some(node) => here = node,
                None => return here,
            }
        }
    }

    /// Writes the paths of the whole tree, this node's being `path`.
    pub fn assign_paths(&mut self, path: String) {
        match &mut self.value {
            Value::Scalar(_) => {}
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    item.assign_paths(match path.len() {
                        0..=MAX_SHOWN_PATH => format!("{path}[{index}]"),
                        _ => path.clone(),
                    });
                }
            }
            Value::Object(entries) => {
                for (key, node) in entries {
                    node.assign_paths(join(&path, key));
                }
            }
        }
        self.path = path;
    }
}

/// What is shown of a key: it may be as long as the manifest.
fn clipped(key: &str) -> String {
    key.chars().take(MAX_SHOWN_KEY).collect()
}

/// The path of the field `key` of the object at `path`. Every node of a tree has one,
/// so that none may be as long as the manifest: it ends where it is long enough.
pub fn join(path: &str, key: &str) -> String {
    if path.len() > MAX_SHOWN_PATH {
        return path.to_owned();
    }
    let key = key.get(..MAX_NAME).unwrap_or(key);
    let simple = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    match (path.is_empty(), simple) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{}]", clipped(key)),
    }
}

/// The documents of a text that are not empty; or the first thing that makes
/// it no YAML. Doubled keys are told in `issues`, the first one counts.
pub fn documents(text: &str, issues: &mut Vec<Issue>) -> Result<Vec<Node>, Issue> {
    if text.len() > MAX_TEXT {
        return Err(syntax(
            Position { line: 1, column: 1 },
            format!(
                "the manifest is {} bytes long, more than the {MAX_TEXT} that are read",
                text.len()
            ),
        ));
    }
    let mut told = Vec::new();
    let mut first = match read(text, &mut told) {
        Err(first) => first,
        read => {
            issues.append(&mut told);
            return read;
        }
    };
    let (mut mended, mut stop) = (text.to_owned(), first.clone());
    let mut is_in_place = true;
    for _ in 0..habits::MAX_MENDS {
        let Some(next) = habits::mend(&mended, stop.at, &stop.message) else {
            break;
        };
        is_in_place &= next.len() == mended.len();
        mended = next;
        told.clear();
        match read(&mended, &mut told) {
            Err(issue) => {
                stop = issue;
                // Nothing has moved: the place is that of the text as it was given.
                if is_in_place {
                    first.clone_from(&stop);
                }
            }
            read => {
                issues.append(&mut told);
                return read;
            }
        }
    }
    Err(first)
}

/// The same of a text that is read as it is.
fn read(text: &str, issues: &mut Vec<Issue>) -> Result<Vec<Node>, Issue> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        weight: 0,
        copied: 0,
        trail: Vec::new(),
        issues,
    };
    let mut found = Vec::new();
    loop {
        let (event, _) = builder.next()?;
        match event {
            Event::StreamEnd => return Ok(found),
            Event::DocumentStart(_) => {
                builder.anchors.clear();
                builder.weight = 0;
                let (event, span) = builder.next()?;
                let mut node = builder.node(event, span, 0)?;
                node.assign_paths(String::new());
                if !matches!(&node.value, Value::Scalar(scalar) if scalar.is_null()) {
                    found.push(node);
                }
            }
            _ => {}
        }
    }
}

fn syntax(at: Position, message: String) -> Issue {
    Issue {
        at,
        path: String::new(),
        message,
        hint: None,
    }
}

fn position(span: Span) -> Position {
    Position {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

struct Builder<'text, 'issues> {
    parser: Parser<'text, StrInput<'text>>,
    anchors: BTreeMap<usize, Node>,
    /// Of the document.
    weight: usize,
    /// Of what was written once and stands in several places, in the whole text.
    copied: usize,
    /// How the present value is reached, from the top of the document.
    trail: Vec<Step>,
    issues: &'issues mut Vec<Issue>,
}

/// A step on the way to a value.
enum Step {
    Item(usize),
    Key(String),
}

impl<'text> Builder<'text, '_> {
    fn next(&mut self) -> Result<(Event<'text>, Span), Issue> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let at = Position {
                    line: error.marker().line(),
                    column: error.marker().col() + 1,
                };
                Err(syntax(at, format!("not valid YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'text>, span: Span, depth: usize) -> Result<Node, Issue> {
        let at = position(span);
        if depth > MAX_DEPTH {
            return Err(syntax(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let (value, anchor) = match event {
            Event::Alias(id) => return self.alias(id, at),
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = scalar(text.into_owned(), style, tag.as_deref(), at)?;
                self.weigh(NODE_WEIGHT + scalar.text.len(), at)?;
                (Value::Scalar(scalar), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.weigh(NODE_WEIGHT, at)?;
                refuse_tag(tag.as_deref(), "seq", at)?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.weigh(NODE_WEIGHT, at)?;
                refuse_tag(tag.as_deref(), "map", at)?;
                (self.object(depth)?, anchor)
            }
            _ => return Err(syntax(at, "not valid YAML: a value is missing".into())),
        };
        let node = Node {
            at,
            key_at: None,
            path: String::new(),
            value,
        };
        if anchor > 0 {
            self.copy(weight(&node), at)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, at: Position) -> Result<Node, Issue> {
        let Some(target) = self.anchors.get(&id) else {
            // A value that contains itself has no end.
            return Err(syntax(at, "an alias stands inside its own anchor".into()));
        };
        let mut node = target.clone();
        self.copy(weight(&node), at)?;
        node.at = at;
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Issue> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => {
                    self.trail.push(Step::Item(items.len()));
                    items.push(self.node(event, span, depth + 1)?);
                    self.trail.pop();
                }
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Issue> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut merged: Vec<(String, Node)> = Vec::new();
        // Quadratic look-ups would let a long object hold the parser up.
        let mut seen: BTreeMap<String, Position> = BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            let at = position(span);
            let (key, plain) = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => (text.into_owned(), style == ScalarStyle::Plain),
                _ => return Err(syntax(at, "a key must be a text".into())),
            };
            self.weigh(key.len(), at)?;
            let (event, span) = self.next()?;
            self.trail.push(Step::Key(clipped(&key)));
            let mut node = self.node(event, span, depth + 1)?;
            self.trail.pop();
            node.key_at = Some(at);
            if key == "<<" && plain {
                merge(node, &mut merged)?;
            } else if let Some(first) = seen.get(&key) {
                self.issues.push(Issue {
                    at,
                    path: self.path(&key),
                    message: format!("stands here a second time; first on line {}", first.line),
                    hint: None,
                });
            } else {
                seen.insert(key.clone(), at);
                entries.push((key, node));
            }
        }
        for (key, node) in merged {
            if !seen.contains_key(&key) {
                seen.insert(key.clone(), node.at);
                entries.push((key, node));
            }
        }
        Ok(Value::Object(entries))
    }

    /// The path of the field `key` of the object that is read.
    fn path(&self, key: &str) -> String {
        let steps = self.trail.iter();
        let above = steps.fold(String::new(), |path, step| match step {
            Step::Item(at) => format!("{path}[{at}]"),
            Step::Key(key) => join(&path, key),
        });
        join(&above, &clipped(key))
    }

    fn copy(&mut self, more: usize, at: Position) -> Result<(), Issue> {
        self.copied += more;
        if self.copied > MAX_WEIGHT {
            let message = "the manifest is too large once its aliases are expanded";
            return Err(syntax(at, message.into()));
        }
        self.weigh(more, at)
    }

    fn weigh(&mut self, more: usize, at: Position) -> Result<(), Issue> {
        self.weight += more;
        if self.weight > MAX_WEIGHT {
            return Err(syntax(
                at,
                "the document is too large once its aliases are expanded".into(),
            ));
        }
        Ok(())
    }
}

/// The merge key of YAML 1.1, which kubectl honours.
fn merge(node: Node, into: &mut Vec<(String, Node)>) -> Result<(), Issue> {
    match node.value {
        Value::Object(entries) => into.extend(entries),
        Value::List(items) => {
            for item in items {
                match item.value {
                    Value::Object(entries) => into.extend(entries),
                    _ => return Err(syntax(item.at, "`<<` takes objects only".into())),
                }
            }
        }
        Value::Scalar(_) => return Err(syntax(node.at, "`<<` takes objects only".into())),
    }
    Ok(())
}

fn weight(node: &Node) -> usize {
    NODE_WEIGHT
        + match &node.value {
            Value::Scalar(scalar) => scalar.text.len(),
            Value::List(items) => items.iter().map(weight).sum(),
            Value::Object(entries) => entries
                .iter()
                .map(|(key, node)| key.len() + weight(node))
                .sum(),
        }
}

fn scalar(
    text: String,
    style: ScalarStyle,
    tag: Option<&Tag>,
    at: Position,
) -> Result<Scalar, Issue> {
    let plain = match tag {
        None => style == ScalarStyle::Plain,
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" => false,
            "int" | "float" | "bool" | "null" => true,
            _ => return Err(unknown_tag(tag, at)),
        },
        Some(tag) if tag.handle == "!" && tag.suffix.is_empty() => false,
        Some(tag) => return Err(unknown_tag(tag, at)),
    };
    Ok(Scalar { text, plain })
}

fn refuse_tag(tag: Option<&Tag>, core: &str, at: Position) -> Result<(), Issue> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == core) => {
            Err(unknown_tag(tag, at))
        }
        _ => Ok(()),
    }
}

fn unknown_tag(tag: &Tag, at: Position) -> Issue {
    let name: String = tag.suffix.chars().take(80).collect();
    syntax(at, format!("the YAML tag {name:?} means nothing here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_is_as_long_as_the_keys_that_lead_there() {
        let key = "k".repeat(1000);
        let text = format!(
            "{}[a, b]{}",
            format!("{{{key}: ").repeat(50),
            "}".repeat(50)
        );
        let tree = documents(&text, &mut Vec::new()).unwrap().remove(0);
        let mut here = &tree;
        while let Value::Object(entries) = &here.value {
            here = &entries[0].1;
            assert!(
                here.path.len() <= MAX_SHOWN_PATH + 1 + MAX_NAME,
                "{}",
                here.path.len()
            );
        }
        assert!(matches!(&here.value, Value::List(items) if items[1].path == here.path));
    }
}
