//! Every field that a Pod has, and those of the kinds beside it, by the Kubernetes
//! types themselves, with what Beluga does about it: found out by writing it into a
//! manifest. The tables are `docs/fields.md`; `BLESS=1 cargo test` writes them anew. A
//! field of a newer Kubernetes is in neither the tables nor the proofs, and fails here.

use beluga_runtime::spec::{self, FieldKind, Issue, Manifest, ManifestError, fields, fields_of};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

mod proofs;

use proofs::{Proofs, proof};

/// What becomes of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Works,
    Refused(String),
    Ignored,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Fate {
    /// Which of the three it is.
    fn number(&self) -> usize {
        match self {
            Self::Works => 0,
            Self::Refused(_) => 1,
            Self::Ignored => 2,
        }
    }
}

/// What the template of a claim is nothing without.
const CLAIM: &str = "spec.volumes[].ephemeral.volumeClaimTemplate.spec";

/// Values that a field of this kind may have: one that is refused is enough.
fn values(path: &str, kind: FieldKind) -> Vec<Value> {
    match kind {
        _ if path == "kind" => vec![json!("Pod")],
        _ if path == "apiVersion" => vec![json!("v1")],
        _ if path.ends_with("Timestamp") || path.ends_with(".time") => {
            vec![json!("2020-01-01T00:00:00Z")]
        }
        _ if path == "spec.storageClassName" => vec![json!("beluga-disk")],
        _ if path.ends_with(".volumeMode") => vec![json!("Block")],
        _ if path.ends_with("localhostProfile") => vec![json!("profile.json")],
        _ if path.ends_with("appArmorProfile") => vec![json!({"type": "RuntimeDefault"})],
        _ if path.ends_with("appArmorProfile.type") => vec![json!("RuntimeDefault")],
        _ if path.ends_with("seLinuxChangePolicy") => vec![json!("Recursive")],
        FieldKind::Object => vec![json!({})],
        FieldKind::Map => vec![json!({"x": "1"})],
        FieldKind::Boolean => vec![json!(true), json!(false)],
        FieldKind::Integer => vec![json!(1)],
        FieldKind::Text => vec![json!("x")],
        FieldKind::Other => vec![json!("1"), json!({})],
    }
}

/// Writes a value at a path into an object; lists have one item.
fn put(object: &mut Value, path: &str, value: &Value) {
    let Some((step, rest)) = path.split_once('.').map_or(Some((path, "")), Some) else {
        return;
    };
    let (name, in_list) = match step.strip_suffix("[]") {
        Some(name) => (name, true),
        None => (step, false),
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let mut place = &mut object[name];
    if in_list {
        if !place.is_array() {
            *place = json!([{}]);
        }
        place = &mut place[0];
    }
    if rest.is_empty() {
        let keeps = value == &json!({}) && place.is_object();
        if !keeps {
            *place = value.clone();
        }
    } else {
        put(place, rest, value);
    }
}

/// Values that are refused of fields that work.
fn refused_values(path: &str) -> &'static [&'static str] {
    let ends = |end: &str| path.ends_with(end);
    match path {
        _ if ends(".httpGet.host") || ends("Probe.tcpSocket.host") => &["name.example.org"],
        _ if ends(".hostPath.type") => &["Socket", "CharDevice", "BlockDevice"],
        _ if ends(".emptyDir.medium") => &["HugePages", "HugePages-2Mi"],
        _ if ends(".restartPolicyRules[].action") => &["RestartAllContainers"],
        _ if ends("Template.spec.accessModes[]") => &["ReadWriteMany", "ReadOnlyMany"],
        _ if ends("Template.spec.storageClassName") => &["beluga-directory"],
        _ => &[],
    }
}

/// What is said of such a value. Panics where nothing is.
fn refusal(kind: &str, path: &str, value: &str) -> String {
    let mut document = least(kind);
    put(&mut document, path, &json!(value));
    let error = spec::read("pod.yaml", &document.to_string()).expect_err(path);
    let mut issues = error.issues.iter();
    let issue = issues.find(|issue| numbered(&issue.path) == path);
    let issue = issue.unwrap_or_else(|| panic!("{path}={value} is not refused: {error}"));
    format!("{path}: {}", issue.message)
}

/// A row for each of those of a field.
fn rows_of_values(kind: &str, path: &str) -> String {
    let name = full(kind, path);
    let values = refused_values(&name).iter();
    let rows = values.map(|value| {
        let why = refusal(kind, path, value);
        format!("| `{name}={value}` | refused | {why} |\n")
    });
    rows.collect()
}

/// A field as the tables have it: `spec.hostname` of a Pod, `Job.spec.suspend`.
fn full(kind: &str, path: &str) -> String {
    match kind {
        POD => path.to_owned(),
        kind => format!("{kind}.{path}"),
    }
}

