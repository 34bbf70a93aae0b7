//! NetworkPolicies: from what is kept and what runs to the packet filter.
//!
//! Whoever changes one of the two calls [`enforce`], which looks at everything
//! and replaces each pod's tables whole: there is no difference to get wrong, and
//! no process that could miss one. A pod is not started before it has been.

mod admitted;

use crate::host::lock::FileLock;
use crate::host::network::{self, NetworkError};
use crate::host::policy::{self, Subject, Way};
use crate::host::rules::{self, RulesError};
use crate::objects;
use crate::path_error::PathError;
use crate::settings::Settings;
use crate::spec::ObjectKind;
use crate::store::{self, StoreError};
use admitted::{PodFacts, PolicyFacts, admitted};
use std::collections::BTreeSet;

/// Why policies do not hold.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// What is kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Who has which address.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The packet filter.
    #[error("network policies cannot be enforced")]
    Rules(#[from] RulesError),
}

/// Makes the packet filter do what the policies say of the pods that there are.
pub fn enforce(settings: &Settings) -> Result<(), PolicyError> {
    enforce_with(settings, false)
}

/// The same, when there is a new pod that may be isolated without any policy.
pub fn enforce_with(settings: &Settings, is_isolated: bool) -> Result<(), PolicyError> {
    let directory = settings.root.join("network");
    // Without it there has never been a pod.
    if !directory.exists() {
        return Ok(());
    }
    let path = directory.join("policies");
    let _lock = FileLock::wait(&path)
        .map_err(|source| StoreError::from(PathError::on("lock", &path)(source)))?;
    let policies: Vec<PolicyFacts> = objects::list(settings, ObjectKind::Policy)?
        .into_iter()
        .filter_map(|kept| {
            Some(PolicyFacts {
                namespace: kept.object.namespace,
                policy: kept.object.policy?,
            })
        })
        .collect();
    let present = network::tables(settings).into_iter();
    let present: Vec<_> = present.filter(|(_, name)| policy::is_table(name)).collect();
    if policies.is_empty() && present.is_empty() && !is_isolated {
        return Ok(());
    }
    let mut wanted = BTreeSet::new();
    let pods = pods(settings)?;
    for (subject, own) in &pods {
        let passing = [Way::In, Way::Out].map(|way| {
            let others = pods.iter().map(|(_, pod)| pod);
            (way, admitted(way, own, &policies, others))
        });
        if passing.iter().any(|(_, admits)| admits.is_some()) {
            policy::enforce(subject, &passing)?;
            wanted.insert(policy::table_of(&subject.tap));
        }
    }
    for (family, name) in present {
        if !wanted.contains(&name) {
            rules::remove(family, &name)?;
        }
    }
    Ok(())
}

/// The pods that have an address.
fn pods(settings: &Settings) -> Result<Vec<(Subject, PodFacts)>, PolicyError> {
    let mut found = Vec::new();
    for uid in network::holders(settings, &crate::host::boot_id())? {
        // One that is just being made calls again.
        let Some(definition) = store::read_definition(settings, &uid)? else {
            continue;
        };
        let identity = definition.plan.identity;
        let Some(own) = identity.network else {
            continue;
        };
        let addresses: Vec<_> = own.addresses().collect();
        let named = definition.spec.all_containers().flat_map(|one| &one.ports);
        let ports =
            named.filter_map(|port| Some((port.name.clone()?, port.protocol.clone(), port.port)));
        let facts = PodFacts {
            is_isolated: definition.plan.tenant.is_some(),
            namespace: identity.namespace,
            labels: definition.spec.labels.clone(),
            addresses: addresses.clone(),
            ports: ports.collect(),
        };
        let subject = Subject {
            tap: own.tap,
            addresses,
        };
        found.push((subject, facts));
    }
    Ok(found)
}
