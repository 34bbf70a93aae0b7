//! NetworkPolicies: from what is kept and what runs to the packet filter.
//!
//! Whoever changes one of the two calls [`enforce`], which looks at everything
//! and replaces each pod's tables whole: there is no difference to get wrong, and
//! no process that could miss one. A pod is not started before it has been.
//!
//! Which tables there are to be is noted in `<root>/network/in-force`. What others throw
//! away, as `nft flush ruleset` does with the tables of everybody, each pod's supervisor
//! puts back at once ([`restore_of`]), and whoever looks at pods those of all
//! ([`restore`]): of one without a supervisor too.

mod admitted;

use crate::host::lock::FileLock;
use crate::host::network::{self, NetworkError};
use crate::host::policy::{self, Subject, Way};
use crate::host::rules::{self, Family, RulesError};
use crate::host::{self, HostError};
use crate::objects;
use crate::path_error::PathError;
use crate::settings::Settings;
use crate::spec::ObjectKind;
use crate::store::{self, Life, StoreError, atomic};
use admitted::{PodFacts, PolicyFacts, admitted};
use std::collections::BTreeSet;
use std::path::PathBuf;

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
    /// What else guards a pod's network.
    #[error("the rules of a pod's network cannot be put back")]
    Host(#[source] Box<HostError>),
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
    let noted = in_force(settings);
    if policies.is_empty() && present.is_empty() && noted.is_empty() && !is_isolated {
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
    note(settings, &noted, &wanted)
}

fn note_path(settings: &Settings) -> PathBuf {
    settings.root.join("network/in-force")
}

/// Names of the tables that were made last.
fn in_force(settings: &Settings) -> BTreeSet<String> {
    let text = std::fs::read_to_string(note_path(settings)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn note(
    settings: &Settings,
    before: &BTreeSet<String>,
    now: &BTreeSet<String>,
) -> Result<(), PolicyError> {
    let path = note_path(settings);
    let written = match now.is_empty() {
        _ if before == now => return Ok(()),
        true => std::fs::remove_file(&path),
        false => {
            let lines = now.iter().map(|name| format!("{name}\n"));
            atomic::replace(&path, lines.collect::<String>().as_bytes())
        }
    };
    Ok(written.map_err(|source| StoreError::from(PathError::on("write", &path)(source)))?)
}

/// Puts the rules of pods back if tables of policies, or of pods that are isolated
/// without any, are not there any more. Where none are to be there it does nothing.
pub fn restore(settings: &Settings) -> Result<(), PolicyError> {
    let noted = in_force(settings);
    if noted.is_empty() {
        return Ok(());
    }
    let present = network::tables(settings);
    if noted.iter().all(|name| is_whole(name, &present)) {
        return Ok(());
    }
    for uid in network::holders(settings, &host::boot_id())? {
        // Others make theirs yet, or take them back.
        let runs = store::read_record(settings, &uid)?.is_some_and(|one| one.life == Life::Running);
        if let (true, Some(planned)) = (runs, store::read_plan(settings, &uid)?) {
            let restored = host::restore_rules(settings, &planned.plan, &present);
            restored.map_err(|error| PolicyError::Host(Box::new(error)))?;
        }
    }
    enforce(settings)
}

fn is_whole(table: &str, present: &[(Family, String)]) -> bool {
    let mut families = [Family::Bridge, Family::Internet].into_iter();
    families.all(|family| present.contains(&(family, table.to_owned())))
}

/// Puts back what policies say of the pod with that tap, where others have thrown it
/// away; whether there was anything to put back.
pub fn restore_of(
    settings: &Settings,
    tap: &str,
    present: &[(Family, String)],
) -> Result<bool, PolicyError> {
    let table = policy::table_of(tap);
    if !in_force(settings).contains(&table) || is_whole(&table, present) {
        return Ok(false);
    }
    // Who removes it for good takes it from the note last, under a lock.
    enforce(settings)?;
    Ok(in_force(settings).contains(&table))
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
