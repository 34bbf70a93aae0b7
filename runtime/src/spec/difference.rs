//! In what a pod differs from what it is to be, and what of that can change
//! while it runs.

use super::types::{Container, PodSpec};
use serde_json::Value;
use std::collections::BTreeSet;

/// What can change while a pod runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Containers with another image, by name.
    pub images: BTreeSet<String>,
    /// Containers with other resources, by name.
    pub resized: BTreeSet<String>,
    /// Those among them that are restarted for it.
    pub restarted: BTreeSet<String>,
    /// Why resources cannot change like that.
    pub refusal: Option<String>,
    /// Ephemeral containers that are not there yet, by name.
    pub added: BTreeSet<String>,
    /// Labels or annotations are others.
    pub metadata: bool,
    /// Something else is other as well, which cannot change.
    pub is_more: bool,
}

/// Compares a pod with what it is to be.
#[must_use]
pub fn difference(present: &PodSpec, next: &PodSpec) -> Difference {
    let mut found = Difference {
        metadata: (&present.labels, &present.annotations) != (&next.labels, &next.annotations),
        ..Difference::default()
    };
    found.refusal = super::resize::refusal(present, next);
    let mut expected = present.clone();
    expected.name.clone_from(&next.name);
    expected.labels.clone_from(&next.labels);
    expected.annotations.clone_from(&next.annotations);
    // Told as the refusal, where it is not what the containers' follows from.
    expected.resources.clone_from(&next.resources);
    let lists = [
        (&mut expected.init_containers, &next.init_containers),
        (&mut expected.containers, &next.containers),
    ];
    for (olds, news) in lists {
        for (old, new) in olds.iter_mut().zip(news) {
            take_over(old, new, &mut found);
        }
    }
    let (old, new) = (
        &mut expected.ephemeral_containers,
        &next.ephemeral_containers,
    );
    // Those that are there stay as they are.
    if let Some(more) = new.get(old.len()..) {
        found.added.extend(more.iter().map(|one| one.name.clone()));
        old.extend_from_slice(more);
    }
    found.is_more = expected != *next;
    found
}

fn take_over(old: &mut Container, new: &Container, found: &mut Difference) {
    if old.name != new.name {
        return;
    }
    if old.image != new.image {
        old.image.clone_from(&new.image);
        // Follows from the image's tag where the manifest does not say it.
        old.pull_policy = new.pull_policy;
        found.images.insert(new.name.clone());
    }
    if old.resources != new.resources {
        if old.resize_restart.needed(&old.resources, &new.resources) {
            found.restarted.insert(new.name.clone());
        }
        old.resources.clone_from(&new.resources);
        found.resized.insert(new.name.clone());
    }
}

/// Field paths below `spec` in which two manifests differ, but for those that
/// can change; at most so many.
#[must_use]
pub fn fixed_paths(present: &Value, next: &Value, most: usize) -> Vec<String> {
    let mut found = Vec::new();
    walk("spec", &present["spec"], &next["spec"], &mut found);
    found.retain(|path| !can_change(path));
    found.truncate(most);
    found
}

fn can_change(path: &str) -> bool {
    let of_container = path
        .split_once("ontainers[")
        .and_then(|(_, rest)| rest.split_once("]."));
    of_container.is_some_and(|(_, field)| {
        matches!(field, "image" | "imagePullPolicy") || field.starts_with("resources")
    })
}

fn walk(path: &str, present: &Value, next: &Value, found: &mut Vec<String>) {
    match (present, next) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                walk(&format!("{path}.{key}"), &present[key], &next[key], found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                walk(&format!("{path}[{at}]"), old, new, found);
            }
        }
        (old, new) if old != new => found.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(text: &str) -> PodSpec {
        let head = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec: ";
        let read = crate::spec::parse("pod.yaml", &format!("{head}{text}\n"));
        read.expect("a good manifest").remove(0).spec
    }

    #[test]
    fn images_and_labels_can_change_and_nothing_else() {
        let old = spec("{containers: [{name: a, image: x:1}, {name: b, image: y}]}");
        assert_eq!(difference(&old, &old), Difference::default());
        let new = spec("{containers: [{name: a, image: 'x:2'}, {name: b, image: y}]}");
        let found = difference(&old, &new);
        assert_eq!(found.images, BTreeSet::from(["a".to_owned()]));
        assert!(!found.is_more && !found.metadata);
        let mut labelled = old.clone();
        labelled.labels.clear();
        let found = difference(&old, &labelled);
        assert!(found.metadata && !found.is_more && found.images.is_empty());
        let new = spec("{containers: [{name: a, image: x:1, tty: true}, {name: b, image: y}]}");
        assert!(difference(&old, &new).is_more);
        let new = spec("{containers: [{name: b, image: y}, {name: a, image: x:1}]}");
        assert!(difference(&old, &new).is_more);
    }

    #[test]
    fn what_cannot_change_is_named() {
        let old = json!({"spec": {"containers": [{"name": "a", "image": "x"}], "hostname": "h"}});
        let new = json!({"spec": {"containers": [{"name": "a", "image": "y", "tty": true}]}});
        assert_eq!(
            fixed_paths(&old, &new, 9),
            ["spec.containers[0].tty", "spec.hostname"]
        );
        assert_eq!(fixed_paths(&old, &new, 1).len(), 1);
    }
}
