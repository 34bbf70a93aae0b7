//! `--format` of `inspect`: fields of Go's templates, `json` and `index`, and nothing more of them.

use crate::cli::template;
use serde_json::Value;

/// How a value is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Template {
    /// All values as one JSON document.
    Json,
    /// As it was given, and what it comes down to.
    Pieces(String, Vec<Piece>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Field { path: Vec<String>, is_json: bool },
}

impl Template {
    /// Reads one. Errors with what it may be.
    pub fn read(text: &str) -> Result<Self, String> {
        if text == "json" {
            return Ok(Self::Json);
        }
        let action = |action: &str| {
            field(action).ok_or_else(|| {
                format!(
                    "{{{{{action}}}}} is none of {{{{.Field.Field}}}}, {{{{json .Field}}}} and \
                     {{{{index .Field KEY}}}}"
                )
            })
        };
        let none = || "it is json or a template like {{.Id}} or {{json .Config}}".to_owned();
        let pieces = template::split(text, Piece::Text, action)?.ok_or_else(none)?;
        Ok(Self::Pieces(text.to_owned(), pieces))
    }
}

/// A value as the pieces show it. Errors with a field that it does not have.
pub fn print(pieces: &[Piece], value: &Value) -> Result<String, String> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(piece) => text += piece,
            Piece::Field { path, is_json } => {
                let found = look(value, path)?;
                text += &if *is_json {
                    found.to_string()
                } else {
                    plain(&found)
                };
            }
        }
    }
    Ok(text)
}

fn field(action: &str) -> Option<Piece> {
    let words = shlex::split(action)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (path, keys, is_json): (&str, &[&str], bool) = match words[..] {
        [path] => (path, &[], false),
        ["json", path] => (path, &[], true),
        ["index", path, ..] => (path, &words[2..], false),
        _ => return None,
    };
    let names = path.strip_prefix('.')?.split('.');
    let names = names
        .filter(|name| !name.is_empty())
        .chain(keys.iter().copied());
    let path = names.map(str::to_owned).collect();
    Some(Piece::Field { path, is_json })
}

fn look(value: &Value, path: &[String]) -> Result<Value, String> {
    let mut found = value;
    for name in path {
        let next = match found {
            Value::Object(map) => {
                // As Go's decoder: whatever the case.
                let mut fields = map.iter();
                let alike = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
                map.get(name).or_else(|| alike.map(|(_, value)| value))
            }
            Value::Array(list) => name.parse().ok().and_then(|at: usize| list.get(at)),
            Value::Null => return Ok(Value::Null),
            _ => None,
        };
        match next {
            Some(next) => found = next,
            // What an image does not say is left out of its documents.
            None if found.is_object() && path.first() != Some(name) => return Ok(Value::Null),
            None => return Err(format!("there is no {name:?} in it")),
        }
    }
    Ok(found.clone())
}

/// As Go prints it: `[a b]`, `map[k:v]`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let all: Vec<String> = list.iter().map(plain).collect();
            format!("[{}]", all.join(" "))
        }
        Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", plain(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(text: &str) -> Result<String, String> {
        let value = json!({"Id": "sha256:1", "Size": 7, "RepoTags": ["a:1", "b:2"],
            "Config": {"Env": ["A=b"], "Labels": {"x.y": "z"}, "Cmd": null}});
        match Template::read(text)? {
            Template::Json => Ok("json".to_owned()),
            Template::Pieces(_, pieces) => print(&pieces, &value),
        }
    }

    #[test]
    fn fields_are_printed_as_docker_prints_them() {
        for (template, text) in [
            ("{{.Id}}", "sha256:1"),
            ("{{ .Size }} {{.RepoTags}}!", "7 [a:1 b:2]!"),
            ("{{json .Config.Env}}", "[\"A=b\"]"),
            ("{{.Config.Labels}}", "map[x.y:z]"),
            ("{{index .RepoTags 1}}", "b:2"),
            ("{{index .Config.Labels \"x.y\"}}", "z"),
            ("{{.Config.User}}", "<no value>"),
            ("json", "json"),
        ] {
            assert_eq!(shown(template).as_deref(), Ok(text), "{template}");
        }
        for wrong in [
            "{{.Nme}}",
            "{{range .RepoTags}}",
            "{{.Id",
            "Id",
            "{{index .RepoTags 9}}",
        ] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }
}
