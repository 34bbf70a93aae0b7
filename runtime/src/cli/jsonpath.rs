//! kubectl's templates over objects: `-o jsonpath=`, `-o custom-columns=`, `wait --for=jsonpath=`.
//!
//! Text stands for itself. Between braces stands a path, a quoted text,
//! `range PATH` or `end`. What is not there gives nothing, as kubectl has it.

mod parse;

use serde_json::Value;
use std::cmp::Ordering;

/// A template, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Path(Path),
    /// For each value of the path, which is the others' `@` then.
    Range(Path, Vec<Part>),
}

/// From where, and which way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    is_from_root: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    /// `*`
    Each,
    /// `..`: the value itself and everything in it.
    Deep,
    /// `[0]`, `[-1]`, `[0:2]`, `['a','b']`: one after the other.
    These(Vec<Pick>),
    /// `[?(@.type=="Ready")]`
    Where(Path, Option<(Comparison, Operand)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pick {
    Name(String),
    At(i64),
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operand {
    Value(Value),
    Path(Path),
}

impl Template {
    /// The text that it makes of an object.
    #[must_use]
    pub fn of(&self, object: &Value) -> String {
        let mut text = String::new();
        write(&self.0, object, object, &mut text);
        text
    }
}

fn write(parts: &[Part], root: &Value, here: &Value, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(own) => text.push_str(own),
            Part::Path(path) => {
                let values = path.values(root, here);
                let shown: Vec<String> = values.into_iter().map(shown).collect();
                text.push_str(&shown.join(" "));
            }
            Part::Range(path, parts) => {
                for value in path.values(root, here) {
                    write(parts, root, value, text);
                }
            }
        }
    }
}

/// A value as a template shows it: texts as they are, the others as JSON.
#[must_use]
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

impl Path {
    /// Everything of the object that it leads to.
    #[must_use]
    pub fn of<'v>(&self, object: &'v Value) -> Vec<&'v Value> {
        self.values(object, object)
    }

    fn values<'v>(&self, root: &'v Value, here: &'v Value) -> Vec<&'v Value> {
        let mut values = vec![if self.is_from_root { root } else { here }];
        for step in &self.steps {
            let next = values.into_iter().flat_map(|value| step.from(root, value));
            values = next.collect();
        }
        values
    }
}

impl Step {
    fn from<'v>(&self, root: &'v Value, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Each => children(value),
            Self::Deep => {
                let mut all = vec![value];
                let deeper = children(value).into_iter();
                all.extend(deeper.flat_map(|child| Self::Deep.from(root, child)));
                all
            }
            Self::These(picks) => picks.iter().flat_map(|pick| pick.from(value)).collect(),
            Self::Where(path, test) => {
                let mut found = children(value);
                found.retain(|child| holds(path, test.as_ref(), root, child));
                found
            }
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(all) => all.iter().collect(),
        Value::Object(all) => all.values().collect(),
        _ => Vec::new(),
    }
}

impl Pick {
    fn from<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        if let Self::Name(name) = self {
            return value.get(name).into_iter().collect();
        }
        let Some(all) = value.as_array() else {
            return Vec::new();
        };
        let length = i64::try_from(all.len()).unwrap_or(i64::MAX);
        // Counted from the end where it is negative.
        let place = |at: i64| usize::try_from(if at < 0 { at + length } else { at });
        match self {
            Self::Name(_) => Vec::new(),
            Self::At(at) => place(*at)
                .ok()
                .and_then(|at| all.get(at))
                .into_iter()
                .collect(),
            Self::Slice { from, to, step } => {
                let from = place(from.unwrap_or(0)).unwrap_or(0).min(all.len());
                let to = place(to.unwrap_or(length)).unwrap_or(0).min(all.len());
                let some = all.get(from..to).unwrap_or_default();
                some.iter().step_by(*step).collect()
            }
        }
    }
}

fn holds(path: &Path, test: Option<&(Comparison, Operand)>, root: &Value, here: &Value) -> bool {
    let Some(found) = path.values(root, here).first().copied() else {
        return false;
    };
    let Some((comparison, operand)) = test else {
        return true;
    };
    let other = match operand {
        Operand::Value(value) => Some(value),
        Operand::Path(path) => path.values(root, here).first().copied(),
    };
    let order = other.and_then(|other| compare(found, other));
    match comparison {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::Unequal => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::More => order == Some(Ordering::Greater),
        Comparison::MoreOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

/// The order of two values of one type; none of others.
fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64()?.partial_cmp(&other.as_f64()?),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list() -> Value {
        let pod = |name: &str, ip: &str, restarts: u32| {
            json!({
                "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
                "spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]},
                "status": {
                    "podIP": ip, "restarts": restarts,
                    "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "False"}],
                },
            })
        };
        json!({"kind": "List", "items": [pod("one", "10.0.0.1", 0), pod("two", "10.0.0.2", 3)]})
    }

    #[test]
    fn templates_give_what_kubectl_gives() {
        for (template, expected) in [
            ("{.items[*].metadata.name}", "one two"),
            ("{.items[0].spec.containers[*].image}", "x y"),
            ("{$.kind}: {.items[-1:].status.podIP}", "List: 10.0.0.2"),
            ("{.items[1].spec.containers[-1].name}", "b"),
            (
                "{range .items[*]}{.metadata.name}{\"\\t\"}{.status.podIP}{\"\\n\"}{end}",
                "one\t10.0.0.1\ntwo\t10.0.0.2\n",
            ),
            (
                "{range .items[*]}[{range @.spec.containers[*]}{.name},{end}]{end}",
                "[a,b,][a,b,]",
            ),
            (
                "{.items[*].status.conditions[?(@.type==\"Ready\")].status}",
                "True True",
            ),
            ("{.items[?(@.status.restarts>0)].metadata.name}", "two"),
            (
                "{.items[?(@.status.restarts <= 0)]['metadata']['name']}",
                "one",
            ),
            (
                "{.items[0].metadata['name','labels']}",
                "one {\"app.kubernetes.io/name\":\"one\"}",
            ),
            (
                "{.items[0].metadata.labels.app\\.kubernetes\\.io/name}",
                "one",
            ),
            ("{.items[0]..image}", "x y"),
            ("{.items[0:2:2].metadata.name}{'!'}", "one!"),
            ("{.items[9].metadata.name}{.nothing}", ""),
            ("{.items[?(@.nothing)].metadata.name}", ""),
            ("plain", "plain"),
            (
                "{.items[0].status.restarts}{.items[0].metadata.labels}",
                "0{\"app.kubernetes.io/name\":\"one\"}",
            ),
        ] {
            let template =
                Template::read(template).unwrap_or_else(|why| panic!("{template}: {why}"));
            assert_eq!(template.of(&list()), expected, "{template:?}");
        }
    }

    #[test]
    fn what_is_no_template_is_told() {
        for (template, why) in [
            ("{.items", "unclosed action"),
            ("{range .items[*]}", "unclosed range"),
            ("{end}", "not in range"),
            ("{.items[}", "unclosed action"),
            ("{.items[x]}", "invalid array index x"),
            ("{.items[0:1:0]}", "step must be > 0"),
            ("{\"a\"b}", "behind a quoted string"),
            ("{.items[?(@.a=1)]}", "unterminated filter"),
            ("{items name}", "unrecognized"),
        ] {
            let error = Template::read(template).expect_err(template);
            assert!(error.contains(why), "{template}: {error}");
        }
    }
}
