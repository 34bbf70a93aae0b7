//! Brings a workload about: asks the plan for a step, does it, asks again.

use super::job::IndexFailures;
use super::members::{claim_name, claim_objects, claims, members, pod};
use super::plan::{Shape, Step, step};
use super::{Kept, WorkloadError};
use crate::engine::{self, EngineError, PodView, StartRequest, Starting, StopRequest};
use crate::objects;
use crate::plan::{ImageFacts, Objects};
use crate::settings::Settings;
use crate::spec::{ObjectKind, Workload};
use beluga_proto::PodUid;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

/// How often pods that are waited for are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A workload and all that its pods are made from.
#[derive(Debug)]
pub struct Ground<'s> {
    /// Where.
    pub settings: &'s Settings,
    /// As it is kept.
    pub kept: Kept,
    /// As it shall be.
    pub workload: Workload,
    /// By the containers' image as the manifest writes it.
    pub images: BTreeMap<String, ImageFacts>,
    /// The ConfigMaps, Secrets and claims that its template refers to.
    pub objects: Objects,
    /// What finding the images took, in nanoseconds.
    pub image_nanos: u64,
    /// Of a job: how the pods of its indexes have failed, where each has a limit.
    pub failures: BTreeMap<u32, IndexFailures>,
}

impl Ground<'_> {
    /// Does what is to be done, step by step, for as long as it takes new pods
    /// to become ready where the next step needs them. Pods that nothing waits
    /// for are on their way when this returns.
    pub async fn carry_out(&self) -> Result<(), WorkloadError> {
        let mut begun: Vec<PodUid> = Vec::new();
        let mut moved = Instant::now();
        let patience = Duration::from_secs(u64::from(self.workload.progress_seconds));
        loop {
            let pods = engine::list(self.settings).await?;
            let mine = members(&self.kept, &self.workload, &pods);
            match step(&Shape::of(&self.workload), &mine) {
                Step::Done => return Ok(()),
                Step::Await if moved.elapsed() < patience => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                Step::Await => {
                    return Err(WorkloadError::Stuck {
                        kind: self.workload.kind,
                        name: self.workload.name.clone(),
                        seconds: self.workload.progress_seconds,
                        waiting: mine.iter().filter(|one| !one.is_ready).count(),
                    });
                }
                Step::Start(count) => self.start_some(vec![None; count], &mut begun).await?,
                Step::StartOrdinals(which) => {
                    let which = which.into_iter().map(Some).collect();
                    self.start_some(which, &mut begun).await?;
                }
                Step::Delete(uids) => {
                    let go = pods.into_iter().filter(|pod| uids.contains(&pod.uid));
                    for (_, ended) in end_all(self.settings, go.collect(), None).await {
                        ended?;
                    }
                }
            }
            moved = Instant::now();
        }
    }

    /// Starts the pods of a workload that has none, for whoever watches them.
    pub async fn start_all(&self) -> Result<Vec<Starting>, WorkloadError> {
        let count = self.workload.replicas;
        let which = match &self.workload.ordinals {
            Some(ordinals) => (ordinals.first..ordinals.first + count).map(Some).collect(),
            None => vec![None; count as usize],
        };
        let mut begun = Vec::new();
        let mut started = Vec::new();
        for ordinal in which {
            engine::pace(self.settings, &begun).await?;
            let starting = self.start(ordinal).await?;
            begun.push(starting.view.uid.clone());
            started.push(starting);
        }
        Ok(started)
    }

    /// Starts these pods: each with its number, or without.
    pub async fn start_some(
        &self,
        which: Vec<Option<u32>>,
        begun: &mut Vec<PodUid>,
    ) -> Result<(), WorkloadError> {
        for ordinal in which {
            engine::pace(self.settings, begun).await?;
            begun.push(self.start(ordinal).await?.view.uid);
        }
        Ok(())
    }

    async fn start(&self, ordinal: Option<u32>) -> Result<Starting, WorkloadError> {
        let failures = ordinal.and_then(|ordinal| self.failures.get(&ordinal));
        let failures = failures.copied().unwrap_or_default();
        let document = pod(&self.kept, &self.workload, ordinal, failures)?;
        let mut given = self.objects.clone();
        if let Some(ordinal) = ordinal {
            for claim in claim_objects(&self.workload, ordinal)? {
                let (namespace, name) = (&claim.namespace, &claim.name);
                let present = objects::read(self.settings, namespace, claim.kind, name)?;
                // One that is there is the pod's, whatever its template says now.
                let claim = match present {
                    Some(present) => present.object,
                    None => {
                        objects::apply(self.settings, &claim)?;
                        claim
                    }
                };
                given.insert(claim);
            }
        }
        let request = StartRequest {
            manifest: json!(document.pod),
            spec: document.spec,
            images: self.images.clone(),
            objects: given,
            image_nanos: self.image_nanos,
            remove: false,
        };
        Ok(engine::start(self.settings, request).await?)
    }
}

/// Ends and deletes pods, all at once; what came of each.
pub async fn end_all(
    settings: &Settings,
    pods: Vec<PodView>,
    grace: Option<u32>,
) -> Vec<(String, Result<(), EngineError>)> {
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    for pod in pods {
        let settings = settings.clone();
        tasks.push(local.spawn_local(async move {
            let request = StopRequest {
                grace,
                delete: true,
            };
            (pod.name, engine::stop(&settings, &pod.uid, request).await)
        }));
    }
    local
        .run_until(async {
            let mut ended = Vec::new();
            for task in tasks {
                match task.await {
                    Ok(one) => ended.push(one),
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
            }
            ended
        })
        .await
}

/// Deletes the claims of a StatefulSet's pods that it shall not have any more:
/// all of them when the set goes. Errors where another pod has come to hold one.
pub fn trim_claims(
    settings: &Settings,
    workload: &Workload,
    goes: bool,
) -> Result<(), WorkloadError> {
    let Some(ordinals) = &workload.ordinals else {
        return Ok(());
    };
    if !(if goes {
        ordinals.delete_claims
    } else {
        ordinals.trim_claims
    }) {
        return Ok(());
    }
    let wanted = ordinals.first..ordinals.first.saturating_add(workload.replicas);
    for kept in objects::list(settings, ObjectKind::Claim)? {
        let object = kept.object;
        let is_surplus = claims(workload).iter().any(|claim| {
            let prefix = format!("{claim}-{}-", workload.name);
            let ordinal = object
                .name
                .strip_prefix(&prefix)
                .and_then(|text| text.parse().ok());
            ordinal.is_some_and(|ordinal| {
                object.name == claim_name(workload, claim, ordinal)
                    && (goes || !wanted.contains(&ordinal))
            })
        });
        if object.namespace == workload.namespace && is_surplus {
            engine::claims::delete(settings, &object.namespace, &object.name)?;
        }
    }
    Ok(())
}
