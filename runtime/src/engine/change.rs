//! What a running pod is to be instead: proposed to its supervisor, watched to
//! its end.

use super::{EngineError, PodView, Reached, reach};
use crate::api::ChangeRequest;
use crate::api::client::{self, ClientError, Update, Watch};
use crate::host::{self, HostError, lock::FileLock, network};
use crate::path_error::PathError;
use crate::plan::{self, Changes, ImageFacts, Objects};
use crate::policy;
use crate::settings::Settings;
use crate::spec::PodSpec;
use crate::store::status::{ChangeState, ChangeStatus};
use crate::store::{self, Definition, StoreError};
use std::collections::{BTreeMap, BTreeSet};

/// What a pod is to be.
#[derive(Debug, Clone)]
pub struct ChangeOf {
    /// As it was asked for, defaults filled in.
    pub manifest: serde_json::Value,
    /// The same, checked.
    pub spec: PodSpec,
    /// What is changed about its containers.
    pub changes: Changes,
    /// Containers that are run anew for it though they need not be, by name.
    pub restart: BTreeSet<String>,
    /// Images of those containers, by name as the manifest writes it.
    pub images: BTreeMap<String, ImageFacts>,
    /// The ConfigMaps and Secrets that the pod refers to.
    pub objects: Objects,
    /// Seconds that its containers may take until they are ready.
    pub patience_seconds: u32,
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The pod is as it was to be.
    Done,
    /// It will be: why not yet.
    Converging(String),
}

/// Changes a pod. Returns when the change has succeeded; errors when it has
/// been refused, or has failed and was undone.
pub async fn change(
    settings: &Settings,
    pod: &PodView,
    change: ChangeOf,
) -> Result<Outcome, EngineError> {
    let generation = begin(settings, pod, change).await?;
    tell_of_itself(settings, pod).await?;
    // Its labels may be others now.
    policy::enforce(settings)?;
    let outcome = outcome(settings, pod, generation).await;
    if outcome.is_err() {
        tell_of_itself(settings, pod).await?;
        policy::enforce(settings)?;
    }
    outcome
}

/// Begins to change a pod; errors when that is refused. The number of the
/// change, for [`outcome`].
pub async fn begin(
    settings: &Settings,
    pod: &PodView,
    change: ChangeOf,
) -> Result<u64, EngineError> {
    let reached = reach(settings, &pod.uid).await?;
    // One proposal at a time: each is made for what the last has left.
    let lock_path = settings.pod_dir(&pod.uid).join("change.lock");
    let lock = FileLock::wait(&lock_path)
        .map_err(|source| StoreError::from(PathError::on("lock", &lock_path)(source)))?;
    let Some(present) = store::read_definition(settings, &pod.uid)? else {
        let uid = pod.uid.clone();
        return Err(EngineError::Absent { uid });
    };
    if present.spec != pod.spec {
        return Err(EngineError::ChangedMeanwhile {
            name: pod.name.clone(),
        });
    }
    if let Reached::Ended(_) = reached {
        return Err(EngineError::Ended {
            name: pod.name.clone(),
            phase: pod.status.phase,
        });
    }
    let (patience_seconds, restart) = (change.patience_seconds, change.restart.clone());
    let (next, before) = definitions(settings, present, change)?;
    let name = proposal_name();
    store::change::propose(settings, &pod.uid, &name, &next, &before)?;
    let request = ChangeRequest {
        proposal: name.clone(),
        restart,
        patience_seconds,
    };
    if let Err(error) = client::change(settings, &pod.uid, request).await {
        store::change::withdraw(settings, &pod.uid, &name);
        return Err(error.into());
    }
    drop(lock);
    Ok(next.generation)
}

/// Brings the volumes that tell of the pod in line with what it is now.
async fn tell_of_itself(settings: &Settings, pod: &PodView) -> Result<(), EngineError> {
    if let Some(pod) = super::read_view(settings, &pod.uid)? {
        let objects = crate::objects::of_pod(settings, &pod.spec)?;
        super::update(settings, &pod, &objects).await?;
    }
    Ok(())
}

/// What the pod is to be, and what it goes back to.
fn definitions(
    settings: &Settings,
    present: Definition,
    change: ChangeOf,
) -> Result<(Definition, Definition), EngineError> {
    let uid = &present.plan.identity.uid;
    let shared = match present.plan.identity.network {
        Some(_) => {
            let name = present.plan.gateway().map_or("", |(network, _)| network);
            let preview = network::preview(settings, name, &host::boot_id());
            Some(preview.map_err(HostError::from)?.1)
        }
        None => None,
    };
    let facts = super::start::host_facts(settings, uid, &change.spec, shared)?;
    let plan = plan::amend(
        &present.plan,
        &change.spec,
        &change.changes,
        &change.images,
        &change.objects,
        &facts,
    )?;
    let before = Definition {
        generation: present.generation + 2,
        plan: plan::with_layers_of(&present.plan, &plan),
        ..present.clone()
    };
    let next = Definition {
        generation: present.generation + 1,
        manifest: change.manifest,
        spec: change.spec,
        plan,
    };
    Ok((next, before))
}

fn proposal_name() -> String {
    let random: [u8; 8] = crate::pod::random_bytes();
    format!("{:016x}", u64::from_le_bytes(random))
}

/// Waits for the end of a change, through changes of supervisors.
pub async fn outcome(
    settings: &Settings,
    pod: &PodView,
    generation: u64,
) -> Result<Outcome, EngineError> {
    loop {
        let mut watch = match reach(settings, &pod.uid).await? {
            Reached::Live => Watch::open(settings, &pod.uid).await?,
            Reached::Ended(record) => Watch::of_ended(record.state.status),
        };
        let is_ended = matches!(reach(settings, &pod.uid).await?, Reached::Ended(_));
        while let Ok(Some(Update::Status(status))) = watch.next().await {
            match status.change {
                Some(change) if change.generation > generation => return Ok(Outcome::Done),
                // The first status may be from before it.
                Some(change) if change.generation == generation && change.state.is_over() => {
                    return verdict(change);
                }
                _ => {}
            }
        }
        if is_ended {
            return Err(ClientError::Closed.into());
        }
    }
}

fn verdict(change: ChangeStatus) -> Result<Outcome, EngineError> {
    match change.state {
        ChangeState::Done => Ok(Outcome::Done),
        ChangeState::Converging => Ok(Outcome::Converging(change.message.unwrap_or_default())),
        _ => Err(EngineError::RolledBack {
            message: change.message.unwrap_or_default(),
        }),
    }
}
