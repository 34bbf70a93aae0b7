//! The documents of a text, and where they are in it: on their own, or as an item of a `List`.

use super::yaml::{Node, Scalar, Value};
use super::{
    ConfigObject, Document, Issue, ObjectKind, PodName, Position, Workload, WorkloadKind, issue,
    scalar,
};
use std::collections::BTreeSet;

/// Documents and where their names stand.
#[derive(Default)]
pub(super) struct Found {
    pub(super) pods: Vec<(Place, Document)>,
    pub(super) objects: Vec<(Place, ConfigObject)>,
    pub(super) workloads: Vec<(Place, Workload)>,
    /// What the user should know about objects; a pod has its own.
    pub(super) warnings: Vec<String>,
    /// What means something to a cluster only, and what is said of it where there is
    /// nothing else.
    pub(super) left_out: Vec<(String, Issue)>,
}

/// Where a document's name stands, and the item of a list that it is.
pub(super) type Place = (Position, String);

impl Found {
    /// Its places are those of an item of a list from here on.
    pub(super) fn stand_in(&mut self, inside: &str) {
        if inside.is_empty() {
            return;
        }
        let places = self.pods.iter_mut().map(|(place, _)| place);
        let places = places.chain(self.objects.iter_mut().map(|(place, _)| place));
        for place in places.chain(self.workloads.iter_mut().map(|(place, _)| place)) {
            inside.clone_into(&mut place.1);
        }
        for (_, issue) in &mut self.left_out {
            issue.path = below(inside, &issue.path);
        }
        let pods = self.pods.iter_mut().map(|(_, pod)| pod);
        let templates = self.workloads.iter_mut().map(|(_, one)| &mut one.template);
        for document in pods.chain(templates) {
            document.stand_in(inside);
        }
    }

    /// Whether nothing is in it that is kept or run.
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.objects.is_empty() && self.workloads.is_empty()
    }

    /// A warning for each document that means something to a cluster only.
    pub(super) fn left_out(&self, source_name: &str) -> Vec<String> {
        let one = |(what, issue): &(String, Issue)| {
            let Position { line, column } = issue.at;
            format!(
                "{source_name}:{line}:{column}: {what} is left out: it means something to a \
                 cluster only"
            )
        };
        self.left_out.iter().map(one).collect()
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.pods.append(&mut other.pods);
        self.objects.append(&mut other.objects);
        self.workloads.append(&mut other.workloads);
        self.warnings.append(&mut other.warnings);
        self.left_out.append(&mut other.left_out);
    }
}

/// A path in a document whose own path in the text is `inside`.
pub(super) fn below(inside: &str, path: &str) -> String {
    match (inside, path) {
        ("", path) => path.to_owned(),
        (inside, "") => inside.to_owned(),
        (inside, path) => format!("{inside}.{path}"),
    }
}

/// The documents, with those of each list in its place, and where they are in it: nowhere, or
/// `items[0]`.
pub(super) fn flatten(trees: Vec<Node>, issues: &mut Vec<Issue>) -> Vec<(String, Node)> {
    let mut out = Vec::new();
    for tree in trees {
        unfold(String::new(), tree, &mut out, issues);
    }
    out
}

/// One document, or those of a list; lists in lists end where the text's nesting does.
fn unfold(inside: String, tree: Node, out: &mut Vec<(String, Node)>, issues: &mut Vec<Issue>) {
    let Some(of) = items_of(&tree) else {
        out.push((inside, tree));
        return;
    };
    let Some(Value::List(items)) = tree.get("items").map(|items| &items.value) else {
        let mut wrong = issue(&tree, "items", "required: a list of objects");
        wrong.path = below(&inside, &wrong.path);
        issues.push(wrong);
        return;
    };
    for (at, item) in items.iter().enumerate() {
        let mut item = item.clone();
        if let Some((kind, version)) = of {
            fill_in(&mut item, "kind", kind);
            fill_in(&mut item, "apiVersion", version);
        }
        item.assign_paths(String::new());
        unfold(below(&inside, &format!("items[{at}]")), item, out, issues);
    }
}

/// Whether it is a list, and of which kind and version alone: an API server does not
/// write them into the items of a `PodList`.
fn items_of(tree: &Node) -> Option<Option<(&'static str, &'static str)>> {
    let (kind, version) = (scalar(tree, "kind")?, scalar(tree, "apiVersion")?);
    let one = kind.strip_suffix("List")?;
    let object = ObjectKind::of(one).map(|kind| (kind.kind(), kind.api_version()));
    let workload = WorkloadKind::of(one).map(|kind| (kind.kind(), kind.api_version()));
    let of = match one {
        "" => return (version == "v1").then_some(None),
        "Pod" => ("Pod", "v1"),
        "CronJob" => ("CronJob", WorkloadKind::Job.api_version()),
        _ => object.or(workload)?,
    };
    (version == of.1).then_some(Some(of))
}

/// Gives an object a field that it does not have.
fn fill_in(item: &mut Node, key: &str, text: &str) {
    if item.get(key).is_some() {
        return;
    }
    let node = Node {
        at: item.at,
        key_at: None,
        path: String::new(),
        value: Value::Scalar(Scalar {
            text: text.to_owned(),
            plain: false,
        }),
    };
    if let Value::Object(entries) = &mut item.value {
        entries.push((key.to_owned(), node));
    }
}

/// Two documents of one kind, namespace and name in one manifest.
pub(super) fn refuse_equal_names(found: &Found, issues: &mut Vec<Issue>) {
    let pods = found
        .pods
        .iter()
        .filter_map(|(at, pod)| match &pod.spec.name {
            PodName::Exact(name) => Some((at, "pod", pod.spec.namespace.as_str(), name.as_str())),
            PodName::Generate(_) => None,
        });
    let objects = found.objects.iter().map(|(at, one)| {
        (
            at,
            one.kind.word(),
            one.namespace.as_str(),
            one.name.as_str(),
        )
    });
    let workloads = found.workloads.iter().map(|(at, one)| {
        (
            at,
            one.kind.word(),
            one.namespace.as_str(),
            one.name.as_str(),
        )
    });
    let mut seen = BTreeSet::new();
    for ((at, inside), kind, namespace, name) in pods.chain(objects).chain(workloads) {
        if !name.is_empty() && !seen.insert((kind, namespace, name)) {
            issues.push(Issue {
                at: *at,
                path: below(inside, "metadata.name"),
                message: format!("{name:?} is the name of another {kind} of this manifest"),
                hint: None,
            });
        }
    }
}
