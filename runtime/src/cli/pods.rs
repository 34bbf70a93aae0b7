//! Which pods a command is about.

use super::resource::Kind;
use super::selector::Selector;
use super::{CliError, workloads};
use crate::engine::{self, Damaged, PodView};
use crate::settings::Settings;
use crate::spec::{WorkloadKind, closest};
use std::collections::BTreeMap;

/// The namespace of what names none.
pub const DEFAULT: &str = "default";

/// Which namespaces a command looks into.
#[derive(Debug, Clone, clap::Args)]
pub struct Scope {
    /// Namespace of the pods
    #[arg(short, long, default_value = DEFAULT)]
    pub namespace: String,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Only pods with these labels, like app=web,tier!=db
    #[arg(short = 'l', long)]
    pub selector: Option<Selector>,
}

impl Scope {
    /// Whether it has this pod in it.
    pub fn has(&self, pod: &PodView) -> bool {
        self.selects(&pod.namespace, &pod.spec.labels)
    }

    /// Whether it has something of this namespace with these labels in it.
    pub fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        let selector = self.selector.as_ref();
        (self.all_namespaces || self.namespace == namespace)
            && selector.is_none_or(|selector| selector.matches(labels))
    }
}

/// Words that mean "pods" where kubectl wants a resource type.
const TYPES: [&str; 3] = ["pods", "pod", "po"];

/// The names behind arguments like `pods`, `pod a b`, `pod/a` or `a`.
pub fn names(words: &[String]) -> Result<Vec<String>, CliError> {
    let words = match words.split_first() {
        Some((first, rest)) if TYPES.contains(&first.as_str()) => rest,
        _ => words,
    };
    words.iter().map(|word| name(word)).collect()
}

/// The name behind `pod/a` or `a`.
pub fn name(word: &str) -> Result<String, CliError> {
    match word.split_once('/') {
        None => Ok(word.to_owned()),
        Some((kind, name)) if TYPES.contains(&kind) => Ok(name.to_owned()),
        Some((kind, _)) => Err(CliError::no_type(kind, &["pods"])),
    }
}

/// All pods of a scope, sorted by namespace and name.
pub async fn all(settings: &Settings, scope: &Scope) -> Result<Vec<PodView>, CliError> {
    let mut pods = engine::list(settings).await?;
    pods.retain(|pod| scope.has(pod));
    Ok(pods)
}

/// The pod of that name whose record cannot be understood.
pub fn damaged(
    settings: &Settings,
    namespace: &str,
    name: &str,
) -> Result<Option<Damaged>, CliError> {
    let mut all = engine::damaged(settings)?.into_iter();
    Ok(all.find(|pod| pod.namespace == namespace && pod.name == name))
}

/// Why there is nothing of this kind and name to be shown.
pub fn absent(settings: &Settings, kind: Kind, namespace: &str, name: &str) -> CliError {
    match kind {
        Kind::Pod => match damaged(settings, namespace, name) {
            Ok(Some(pod)) => of_damaged(pod),
            Ok(None) => kind.absent(name),
            Err(error) => error,
        },
        _ => kind.absent(name),
    }
}

/// What such a pod is told with.
pub fn of_damaged(pod: Damaged) -> CliError {
    engine::EngineError::from(pod.error).into()
}

/// Tells of the pods of a scope that no list can show.
pub fn tell_damaged(settings: &Settings, scope: &Scope) -> Result<(), CliError> {
    for pod in engine::damaged(settings)? {
        if scope.all_namespaces || pod.namespace == scope.namespace || pod.name.is_empty() {
            let name = if pod.name.is_empty() {
                pod.uid.as_str()
            } else {
                &pod.name
            };
            let why = crate::error_chain(&pod.error);
            tell!("warning: pod {name} is not shown: {why}");
        }
    }
    Ok(())
}

/// The pod of that name, or the first one of a `deployment/NAME`.
pub async fn one(settings: &Settings, namespace: &str, word: &str) -> Result<PodView, CliError> {
    let mut pods = engine::list(settings).await?;
    if let Some((kind, name)) = word.split_once('/')
        && let Some(kind) = WorkloadKind::of_word(kind)
    {
        return workloads::first_pod(settings, namespace, (kind, name), pods);
    }
    let name = name(word)?;
    let here = |pod: &PodView| pod.namespace == namespace;
    if let Some(at) = pods.iter().position(|pod| here(pod) && pod.name == name) {
        return Ok(pods.swap_remove(at));
    }
    let names: Vec<&str> = pods
        .iter()
        .filter(|pod| here(pod))
        .map(|pod| &*pod.name)
        .collect();
    if let Some(pod) = damaged(settings, namespace, &name)? {
        return Err(of_damaged(pod));
    }
    Err(match closest(&name, &names) {
        Some((_, near)) => CliError::NearPod {
            near: near.to_owned(),
            name,
        },
        None => CliError::NotFound { what: "pod", name },
    })
}

/// An error that says which containers the pod has.
pub fn no_container(pod: &PodView, name: &str) -> CliError {
    let present = pod.spec.all_containers().map(|one| one.name.clone());
    CliError::NoContainer {
        name: name.to_owned(),
        pod: pod.name.clone(),
        present: present.collect(),
    }
}

/// What kubectl reads for the container that commands mean.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The container that a command means: the named one, the one that an annotation
/// of the pod names, or the first; a choice
/// among several is told on standard error, as kubectl does.
pub fn container<'p>(pod: &'p PodView, named: Option<&str>) -> Result<&'p str, CliError> {
    if let Some(named) = named {
        return pod
            .spec
            .all_containers()
            .find(|container| container.name == named)
            .map(|container| container.name.as_str())
            .ok_or_else(|| no_container(pod, named));
    }
    let annotation = pod.spec.annotations.get(DEFAULT_CONTAINER);
    if let Some(chosen) = annotation {
        let mut all = pod.spec.all_containers();
        if let Some(chosen) = all.find(|container| container.name == *chosen) {
            return Ok(&chosen.name);
        }
        tell!(
            "Default container name {chosen:?} not found in pod {}",
            pod.name
        );
    }
    let names: Vec<&str> = pod
        .spec
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    let first = names.first().ok_or_else(|| CliError::NotFound {
        what: "container",
        name: String::new(),
    })?;
    if names.len() > 1 {
        tell!("Defaulted container {first:?} out of: {}", names.join(", "));
    }
    Ok(first)
}
