//! What commands are about: types of resources and names, as kubectl takes them.
//!
//! ```text
//! pods            all of a type        pod,cm a b      a and b of each type
//! pod a b         two of a type        pod/a deploy/b  of a type each
//! ```

use super::CliError;
use super::error::UsageError;
use crate::spec::{ObjectKind, WorkloadKind};

/// A type of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Pods.
    Pod,
    /// What pods are configured with, and claims.
    Object(ObjectKind),
    /// What is run as pods.
    Workload(WorkloadKind),
}

/// Types as people write them, for messages and for shells.
pub const TYPES: [&str; 12] = [
    "pods",
    "deployments",
    "replicasets",
    "replicationcontrollers",
    "statefulsets",
    "daemonsets",
    "jobs",
    "configmaps",
    "secrets",
    "persistentvolumeclaims",
    "networkpolicies",
    "events",
];

impl Kind {
    /// The type that a word means, in the singular, the plural or kubectl's
    /// short form.
    pub fn of_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Some(match word.as_str() {
            "pod" | "pods" | "po" => Self::Pod,
            "configmap" | "configmaps" | "cm" => Self::Object(ObjectKind::ConfigMap),
            "networkpolicy"
            | "networkpolicies"
            | "netpol"
            | "networkpolicy.networking.k8s.io"
            | "networkpolicies.networking.k8s.io" => Self::Object(ObjectKind::Policy),
            "secret" | "secrets" => Self::Object(ObjectKind::Secret),
            "persistentvolumeclaim" | "persistentvolumeclaims" | "pvc" => {
                Self::Object(ObjectKind::Claim)
            }
            word => Self::Workload(WorkloadKind::of_word(word)?),
        })
    }

    /// As kubectl prints one of several types: `pod`, `deployment.apps`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Object(kind) => kind.word(),
            Self::Workload(kind) => kind.word(),
        }
    }

    /// An error that says that there is none of this name.
    pub fn absent(self, name: &str) -> CliError {
        CliError::NotFound {
            what: self.word(),
            name: name.to_owned(),
        }
    }
}

/// Resources of one type that a command names: all of them without names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Their type.
    pub kind: Kind,
    /// Their names.
    pub names: Vec<String>,
}

/// What the words of a command line name; `None` when the first of them is
/// neither a type nor `TYPE/NAME`.
pub fn asked(words: &[String]) -> Result<Option<Vec<Asked>>, CliError> {
    let Some((first, names)) = words.split_first() else {
        return Ok(None);
    };
    if first.contains('/') {
        return by_slashes(words).map(Some);
    }
    let mut kinds = Vec::new();
    for word in first.split(',') {
        let found = match (word, Kind::of_word(word)) {
            ("all", _) => all(),
            (_, Some(kind)) => vec![kind],
            (_, None) if first.contains(',') => return Err(unknown(word)),
            (_, None) => return Ok(None),
        };
        for kind in found {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    let names = names.iter().map(|word| match word.split_once('/') {
        None => Ok(word.clone()),
        Some((kind, name)) if Kind::of_word(kind).is_some_and(|kind| kinds == [kind]) => {
            Ok(name.to_owned())
        }
        Some(_) => Err(UsageError::TwoTypes {
            word: word.clone(),
            kind: first.clone(),
        }),
    });
    let names = names.collect::<Result<Vec<String>, _>>()?;
    let asked = kinds.into_iter().map(|kind| Asked {
        kind,
        names: names.clone(),
    });
    Ok(Some(asked.collect()))
}

/// `TYPE/NAME TYPE/NAME …`, those of one type together.
fn by_slashes(words: &[String]) -> Result<Vec<Asked>, CliError> {
    let mut found: Vec<Asked> = Vec::new();
    for word in words {
        let Some((kind, name)) = word.split_once('/') else {
            return Err(UsageError::SlashesEverywhere { word: word.clone() }.into());
        };
        let kind = Kind::of_word(kind).ok_or_else(|| unknown(kind))?;
        match found.iter_mut().find(|one| one.kind == kind) {
            Some(one) => one.names.push(name.to_owned()),
            None => found.push(Asked {
                kind,
                names: vec![name.to_owned()],
            }),
        }
    }
    Ok(found)
}

/// What `all` means: pods and what is run as pods, as kubectl has it.
fn all() -> Vec<Kind> {
    let workloads = WorkloadKind::ALL.into_iter().map(Kind::Workload);
    std::iter::once(Kind::Pod).chain(workloads).collect()
}

/// The error of a type that there is not.
pub fn unknown(word: &str) -> CliError {
    CliError::no_type(word, &TYPES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Vec<(&'static str, Vec<String>)>> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let asked = asked(&words).unwrap()?;
        let pairs = asked.into_iter().map(|one| (one.kind.word(), one.names));
        Some(pairs.collect())
    }

    fn named(kind: &'static str, names: &[&str]) -> (&'static str, Vec<String>) {
        (kind, names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn types_and_names_are_read_as_kubectl_reads_them() {
        assert_eq!(read("pods").unwrap(), [named("pod", &[])]);
        assert_eq!(read("Pod a pod/b").unwrap(), [named("pod", &["a", "b"])]);
        assert_eq!(
            read("cm,deploy,cm a").unwrap(),
            [named("configmap", &["a"]), named("deployment.apps", &["a"])]
        );
        assert_eq!(
            read("pod/a job/x pod/b").unwrap(),
            [named("pod", &["a", "b"]), named("job.batch", &["x"])]
        );
        assert_eq!(read("all").unwrap().len(), 1 + WorkloadKind::ALL.len());
        assert_eq!(read("web other"), None);
    }

    #[test]
    fn what_is_no_type_is_said() {
        for (line, part, code) in [
            ("pods,services", "no resources of type \"services\"", 1),
            ("service/web", "no resources of type \"service\"", 1),
            ("pods,pdos", "\"pdos\" (did you mean pods?)", 1),
            (
                "Deploymnet/a",
                "\"Deploymnet\" (did you mean deployments?)",
                1,
            ),
            ("pods,foo", "\"foo\", only pods, deployments, ", 1),
            ("pod/a b", "all must be TYPE/NAME", 2),
            ("pods,cm pod/a", "without pods,cm", 2),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let error = asked(&words).unwrap_err();
            assert!(error.to_string().contains(part), "{line}: {error}");
            assert_eq!(error.exit_code(), code);
        }
    }
}
