//! The namespace of what does not say one, a command's `-n`, as kubectl has it; and the
//! name of what says only how it begins.

use super::yaml::{Node, Scalar, Value};
use super::{Issue, PodName};

/// Kinds that are in no namespace.
const OUTSIDE: [&str; 2] = ["Namespace", "PersistentVolume"];

/// Names a document that has a `generateName` alone; pods are named when they start.
pub fn name(document: &mut Node, random: [u8; 5]) {
    if matches!(super::scalar(document, "kind"), Some("Pod" | "CronJob")) {
        return;
    }
    let Some(metadata) = metadata(document) else {
        return;
    };
    let is_named = super::scalar(metadata, "name").is_some_and(|name| !name.is_empty());
    let Value::Object(entries) = &mut metadata.value else {
        return;
    };
    let prefix = entries.iter_mut().find(|(key, _)| key == "generateName");
    if let (false, Some((key, node))) = (is_named, prefix)
        && let Value::Scalar(scalar) = &mut node.value
        && !scalar.is_null()
    {
        scalar.text = PodName::Generate(scalar.text.clone()).resolve(random);
        "name".clone_into(key);
        node.path = "metadata.name".to_owned();
        let own = node.at;
        entries.retain(|(key, node)| key != "name" || node.at == own);
    }
}

fn metadata(document: &mut Node) -> Option<&mut Node> {
    let Value::Object(entries) = &mut document.value else {
        return None;
    };
    let found = entries.iter_mut().find(|(key, _)| key == "metadata");
    found.map(|(_, metadata)| metadata)
}

/// Puts a document into a namespace. An issue where it says another one.
pub fn put(document: &mut Node, namespace: &str, issues: &mut Vec<Issue>) {
    if super::scalar(document, "kind").is_some_and(|kind| OUTSIDE.contains(&kind)) {
        return;
    }
    let Some(metadata) = metadata(document) else {
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
    fn what_says_how_its_name_begins_is_named() {
        let reading = Reading {
            made: Some([0; 5]),
            ..Reading::default()
        };
        let one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}\n";
        let text = format!("{one}---\n{one}---\n{}", one.replace("a-", "b-, name: c"));
        let read = read_as("a.yaml", &text, reading).unwrap();
        let names: Vec<&str> = read.objects.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a-bbbbb", "a-cbbbb", "c"]);
        let told = read_as("a.yaml", &text, Reading::default()).unwrap_err();
        assert_eq!(told.issues.len(), 2, "{told}");
    }

    #[test]
    fn what_names_no_namespace_is_put_into_the_commands() {
        let reading = Reading {
            namespace: Some("team"),
            ..Reading::default()
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