/// `spec.containers[0]` as the types have it: `spec.containers[]`.
fn numbered(told: &str) -> String {
    told.replace("[0]", "[]")
}

const POD: &str = "Pod";

/// What stands beside pods and has a table as well.
const KINDS: [&str; 9] = [
    "ConfigMap",
    "DaemonSet",
    "Deployment",
    "Job",
    "PersistentVolumeClaim",
    "ReplicaSet",
    "ReplicationController",
    "Secret",
    "StatefulSet",
];

/// A document of this kind with no more in it than it must have.
fn least(kind: &str) -> Value {
    let of_template = |api: &str, policy: &str| {
        json!({
            "apiVersion": api,
            "spec": {"template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {"restartPolicy": policy, "containers": [{"name": "a", "image": "b"}]},
            }},
        })
    };
    let mut document = match kind {
        POD => return pod(),
        "ReplicationController" => of_template("v1", "Always"),
        "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet" => {
            let mut document = of_template("apps/v1", "Always");
            document["spec"]["selector"] = json!({"matchLabels": {"app": "a"}});
            document
        }
        "Job" => {
            let mut document = of_template("batch/v1", "Never");
            document["spec"]["completionMode"] = json!("Indexed");
            document["spec"]["completions"] = json!(1);
            document
        }
        "PersistentVolumeClaim" => json!({
            "apiVersion": "v1",
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Mi"}}},
        }),
        _ => json!({"apiVersion": "v1"}),
    };
    document["kind"] = json!(kind);
    document["metadata"] = json!({"name": "a"});
    document
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "a", "image": "b"}]},
    })
}

