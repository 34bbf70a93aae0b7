//! The profile `tenant`: what pods are held to whose makers nobody trusts.
//!
//! A pod keeps the profile that it was started under: it is part of its plan,
//! and the guest's agent is told of it.

use super::claims;
use super::downward::Facts;
use super::types::Plan;
use crate::spec::{Container, PodSpec, SeccompChoice, VolumeSource};
use beluga_proto::capability::DEFAULT_CAPABILITIES;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the profile is called.
const NAME: &str = "tenant";
/// What grants commands, behind the name and a comma.
const EXEC: &str = "exec";

/// No hostPath, nothing beyond the level Baseline of Kubernetes, traffic only where a NetworkPolicy allows it,
/// and no way into the pod from outside but what is granted here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Commands may be run in its containers.
    pub exec: bool,
}

/// Why a pod cannot be a tenant's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: the profile tenant has no {what}")]
pub struct TenantError {
    /// Where it stands in the pod.
    pub path: String,
    /// Of what the profile has none.
    pub what: &'static str,
}

impl Tenant {
    /// From `tenant`, or `tenant,exec` with commands granted; `None` when it is
    /// neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().split_once(',') {
            None => (text.trim() == NAME).then_some(Self { exec: false }),
            Some((name, granted)) => {
                (name == NAME && granted == EXEC).then_some(Self { exec: true })
            }
        }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        match self.exec {
            true => write!(f, ",{EXEC}"),
            false => Ok(()),
        }
    }
}

/// Errors with the first thing of a new pod that its profile, if it has one, does
/// not have.
pub fn admit(facts: &Facts<'_>) -> Result<(), TenantError> {
    let tenant = facts.host.and_then(|host| host.tenant);
    check(tenant, facts.spec)?;
    let mut volumes = facts.spec.volumes.iter();
    let directory = volumes.position(|volume| claims::directory(facts, volume).is_some());
    match directory.filter(|_| tenant.is_some()) {
        Some(at) => Err(TenantError {
            path: format!("spec.volumes[{at}].persistentVolumeClaim"),
            what: "claims that are directories, which no size bounds",
        }),
        None => Ok(()),
    }
}

/// The same of what a manifest says, without its claims.
fn check(tenant: Option<Tenant>, spec: &PodSpec) -> Result<(), TenantError> {
    if tenant.is_none() {
        return Ok(());
    }
    if spec.sandbox.is_some() {
        return Err(TenantError {
            path: "BELUGA_PROFILE".to_owned(),
            what: "sandboxes: what a kubelet's pods are held to, the cluster says",
        });
    }
    let volumes = spec.volumes.iter().enumerate();
    for (at, volume) in volumes {
        if matches!(volume.source, VolumeSource::HostPath { .. }) {
            return Err(TenantError {
                path: format!("spec.volumes[{at}].hostPath"),
                what: "files of the host",
            });
        }
    }
    if let Some(first) = beyond_baseline(spec).into_iter().next() {
        return Err(first);
    }
    match !spec.cni_networks().is_empty() {
        true => Err(TenantError {
            path: "network".to_owned(),
            what: "networks of CNI, where it could not keep the pod's traffic back",
        }),
        false => Ok(()),
    }
}

/// What Kubernetes' Pod Security Standard *Baseline* does not let a container have
/// either, each with its place: privileged containers first.
#[must_use]
pub fn beyond_baseline(spec: &PodSpec) -> Vec<TenantError> {
    let lists = [
        ("initContainers", &spec.init_containers),
        ("containers", &spec.containers),
        ("ephemeralContainers", &spec.ephemeral_containers),
    ];
    let mut found = Vec::new();
    for (list, containers) in lists {
        for (at, one) in containers.iter().enumerate() {
            let path = format!("spec.{list}[{at}]");
            let beyond = beyond_in(one).into_iter();
            found.extend(beyond.map(|(field, what)| TenantError {
                path: format!("{path}.{field}"),
                what,
            }));
        }
    }
    if spec.guest_processes {
        found.push(TenantError {
            path: "spec.hostPID".to_owned(),
            what: "processes of the guest in its containers: its agent is one",
        });
    }
    found
}

fn beyond_in(one: &Container) -> Vec<(String, &'static str)> {
    let security = &one.security;
    let mut found = Vec::new();
    let mut refuse = |is_beyond: bool, field: String, what| {
        if is_beyond {
            found.push((field, what));
        }
    };
    let field = |name: &str| format!("securityContext.{name}");
    refuse(
        security.privileged,
        field("privileged"),
        "privileged containers",
    );
    let mut added = security.add_capabilities.iter();
    // Of what every container has, Baseline lets all be asked for but this.
    let may = |name: &&str| *name != "NET_RAW" && DEFAULT_CAPABILITIES.contains(name);
    refuse(
        !added.all(|name| may(&name.as_str())),
        field("capabilities.add"),
        "added capabilities beyond those of Kubernetes' level Baseline",
    );
    refuse(
        security.seccomp == Some(SeccompChoice::Unconfined),
        field("seccompProfile"),
        "containers that may make any system call",
    );
    refuse(
        security.unmasked_proc,
        field("procMount"),
        "/proc without masks",
    );
    for (at, port) in one.ports.iter().enumerate() {
        refuse(
            port.host.is_some(),
            format!("ports[{at}].hostPort"),
            "ports of the host",
        );
    }
    found
}

/// The same of what a running pod is to be: it may not get containers beside its
/// own either, where no command may be run in those.
pub fn check_change(present: &Plan, spec: &PodSpec) -> Result<(), TenantError> {
    let names = spec
        .ephemeral_containers
        .iter()
        .map(|one| one.name.as_str());
    match beside(present, names) {
        Some(at) => Err(TenantError {
            path: format!("spec.ephemeralContainers[{at}]"),
            what: "containers for debugging, unless commands were granted when the pod was started",
        }),
        None => check(present.tenant, spec),
    }
}

/// The first of the containers that come to look at a running pod that may not.
pub(super) fn beside<'n>(
    present: &Plan,
    mut names: impl Iterator<Item = &'n str>,
) -> Option<usize> {
    let is_new = |name: &str| !present.containers.iter().any(|one| one.name() == name);
    let is_shut = present.tenant.is_some_and(|tenant| !tenant.exec);
    names.position(|name| is_shut && is_new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_reads_what_it_writes() {
        for exec in [false, true] {
            let tenant = Tenant { exec };
            assert_eq!(Tenant::parse(&tenant.to_string()), Some(tenant));
        }
        for text in [
            "",
            "tenants",
            "tenant,",
            "tenant,root",
            "exec",
            "tenant,exec,exec",
        ] {
            assert_eq!(Tenant::parse(text), None, "{text}");
        }
    }
}
