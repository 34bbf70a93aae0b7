//! The namespace of what does not say one: a command's `-n`, as kubectl has it.

use super::Issue;
use super::yaml::{Node, Scalar, Value};

/// Kinds that are in no namespace.
const OUTSIDE: [&str; 2] = ["Namespace", "PersistentVolume"];

/// Puts a document into a namespace. An issue where it says another one.
pub fn put(document: &mut Node, namespace: &str, issues: &mut Vec<Issue>) {
    if super::scalar(document, "kind").is_some_and(|kind| OUTSIDE.contains(&kind)) {
        return;
    }
    let Value::Object(entries) = &mut document.value else {
        return;
    };
    let metadata = entries.iter_mut().find(|(key, _)| key == "metadata");
    let Some((_, metadata)) = metadata else {
        return;
    };
    match super::scalar(metadata, "namespace") {
        Some(own) if own == namespace => {}
        Some(own) => issues.push(Issue {
            at: metadata
                .get("namespace")
                .map_or(metadata.at, |node| node.at),
            path: "metadata.namespace".to_owned(),
            message: format!("{own:?} is not the namespace that the command names ({namespace:?})"),
            hint: None,
        }),
        None => {
            let (at, path) = (metadata.at, "metadata.namespace".to_owned());
            let value = Value::Scalar(Scalar {
                text: namespace.to_owned(),
                plain: false,
            });
            let key_at = Some(at);
            if let Value::Object(entries) = &mut metadata.value {
                entries.retain(|(key, _)| key != "namespace");
                let node = Node {
                    at,
                    key_at,
                    path,
                    value,
                };
                entries.push(("namespace".to_owned(), node));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Reading, read_as};

    #[test]
    fn what_names_no_namespace_is_put_into_the_commands() {
        let reading = Reading {
            namespace: Some("team"),
            now: None,
        };
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n\
            apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: team}\n";
        let read = read_as("a.yaml", text, reading).unwrap();
        assert!(read.objects.iter().all(|object| object.namespace == "team"));
        let other = text.replace("namespace: team", "namespace: other");
        let told = read_as("a.yaml", &other, reading).unwrap_err().to_string();
        let line =
            "7:32: metadata.namespace: \"other\" is not the namespace that the command names";
        assert!(told.contains(line), "{told}");
    }
}