/// Whether what is told about `told` is about the field at `path` as well.
fn is_about(told: &str, path: &str) -> bool {
    path.strip_prefix(told)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// An ephemeral container is a container of its own kind: of none of its fields
/// a new pod may have any.
fn of_ephemeral() -> Fate {
    let mut pod = pod();
    pod["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "b"}]);
    let documents = spec::parse("pod.yaml", &pod.to_string()).expect("a record may have it");
    let issue = documents[0].not_on_create.first().expect("it is refused");
    let hint = issue.hint.as_deref().unwrap_or_default();
    Fate::Refused(format!("{}: {} ({hint})", issue.path, issue.message))
}

fn fate(path: &str, kind: FieldKind) -> Fate {
    if path.starts_with("spec.ephemeralContainers") {
        return of_ephemeral();
    }
    for value in values(path, kind) {
        let mut pod = pod();
        if path.contains(".volumeClaimTemplate.") {
            put(&mut pod, "spec.volumes[].name", &json!("v"));
            put(
                &mut pod,
                CLAIM,
                &json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Mi"}}}),
            );
        }
        put(&mut pod, path, &value);
        if let Some((profile, "localhostProfile")) = path.rsplit_once('.') {
            // It stands only with its type.
            put(&mut pod, &format!("{profile}.type"), &json!("Localhost"));
        }
        if let Some(fate) = told(path, spec::read("pod.yaml", &pod.to_string())) {
            return fate;
        }
    }
    Fate::Works
}

/// The same of a field of another kind.
fn fate_in(document: &str, path: &str, kind: FieldKind) -> Fate {
    let fates = values(path, kind).into_iter().filter_map(|value| {
        let mut document = least(document);
        put(&mut document, path, &value);
        told(path, spec::read("pod.yaml", &document.to_string()))
    });
    fates.into_iter().next().unwrap_or(Fate::Works)
}

/// What is said of a field where it is refused by its name or ignored.
fn told(path: &str, read: Result<Manifest, ManifestError>) -> Option<Fate> {
    let is_refusal = |issue: &&Issue| {
        let by_name = [
            "not supported yet",
            "refused",
            "cannot be set on create",
            "must not be set",
            "is made by the system",
            "leave it out",
        ];
        let is_by_name = by_name.iter().any(|words| issue.message.contains(words));
        is_by_name && is_about(&numbered(&issue.path), path)
    };
    let read = match read {
        Err(error) => {
            let issue = error.issues.iter().find(is_refusal)?;
            let at = numbered(&issue.path);
            return Some(Fate::Refused(format!("{at}: {}", issue.message)));
        }
        Ok(read) => read,
    };
    let documents = read.documents();
    let of_pods = documents.iter().flat_map(|document| &document.warnings);
    let words = read.warnings.iter().chain(of_pods);
    let words = words.flat_map(|one| one.split([' ', ',']));
    let mut words = words.map(|word| numbered(word.trim_end_matches(':')));
    let is_told = words.any(|word| word.contains('.') && is_about(&word, path));
    is_told.then_some(Fate::Ignored)
}

const HEAD: &str = "# Every field of a Pod\n\nMade by `runtime/tests/fields` from the Kubernetes types (v1.35): each field\nis written into a manifest, and what comes of it stands here. `works` names the\ntest that proves it, `refused` the message. A value that is refused of a field that\nworks has a row of its own, `field=value`. `status` is the system's own: what a\nmanifest says of it is passed over, as kubectl does. What is written for\n`containers[]` holds for `initContainers[]`. Fields of ConfigMaps, Secrets, claims,\nand of workloads are [below](#fields-of-other-kinds).\n[podman.md](podman.md) puts these tables beside that of `podman kube play`.\n\nWhat `hostUsers: false` asks for is always so: a pod's users are those of its\nmachine, and never the host's. SELinux and AppArmor are what they are on a node\nthat has neither: labels and the default profile have no effect, and a profile\nby name is refused.\n\n| field | | |\n|---|---|---|\n";

const BESIDE: &str = "\n## Fields of other kinds\n\nWithout `metadata`, `status`, and what is in `spec.template`, which is a Pod's, and in\n`volumeClaimTemplates[]`, which is a claim's. Of a CronJob `jobTemplate` is a Job:\n`run --now` runs it, and says which of the CronJob's own fields have no effect;\n`schedule` never has one.\n\n| field | | |\n|---|---|---|\n";

/// The tables while they are made.
struct Tables {
    text: String,
    counts: [usize; 3],
    proofs: Proofs,
    unproved: Vec<String>,
}

impl Tables {
    /// A row for each field of a kind, in their order.
    fn add(&mut self, kind: &str, fates: &[(String, Fate)]) {
        let mut told = BTreeMap::new();
        for (path, fate) in fates {
            let number = fate.number();
            self.counts[number] += 1;
            // What is refused or ignored as a whole is told once.
            let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
            let is_told = *fate != Fate::Works && told.get(parent) == Some(&number);
            if *fate != Fate::Works {
                told.insert(path.as_str(), number);
            }
            let name = full(kind, path);
            let (word, why) = match fate {
                _ if is_told => continue,
                Fate::Works => ("works", proof(&name).unwrap_or_default().to_owned()),
                Fate::Refused(message) => ("refused", message.clone()),
                Fate::Ignored => ("ignored", "told in a warning".to_owned()),
            };
            if *fate == Fate::Works && !self.proofs.has(&why, path) {
                self.unproved.push(name.clone());
            }
            let below = fates
                .iter()
                .filter(|(one, of)| one != path && is_about(path, one) && of.number() == number)
                .count();
            let more = match (fate, below) {
                (Fate::Works, _) | (_, 0) => String::new(),
                (_, count) => format!(" and the {count} below"),
            };
            let _ = writeln!(self.text, "| `{name}`{more} | {word} | {why} |");
            self.text += &rows_of_values(kind, path);
        }
    }

    /// How many of each there are, since the last time.
    fn sum(&mut self) {
        let [works, refused, ignored] = std::mem::take(&mut self.counts);
        let _ = writeln!(
            self.text,
            "\n{works} work, {refused} are refused, {ignored} are ignored with a warning."
        );
    }
}

/// The fields of a Pod that are told of, and what becomes of each.
fn of_pods() -> Vec<(String, Fate)> {
    let all = fields();
    assert!(all.len() > 1000, "{} fields", all.len());
    let is_told_of =
        |path: &str| !path.starts_with("status") && !path.starts_with("spec.initContainers");
    let all = all.into_iter().filter(|(path, _)| is_told_of(path));
    all.map(|(path, kind)| {
        let fate = fate(&path, kind);
        (path, fate)
    })
    .collect()
}

/// The same of another kind.
fn of_others(document: &str) -> Vec<(String, Fate)> {
    let all = fields_of(document);
    assert!(!all.is_empty(), "{document} has no fields");
    let is_own = |path: &str| {
        let first = path.split('.').next().unwrap_or_default();
        !["apiVersion", "kind", "metadata", "status", "spec"].contains(&first)
            || path.starts_with("spec.")
    };
    let all = all.into_iter().filter(|(path, _)| is_own(path));
    all.map(|(path, kind)| {
        let fate = fate_in(document, &path, kind);
        (path, fate)
    })
    .collect()
}

#[test]
fn every_field_works_is_refused_or_is_ignored_with_a_warning() {
    let mut tables = Tables {
        text: HEAD.to_owned(),
        counts: [0; 3],
        proofs: Proofs::read(),
        unproved: Vec::new(),
    };
    tables.add(POD, &of_pods());
    tables.sum();
    tables.text += BESIDE;
    for kind in KINDS {
        tables.add(kind, &of_others(kind));
    }
    tables.sum();
    let (unproved, table) = (tables.unproved, tables.text);
    assert!(
        unproved.is_empty(),
        "no test proves:\n{}",
        unproved.join("\n")
    );
    let golden = root().join("docs/fields.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, &table).expect("docs/fields.md can be written");
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        table == expected,
        "docs/fields.md is of other types or another Beluga: BLESS=1 writes it anew"
    );
}
