//! Command line and environment of a container's process.

use super::guest;
use super::types::{Identity, ImageFacts};
use crate::spec::{Container, PodSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Where programs are looked for when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of the process, and the container's own variables by name
/// (the only ones that `$(VAR)` sees, as in Kubernetes).
pub fn environment(
    spec: &PodSpec,
    container: &Container,
    image: &ImageFacts,
    identity: &Identity,
) -> (Vec<String>, BTreeMap<String, String>) {
    let mut own: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &container.env {
        let value = expand(value, &own);
        own.insert(name.clone(), value);
    }
    let mut all: Vec<(String, String)> = vec![("PATH".into(), DEFAULT_PATH.into())];
    let mut set = |name: &str, value: String| {
        match all.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => all.push((name.to_owned(), value)),
        };
    };
    set("HOSTNAME", guest::hostname(spec, identity));
    if container.tty {
        set("TERM", "xterm".into());
    }
    for pair in &image.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !name.is_empty() && !pair.contains('\0') {
            set(name, value.to_owned());
        }
    }
    let mut seen = BTreeSet::new();
    for (name, _) in &container.env {
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
    (lines, own)
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
