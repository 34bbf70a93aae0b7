//! Command line and environment of a container's process.

use super::downward::{Facts, text};
use super::types::ImageFacts;
use super::{PlanError, guest};
use crate::spec::{ConfigObject, Container, EnvValue, ValueSource};
use beluga_proto::variable::{self, FileVariable};
use std::collections::{BTreeMap, BTreeSet};

/// Where programs are looked for when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of a container.
pub struct Environment {
    /// `NAME=value`, each name once; but one more of each that a file may have,
    /// behind what it is otherwise.
    pub lines: Vec<String>,
    /// The container's own variables by name: the only ones that `$(VAR)`
    /// sees, as in Kubernetes.
    pub own: BTreeMap<String, String>,
}

/// The environment of the process.
pub fn environment(
    facts: &Facts<'_>,
    container: &Container,
    image: &ImageFacts,
) -> Result<Environment, PlanError> {
    let own = own(facts, container)?;
    let mut all: Vec<(String, String)> = vec![("PATH".into(), DEFAULT_PATH.into())];
    let mut set = |name: &str, value: String| {
        match all.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) if !variable::is_waiting(&value) => *old = value,
            _ => all.push((name.to_owned(), value)),
        };
    };
    set("HOSTNAME", guest::hostname(facts.spec, facts.identity));
    if container.tty {
        set("TERM", "xterm".into());
    }
    for pair in &image.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !name.is_empty() && !pair.contains('\0') {
            set(name, value.to_owned());
        }
    }
    // What `env` names comes in its order, what comes from whole objects before.
    let named = |name: &String| container.env.iter().any(|(known, _)| known == name);
    let listed = container.env.iter().map(|(name, _)| name);
    let mut seen = BTreeSet::new();
    for name in own.keys().filter(|name| !named(name)).chain(listed) {
        if seen.insert(name)
            && let Some(value) = own.get(name)
        {
            set(name, value.clone());
        }
    }
    let lines = all
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Ok(Environment { lines, own })
}

/// The variables that the manifest gives a container.
pub fn own(
    facts: &Facts<'_>,
    container: &Container,
) -> Result<BTreeMap<String, String>, PlanError> {
    let mut own: BTreeMap<String, String> = BTreeMap::new();
    for from in &container.env_from {
        let Some(object) = facts.objects.get(from.kind, &from.name) else {
            if from.optional {
                continue;
            }
            return Err(PlanError::Missing {
                container: container.name.clone(),
                what: format!("{} {:?}", from.kind, from.name),
            });
        };
        for (name, key, bytes) in variables(object, &from.prefix) {
            let value = text(&container.name, key, from.kind, &from.name, bytes)?;
            own.insert(name, value);
        }
    }
    let mut files = 0..;
    for (name, value) in &container.env {
        let value = match value {
            EnvValue::Text(text) => Some(expand(text, &own)),
            EnvValue::From(ValueSource::Field(field)) => Some(facts.field(field)),
            EnvValue::From(ValueSource::Resource(field)) => Some(facts.resource(field)),
            EnvValue::From(ValueSource::Key(key)) => facts.key(&container.name, key)?,
            EnvValue::From(ValueSource::File(_)) => files.next().map(variable::placeholder),
        };
        if let Some(value) = value {
            own.insert(name.clone(), value);
        }
    }
    Ok(own)
}

/// Those that files have, in the order of their placeholders.
pub fn file_variables(container: &Container) -> Vec<FileVariable> {
    let one = |(name, value): &(String, EnvValue)| match value {
        EnvValue::From(ValueSource::File(file)) => Some(FileVariable {
            name: name.clone(),
            volume: file.volume.clone(),
            path: file.path.clone(),
            key: file.key.clone(),
            optional: file.optional,
        }),
        EnvValue::From(_) | EnvValue::Text(_) => None,
    };
    container.env.iter().filter_map(one).collect()
}

/// What an object gives as variables: name, key, value.
fn variables<'o>(
    object: &'o ConfigObject,
    prefix: &'o str,
) -> impl Iterator<Item = (String, &'o str, &'o [u8])> {
    object.values().filter_map(move |(key, _)| {
        let bytes = object.variable(key)?;
        Some((format!("{prefix}{key}"), key, bytes))
    })
}

/// The command line: `command` replaces entrypoint and cmd, `args` replaces
/// cmd alone.
pub fn arguments(
    container: &Container,
    image: &ImageFacts,
    own: &BTreeMap<String, String>,
) -> Vec<String> {
    let expanded =
        |words: &[String]| -> Vec<String> { words.iter().map(|word| expand(word, own)).collect() };
    let mut out = if container.command.is_empty() {
        image.entrypoint.clone()
    } else {
        expanded(&container.command)
    };
    if !container.args.is_empty() {
        out.extend(expanded(&container.args));
    } else if container.command.is_empty() {
        out.extend(image.cmd.iter().cloned());
    }
    out
}

/// Replaces `$(NAME)` by its value; `$$` is one `$`, and what has no value
/// stays as it is written.
pub fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let name = from
            .strip_prefix("$(")
            .and_then(|inner| inner.split_once(')'));
        rest = if let Some(after) = from.strip_prefix("$$") {
            out.push('$');
            after
        } else if let Some((name, after)) = name {
            match values.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            after
        } else {
            out.push('$');
            &from[1..]
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_and_dollars_escaped() {
        let values = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(B)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expand(text, &values), expected, "{text}");
        }
    }
}
