//! The same of the fields that a workload has beside its pod.

use super::{Fate, Proofs, is_about, proof, put, values};
use beluga_runtime::spec::{self, FieldKind, WorkloadKind, workload_fields};
use serde_json::{Value, json};
use std::fmt::Write as _;

const HEAD: &str = "
# Every field of a workload

The fields of `spec`; a template has those of a Pod, with the rows above, and
`volumeClaimTemplates[]` those of a PersistentVolumeClaim. Of a CronJob
`jobTemplate` is a Job: `run --now` runs it, and says which of the CronJob's own
fields have no effect; `schedule` never has one.

| field | | |
|---|---|---|
";

/// What is said of a field that no workload may have.
const REFUSALS: [&str; 2] = ["not supported yet", "is made by the system"];

/// A workload that lacks nothing.
fn whole(kind: WorkloadKind) -> Value {
    let labels = json!({"x": "1"});
    let mut object = json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind(),
        "metadata": {"name": "a"},
        "spec": {"template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "a", "image": "b"}]},
        }},
    });
    let spec = &mut object["spec"];
    match kind {
        WorkloadKind::Job => {
            spec["template"]["spec"]["restartPolicy"] = json!("Never");
            spec["completionMode"] = json!("Indexed");
            spec["completions"] = json!(1);
        }
        WorkloadKind::ReplicationController => {}
        _ => spec["selector"] = json!({"matchLabels": labels}),
    }
    object
}

fn fate(kind: WorkloadKind, path: &str, field: FieldKind) -> Fate {
    let numbered = |told: &str| told.replace("[0]", "[]");
    for value in values(path, field) {
        let mut object = whole(kind);
        if !path.ends_with(".template") {
            put(&mut object, path, &value);
        }
        match spec::read("w.yaml", &object.to_string()) {
            Err(error) => {
                let refusal = error.issues.iter().find(|issue| {
                    let is_refusal = REFUSALS.iter().any(|words| issue.message.contains(words));
                    is_refusal && is_about(&numbered(&issue.path), path)
                });
                if let Some(issue) = refusal {
                    let at = numbered(&issue.path);
                    return Fate::Refused(format!("{at}: {}", issue.message));
                }
            }
            Ok(read) => {
                let warnings = &read.workloads[0].template.warnings;
                let mut words = warnings.iter().flat_map(|one| one.split([' ', ',']));
                if words.any(|word| numbered(word) == path) {
                    return Fate::Ignored;
                }
            }
        }
    }
    Fate::Works
}

/// The table; what no test proves goes to `unproved`.
pub fn table(proofs: &Proofs, unproved: &mut Vec<String>) -> String {
    let mut table = String::from(HEAD);
    for kind in WorkloadKind::ALL {
        let mut refused = String::from("-");
        for (path, field) in workload_fields(kind) {
            // Told by what it is in.
            if path == "spec" || is_about(&refused, &path) {
                continue;
            }
            let name = format!("{}.{path}", kind.kind());
            let (word, why) = match fate(kind, &path, field) {
                Fate::Works => {
                    let test = proof(&name).unwrap_or_default();
                    if !proofs.has(test, &path) {
                        unproved.push(name.clone());
                    }
                    ("works", test.to_owned())
                }
                Fate::Refused(message) => {
                    refused = path;
                    ("refused", message)
                }
                Fate::Ignored => ("ignored", "told in a warning".to_owned()),
            };
            let _ = writeln!(table, "| `{name}` | {word} | {why} |");
        }
    }
    table
}
