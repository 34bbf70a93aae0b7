//! Every field that a Pod has, by the Kubernetes types themselves, with what
//! Beluga does about it: found out by writing it into a manifest. The table is
//! `docs/fields.md`; `BLESS=1 cargo test` writes it anew. A field of a newer
//! Kubernetes is in neither the table nor the proofs, and fails here.

use beluga_runtime::spec::{self, FieldKind, fields};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What works is proved by a test: the longest prefix counts.
const PROOFS: &str = include_str!("fields.txt");

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
        _ if ends(".httpGet.scheme") => &["HTTPS"],
        _ if ends(".httpGet.host") || ends("Probe.tcpSocket.host") => &["name.example.org"],
        _ if ends(".hostPath.type") => &["Socket", "CharDevice", "BlockDevice"],
        _ if ends("Template.spec.accessModes[]") => &["ReadWriteMany", "ReadOnlyMany"],
        _ if ends("Template.spec.storageClassName") => &["beluga-directory"],
        _ if ends(".emptyDir.medium") => &["HugePages", "HugePages-2Mi"],
        _ if ends(".restartPolicyRules[].action") => &["RestartAllContainers"],
        _ => &[],
    }
}

/// What is said of such a value. Panics where nothing is.
fn refusal(path: &str, value: &str) -> String {
    let mut pod = pod();
    put(&mut pod, path, &json!(value));
    let error = spec::parse("pod.yaml", &pod.to_string()).expect_err(path);
    let mut issues = error.issues.iter();
    let numbered = |told: &str| told.replace("[0]", "[]");
    let issue = issues.find(|issue| numbered(&issue.path) == path);
    let issue = issue.unwrap_or_else(|| panic!("{path}={value} is not refused: {error}"));
    format!("{path}: {}", issue.message)
}

/// A row for each of those of a field.
fn rows_of_values(path: &str) -> String {
    let values = refused_values(path).iter();
    let rows = values.map(|value| {
        let why = refusal(path, value);
        format!("| `{path}={value}` | refused | {why} |\n")
    });
    rows.collect()
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
        let numbered = |told: &str| told.replace("[0]", "[]");
        match spec::parse("pod.yaml", &pod.to_string()) {
            Err(error) => {
                let refusal = error.issues.iter().find(|issue| {
                    let by_name = [
                        "not supported yet",
                        "refused",
                        "cannot be set on create",
                        "must not be set",
                    ];
                    let is_refusal = by_name.iter().any(|words| issue.message.contains(words));
                    is_refusal && is_about(&numbered(&issue.path), path)
                });
                if let Some(issue) = refusal {
                    let at = numbered(&issue.path);
                    return Fate::Refused(format!("{at}: {}", issue.message));
                }
            }
            Ok(documents) => {
                let document = &documents[0];
                let words = document
                    .warnings
                    .iter()
                    .flat_map(|one| one.split([' ', ',']))
                    .map(|word| word.trim_end_matches(':'));
                let mut told = words.map(numbered);
                if told.any(|word| word.contains('.') && is_about(&word, path)) {
                    return Fate::Ignored;
                }
            }
        }
    }
    Fate::Works
}

/// The test that proves a field.
fn proof(path: &str) -> Option<&'static str> {
    let rules = PROOFS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rules = rules.filter_map(|line| line.split_once(' '));
    // `spec` alone is no proof of what is in it.
    let found = rules
        .filter(|(prefix, _)| *prefix == path || (prefix.contains('.') && is_about(prefix, path)));
    found
        .max_by_key(|(prefix, _)| prefix.len())
        .map(|(_, test)| test.trim())
}

/// A file in which a proof or its manifest may be.
struct Source {
    path: PathBuf,
    text: String,
}

/// All of them below some folders, with this ending.
fn sources(folders: &[&str], ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder of sources");
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        } else if path.to_string_lossy().ends_with(ending) {
            let text = std::fs::read_to_string(&path).expect("a source");
            found.push(Source { path, text });
        }
    }
    found
}

/// Whether a text has a word.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric();
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// What `beluga conformance` runs, and so the stories of that name.
const CHECKS: &str = "runtime/conformance";

/// Where proofs are looked for: their sources, and the manifests that those name.
struct Proofs {
    sources: Vec<Source>,
    manifests: Vec<Source>,
}

