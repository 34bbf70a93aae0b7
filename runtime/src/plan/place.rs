//! Which field of a pod an error of its plan is about.

use super::PlanError;
use crate::spec::{Container, EnvValue, ObjectKind, PodSpec, ValueSource};

impl PlanError {
    /// Paths of fields, the likeliest first: which of them are written only the
    /// manifest knows. None where the sentence has a path already, or there is no such
    /// field.
    #[must_use]
    pub fn fields(&self, spec: &PodSpec) -> Vec<String> {
        let volume = |name: &str| {
            let at = spec.volumes.iter().position(|one| one.name == name)?;
            Some(format!("spec.volumes[{at}]"))
        };
        let of = |name: &str, field: &str| {
            let (path, _) = container(spec, name)?;
            Some(format!("{path}.{field}"))
        };
        let found = match self {
            Self::NoSeccomp { container, .. } | Self::Seccomp { container, .. } => {
                let field = "securityContext.seccompProfile.localhostProfile";
                vec![of(container, field), Some(format!("spec.{field}"))]
            }
            Self::NoCommand { container, .. } => {
                vec![of(container, "command"), of(container, "image")]
            }
            Self::Image { container, .. } | Self::StopSignal { container, .. } => {
                vec![of(container, "image")]
            }
            Self::SubPath {
                container,
                expression,
                ..
            } => vec![sub_path(spec, container, expression)],
            Self::NotText {
                container,
                key,
                kind,
                name,
            } => vec![variable(spec, container, (key, *kind, name))],
            Self::VolumeSource { volume: name, .. } | Self::VolumeSize { volume: name, .. } => {
                vec![volume(name)]
            }
            Self::HostName { .. } => vec![Some("spec.setHostnameAsFQDN".to_owned())],
            Self::Claims { .. } | Self::VolumeDevices { .. } => {
                vec![Some("spec.volumes".to_owned())]
            }
            // These have their path in their sentence, or are about the pod as a whole.
            Self::HostPath { .. }
            | Self::Tenant(_)
            | Self::Sysctl { .. }
            | Self::Missing { .. }
            | Self::Layers { .. }
            | Self::Cpus { .. }
            | Self::Grow { .. }
            | Self::Memory { .. } => Vec::new(),
        };
        found.into_iter().flatten().collect()
    }
}

/// A container with its path.
fn container<'s>(spec: &'s PodSpec, name: &str) -> Option<(String, &'s Container)> {
    let lists = [
        ("initContainers", &spec.init_containers),
        ("containers", &spec.containers),
        ("ephemeralContainers", &spec.ephemeral_containers),
    ];
    lists.into_iter().find_map(|(list, containers)| {
        let at = containers.iter().position(|one| one.name == name)?;
        Some((format!("spec.{list}[{at}]"), containers.get(at)?))
    })
}

fn sub_path(spec: &PodSpec, name: &str, expression: &str) -> Option<String> {
    let (path, container) = container(spec, name)?;
    let mut mounts = container.mounts.iter();
    let at = mounts.position(|one| one.sub_path_expr.as_deref() == Some(expression))?;
    Some(format!("{path}.volumeMounts[{at}].subPathExpr"))
}

/// The variable, or the whole object of variables, that takes this key.
fn variable(
    spec: &PodSpec,
    name: &str,
    (key, kind, object): (&str, ObjectKind, &str),
) -> Option<String> {
    let (path, container) = container(spec, name)?;
    let is_it = |value: &EnvValue| match value {
        EnvValue::From(ValueSource::Key(one)) => {
            (one.key.as_str(), one.kind, one.name.as_str()) == (key, kind, object)
        }
        EnvValue::From(_) | EnvValue::Text(_) => false,
    };
    if let Some(at) = container.env.iter().position(|(_, value)| is_it(value)) {
        return Some(format!("{path}.env[{at}].valueFrom"));
    }
    let mut whole = container.env_from.iter();
    let at = whole.position(|from| (from.kind, from.name.as_str()) == (kind, object))?;
    Some(format!("{path}.envFrom[{at}]"))
}
