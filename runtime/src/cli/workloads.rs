//! Deployments and their like on the command line.

mod show;

pub use show::{describe, first_pod, found, names, value};

use super::foreground::{self, Options};
use super::{CliError, exit, host_path, manifest};
use crate::engine::{self, PodView, Starting};
use crate::objects::Applied;
use crate::plan::{ImageFacts, Objects};
use crate::settings::Settings;
use crate::spec::{self, Workload, WorkloadKind};
use crate::workload::job::JobEnd;
use crate::workload::{self, Ground, job};
use std::collections::BTreeMap;

/// Errors when a workload could not have its pods: nothing is kept then.
pub fn admit(
    settings: &Settings,
    workloads: &[(Workload, Objects)],
    images: &BTreeMap<String, ImageFacts>,
) -> Result<(), CliError> {
    for (workload, objects) in workloads {
        workload.template.can_be_created()?;
        host_path::admit(settings, [&workload.template])?;
        if let Some((pod, objects)) = workload::first(settings, workload, objects)? {
            engine::preview(settings, &pod.spec, images, &objects)
                .map_err(|error| manifest::placed(&workload.template, error))?;
        }
    }
    Ok(())
}

/// What pods are made from: images, objects, and what finding them took.
pub type Given<'i> = (&'i BTreeMap<String, ImageFacts>, Objects, u64);

/// Keeps a workload and brings it about.
pub async fn apply(
    settings: &Settings,
    workload: Workload,
    (images, objects, image_nanos): Given<'_>,
) -> Result<(), CliError> {
    let (kind, name) = (workload.kind, workload.name.clone());
    let _lock = workload::lock(settings, &workload.namespace, kind, &name)?;
    let (kept, applied) = workload::apply(settings, &workload)?;
    say!("{kind}/{name} {applied}");
    let ground = Ground {
        settings,
        kept,
        workload,
        images: images.clone(),
        objects,
        image_nanos,
        failures: BTreeMap::new(),
    };
    if kind == WorkloadKind::Job {
        job::adopt(settings, &ground.workload.namespace, &name)?;
        return Ok(());
    }
    ground.carry_out().await?;
    if applied == Applied::Configured {
        workload::trim_claims(settings, &ground.workload, false)?;
    }
    Ok(())
}

/// Starts the pods of a workload that has none, for the foreground.
pub async fn begin(
    settings: &Settings,
    workload: Workload,
    (images, objects, image_nanos): Given<'_>,
) -> Result<Vec<Starting>, CliError> {
    let (kind, name) = (workload.kind, workload.name.clone());
    let _lock = workload::lock(settings, &workload.namespace, kind, &name)?;
    if let Some(kept) = workload::read(settings, &workload.namespace, kind, &name)? {
        let pods = engine::list(settings).await?;
        let mine: Vec<PodView> = pods
            .into_iter()
            .filter(|pod| workload::of(&kept, pod))
            .collect();
        if mine.iter().any(|pod| !pod.status.phase.is_end()) {
            let what = kind.word();
            return Err(CliError::Exists { what, name });
        }
        for (_, ended) in workload::end_all(settings, mine, Some(0)).await {
            ended?;
        }
    }
    let (kept, applied) = workload::apply(settings, &workload)?;
    if applied != Applied::Unchanged {
        let line = format!("{kind}/{name} {applied}");
        tell!("{}", super::style::Style::stderr().dim(&line));
    }
    let ground = Ground {
        settings,
        kept,
        workload,
        images: images.clone(),
        objects,
        image_nanos,
        failures: BTreeMap::new(),
    };
    Ok(ground.start_all().await?)
}

/// A job that the foreground stays with.
pub struct JobNow {
    /// Its pods, those that have ended too.
    pub pods: Vec<PodView>,
    /// How it ended.
    pub end: Option<JobEnd>,
}

/// How a job is now. Errors when it has been deleted.
pub async fn job(settings: &Settings, (namespace, name): (&str, &str)) -> Result<JobNow, CliError> {
    let kind = WorkloadKind::Job;
    job::adopt(settings, namespace, name)?;
    let kept = workload::read(settings, namespace, kind, name)?;
    let kept = kept.ok_or_else(|| CliError::NotFound {
        what: kind.word(),
        name: name.to_owned(),
    })?;
    let end = job::read_state(settings, namespace, name, &kept.uid)?.end;
    let pods = engine::list(settings).await?;
    let pods = pods.into_iter().filter(|pod| workload::of(&kept, pod));
    Ok(JobNow {
        pods: pods.collect(),
        end,
    })
}

