//! The checks of `beluga conformance`: the behaviours 1 to 35 of a pod, as black
//! boxes, on the user's own host.
//!
//! A check is data, in `runtime/conformance/*.yaml`: pods, and steps, each a
//! command and what must be seen of it. The files are part of the program; the
//! gate runs the command and holds each behaviour's story to its result, so that
//! both have one source.
//!
//! ```text
//! *.yaml ─Group─► run: an instance of its own ─► step by step ─► Outcome of each behaviour
//! ```

mod instance;
mod run;
mod step;

pub use instance::ConformanceError;
pub use run::{Interrupted, Outcome, Verdict, all};

use serde::Deserialize;

/// Each group of checks has its own pods.
const FILES: [(&str, &str); 5] = [
    (
        "refused.yaml",
        include_str!("../../conformance/refused.yaml"),
    ),
    ("ahead.yaml", include_str!("../../conformance/ahead.yaml")),
    ("life.yaml", include_str!("../../conformance/life.yaml")),
    ("ends.yaml", include_str!("../../conformance/ends.yaml")),
    ("host.yaml", include_str!("../../conformance/host.yaml")),
];

/// Checks that have their pods in common.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The manifest of the pods, applied first.
    #[serde(default)]
    pub pods: String,
    /// Until the pods are as the checks want them.
    #[serde(default)]
    before: Vec<Step>,
    /// In the order in which they are run.
    pub checks: Vec<Check>,
}

/// One behaviour.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its number in `docs/behaviours.md`.
    pub behaviour: u32,
    /// One sentence.
    pub what: String,
    /// Behaviours of the same group that are checked before it.
    #[serde(default)]
    pub after: Vec<u32>,
    /// Programs of the host; without one of them the check is skipped.
    #[serde(default)]
    pub needs: Vec<String>,
    steps: Vec<Step>,
}

/// Something done, and what must be seen of it. `{{NAME}}` stands for what an
/// earlier step has saved; `{{port}}` for a port of the host that was free.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// A shell line on this host; `$MANIFEST` is a file with the group's pods.
    host: Option<String>,
    /// `POD/CONTAINER`, in which `run` is run.
    #[serde(rename = "in")]
    inside: Option<String>,
    /// A shell line.
    run: Option<String>,
    /// A pod of whose object `field` is looked at.
    of: Option<String>,
    /// A JSON pointer; what is not there is empty.
    field: Option<String>,
    /// `ADDRESS:PORT`, called over TCP; seen is what it answers.
    dial: Option<String>,
    /// How the command ends.
    #[serde(default)]
    exits: Exits,
    /// All that is seen, without white space at the end.
    is: Option<String>,
    /// What it must not be.
    isnt: Option<String>,
    /// What is part of it; standard error counts as well.
    #[serde(default)]
    has: Vec<String>,
    /// What is no part of it.
    #[serde(default)]
    lacks: Vec<String>,
    /// The name under which it is kept.
    save: Option<String>,
    /// It is done again and again until it is as it must be.
    #[serde(default)]
    eventually: bool,
}

/// How a command may end.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Exits {
    /// With this code.
    Code(i32),
    /// `any`: with any.
    Word(Any),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Any {
    Any,
}

impl Default for Exits {
    fn default() -> Self {
        Self::Code(0)
    }
}

/// The groups in which there is something to be done for these behaviours, each
/// with what that needs; all of them for none.
///
/// # Panics
/// Never: a test reads all files that are built in.
#[must_use]
pub fn groups(wanted: &[u32]) -> Vec<Group> {
    let files = FILES.iter().filter_map(|(name, text)| group(name, text));
    let chosen = files.map(|mut group| {
        if !wanted.is_empty() {
            let needed = needed(&group, wanted);
            group
                .checks
                .retain(|check| needed.contains(&check.behaviour));
        }
        group
    });
    chosen.filter(|group| !group.checks.is_empty()).collect()
}

/// The behaviours that there are checks of, in their order.
#[must_use]
pub fn behaviours() -> Vec<u32> {
    let groups = groups(&[]);
    let checks = groups.iter().flat_map(|group| &group.checks);
    let mut all: Vec<u32> = checks.map(|check| check.behaviour).collect();
    all.sort_unstable();
    all
}

fn group(name: &str, text: &str) -> Option<Group> {
    let value = crate::spec::value(name, text).ok()?;
    serde_json::from_value(value).ok()
}

/// The wanted ones of a group, and what must have been checked before them.
fn needed(group: &Group, wanted: &[u32]) -> Vec<u32> {
    let mut needed: Vec<u32> = wanted.to_vec();
    // What is needed stands above what needs it.
    for check in group.checks.iter().rev() {
        if needed.contains(&check.behaviour) {
            needed.extend(&check.after);
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn each_behaviour_has_one_check_and_each_file_is_built_in() {
        for (name, text) in FILES {
            let value = crate::spec::value(name, text).unwrap_or_else(|error| panic!("{error}"));
            serde_json::from_value::<Group>(value)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(behaviours().iter().copied().eq(1..=35));
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
        for entry in std::fs::read_dir(directory).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let built_in = FILES.iter().any(|(file, _)| **file == name);
            assert!(built_in || !name.ends_with(".yaml"), "{name}");
        }
    }

    #[test]
    fn what_a_check_needs_stands_before_it() {
        let numbers = |wanted: &[u32]| -> Vec<Vec<u32>> {
            let groups = groups(wanted);
            let checks = groups.iter().map(|group| &group.checks);
            checks
                .map(|checks| checks.iter().map(|check| check.behaviour).collect())
                .collect()
        };
        assert_eq!(numbers(&[31]), [vec![1, 3, 31]]);
        assert_eq!(numbers(&[22, 14]), [vec![14], vec![20, 21, 22]]);
        assert_eq!(numbers(&[]).len(), FILES.len());
    }

    #[test]
    fn a_step_does_one_thing_and_looks_at_it() {
        for group in groups(&[]) {
            let checks = group.checks.iter();
            let steps = checks.flat_map(|check| check.steps.iter().map(move |step| (check, step)));
            for (check, step) in steps {
                let ways = [&step.host, &step.inside, &step.of, &step.dial];
                let ways = ways.into_iter().flatten().count();
                assert_eq!(ways, 1, "{}: {step:?}", check.behaviour);
                assert_eq!(step.inside.is_some(), step.run.is_some());
                assert_eq!(step.of.is_some(), step.field.is_some());
            }
        }
    }
}