impl Proofs {
    fn read() -> Self {
        let code = [
            "runtime/tests",
            "runtime/src",
            "tests/stories",
            "tests/registry",
        ];
        let manifests = ["runtime/tests/golden", "tests/pods", CHECKS];
        let mut manifests = sources(&manifests, ".yaml");
        manifests.retain(|one| !one.path.to_string_lossy().ends_with(".plan.yaml"));
        Self {
            sources: sources(&code, ".rs"),
            manifests,
        }
    }

    /// Whether there is a test of that name, in whose file, or in a manifest that
    /// is named there, the field is to be found.
    fn has(&self, test: &str, path: &str) -> bool {
        let head = format!("fn {test}(");
        let leaf = path.rsplit('.').next().unwrap_or(path);
        let leaf = leaf.trim_end_matches("[]");
        let mut files = self.sources.iter().filter(|one| one.text.contains(&head));
        files.any(|file| {
            let is_named = |one: &&Source| {
                let is_check = one.path.starts_with(root().join(CHECKS));
                if is_check && test.ends_with("_conformance") {
                    return true;
                }
                let stem = one.path.file_stem().unwrap_or_default().to_string_lossy();
                file.text.contains(&format!("{stem}.yaml"))
                    || file.text.contains(&format!("\"{stem}\""))
            };
            let mut manifests = self.manifests.iter().filter(is_named);
            has_word(&file.text, leaf) || manifests.any(|one| has_word(&one.text, leaf))
        })
    }
}

const HEAD: &str = "# Every field of a Pod\n\nMade by `runtime/tests/fields.rs` from the Kubernetes types (v1.35): each field\nis written into a manifest, and what comes of it stands here. `works` names the\ntest that proves it, `refused` the message. A value that is refused of a field that\nworks has a row of its own, `field=value`. `status` is the system's own: what a\nmanifest says of it is passed over, as kubectl does. What is written for\n`containers[]` holds for `initContainers[]`.\n\nWhat `hostUsers: false` asks for is always so: a pod's users are those of its\nmachine, and never the host's. SELinux and AppArmor are what they are on a node\nthat has neither: labels and the default profile have no effect, and a profile\nby name is refused.\n\n| field | | |\n|---|---|---|\n";

#[test]
fn every_field_works_is_refused_or_is_ignored_with_a_warning() {
    let all = fields();
    assert!(all.len() > 1000, "{} fields", all.len());
    let mut table = String::from(HEAD);
    let (proofs, mut unproved) = (Proofs::read(), Vec::new());
    let (mut told, mut counts) = (BTreeMap::new(), [0usize; 3]);
    let is_told_of =
        |path: &str| !path.starts_with("status") && !path.starts_with("spec.initContainers");
    let of_pods = all.iter().filter(|(path, _)| is_told_of(path));
    let fates: Vec<(&String, Fate)> = of_pods
        .map(|(path, kind)| (path, fate(path, *kind)))
        .collect();
    for (path, fate) in &fates {
        let number = fate.number();
        counts[number] += 1;
        // What is refused or ignored as a whole is told once.
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let is_told = *fate != Fate::Works && told.get(parent) == Some(&number);
        if *fate != Fate::Works {
            told.insert(path.as_str(), number);
        }
        let (word, why) = match fate {
            _ if is_told => continue,
            Fate::Works => ("works", proof(path).unwrap_or_default().to_owned()),
            Fate::Refused(message) => ("refused", message.clone()),
            Fate::Ignored => ("ignored", "told in a warning".to_owned()),
        };
        let is_proved = *fate != Fate::Works || proofs.has(&why, path);
        if !is_proved {
            unproved.push(path.as_str());
        }
        let below = fates
            .iter()
            .filter(|(one, of)| one != path && is_about(path, one) && of.number() == number)
            .count();
        let more = match (fate, below) {
            (Fate::Works, _) | (_, 0) => String::new(),
            (_, count) => format!(" and the {count} below"),
        };
        let _ = writeln!(table, "| `{path}`{more} | {word} | {why} |");
        table += &rows_of_values(path);
    }
    let [works, refused, ignored] = counts;
    let _ = writeln!(
        table,
        "\n{works} work, {refused} are refused, {ignored} are ignored with a warning."
    );
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