/// Keeps a job and stays with it until it is done.
pub async fn run_job(
    settings: &Settings,
    workload: Workload,
    options: Options,
) -> Result<u8, CliError> {
    let chosen = Chosen::of(&workload);
    let (kind, name) = (workload.kind, workload.name.clone());
    {
        let _lock = workload::lock(settings, &workload.namespace, kind, &name)?;
        if workload::read(settings, &workload.namespace, kind, &name)?.is_some() {
            let what = kind.word();
            return Err(CliError::Exists { what, name });
        }
        workload::apply(settings, &workload)?;
    }
    job::adopt(settings, &workload.namespace, &name)?;
    if options.detach {
        say!("{kind}/{name} created");
        return Ok(exit::OK);
    }
    let code = foreground::job(settings, (&workload.namespace, &name), options).await;
    if options.remove || matches!(code, Ok(exit::INTERRUPTED)) {
        remove(settings, chosen, None, |_, _| {}).await?;
    }
    code
}

/// Forgets workloads whose pods have gone with the foreground.
pub async fn forget_empty(settings: &Settings, chosen: &[Chosen]) -> Result<(), CliError> {
    let pods = engine::list(settings).await?;
    for one in chosen {
        let kept = workload::read(settings, &one.namespace, one.kind, &one.name)?;
        if kept.is_some_and(|kept| !pods.iter().any(|pod| workload::of(&kept, pod))) {
            workload::delete(settings, &one.namespace, one.kind, &one.name)?;
        }
    }
    Ok(())
}

/// A workload that a command names.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Chosen {
    /// The one of a document.
    pub fn of(workload: &Workload) -> Self {
        Self {
            kind: workload.kind,
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
        }
    }
}

/// What a CronJob is called, of which nothing is kept but its Jobs.
pub const CRON_JOB: &str = "cronjob.batch";

/// The Jobs that `run --now` has made of a CronJob.
pub fn of_cron_job(
    settings: &Settings,
    namespace: &str,
    cron_job: &str,
) -> Result<Vec<Chosen>, CliError> {
    let kind = WorkloadKind::Job;
    let mut all = workload::list(settings, kind)?;
    all.retain(|(place, name, kept)| {
        place == namespace && spec::is_job_of(cron_job, name, &kept.object)
    });
    let chosen = all.into_iter().map(|(namespace, name, _)| Chosen {
        kind,
        namespace,
        name,
    });
    Ok(chosen.collect())
}

/// Deletes a workload with its pods and says so; whether there was one.
pub async fn delete(
    settings: &Settings,
    one: Chosen,
    grace: Option<u32>,
) -> Result<bool, CliError> {
    let tell = |kind: WorkloadKind, name: &str| say!("{kind} \"{name}\" deleted");
    remove(settings, one, grace, tell).await
}

/// Deletes a workload with its pods and tells of it; whether there was one.
async fn remove(
    settings: &Settings,
    one: Chosen,
    grace: Option<u32>,
    tell: impl Fn(WorkloadKind, &str),
) -> Result<bool, CliError> {
    let Chosen {
        kind,
        namespace,
        name,
    } = one;
    if workload::read(settings, &namespace, kind, &name)?.is_none() {
        return Ok(false);
    }
    // A job's runner waits for this, and then finds that there is no job.
    let _lock = workload::lock(settings, &namespace, kind, &name)?;
    let Some(kept) = workload::read(settings, &namespace, kind, &name)? else {
        return Ok(false);
    };
    let pods = engine::list(settings).await?;
    let mine = pods.into_iter().filter(|pod| workload::of(&kept, pod));
    for (_, ended) in workload::end_all(settings, mine.collect(), grace).await {
        ended?;
    }
    // What cannot be read any more can be deleted all the same.
    if let Ok(workload) = kept.workload(kind, &name) {
        workload::trim_claims(settings, &workload, true)?;
    }
    workload::delete(settings, &namespace, kind, &name)?;
    if kind == WorkloadKind::Job {
        job::forget(settings, &namespace, &name)?;
    }
    tell(kind, &name);
    Ok(true)
}
