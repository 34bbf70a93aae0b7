//! Deployments and their like on the command line.

use super::describe::Page;
use super::foreground::{self, Options};
use super::get::{self, Output, Show};
use super::pods::Scope;
use super::table::Table;
use super::time::{age, rfc3339, span};
use super::{CliError, exit, host_path, object, objects, yaml};
use crate::engine::{self, PodView, Starting};
use crate::objects::Applied;
use crate::plan::{ImageFacts, Objects};
use crate::settings::Settings;
use crate::spec::{JobSpec, Update, Workload, WorkloadKind};
use crate::workload::job::{JobEnd, JobState};
use crate::workload::{self, Counts, Ground, Kept, job};
use serde_json::Value;
use std::collections::BTreeMap;

/// The kind and names behind arguments like `deployments`, `deploy a b` or
/// `deployment/a`; `None` when they are about something else.
pub fn named(words: &[String]) -> Result<Option<(WorkloadKind, Vec<String>)>, CliError> {
    let Some((first, rest)) = words.split_first() else {
        return Ok(None);
    };
    let (type_word, _) = first.split_once('/').unwrap_or((first, ""));
    let Some(kind) = WorkloadKind::of_word(type_word) else {
        return Ok(None);
    };
    if !first.contains('/') {
        return Ok(Some((kind, rest.to_vec())));
    }
    let names = words.iter().map(|word| match word.split_once('/') {
        Some((same, name)) if WorkloadKind::of_word(same) == Some(kind) => Ok(name.to_owned()),
        _ => Err(CliError::Usage {
            message: format!("{word:?}: all must be of one type, like {kind}/NAME"),
        }),
    });
    Ok(Some((kind, names.collect::<Result<_, _>>()?)))
}

/// Errors when a workload could not have its pods: nothing is kept then.
pub fn admit(
    settings: &Settings,
    workloads: &[(Workload, Objects)],
    images: &BTreeMap<String, ImageFacts>,
) -> Result<(), CliError> {
    for (workload, objects) in workloads {
        workload.template.can_be_created()?;
        host_path::admit(settings, [&workload.template])?;
        // The claims of numbered pods are made with them.
        if workload
            .ordinals
            .as_ref()
            .is_none_or(|one| one.claims.is_empty())
        {
            engine::preview(settings, &workload.template.spec, images, objects)?;
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
    let end = job::read_state(settings, namespace, name)?.end;
    let kept = workload::read(settings, namespace, kind, name)?;
    let kept = kept.ok_or_else(|| CliError::NotFound {
        what: kind.word(),
        name: name.to_owned(),
    })?;
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
    kind: WorkloadKind,
    namespace: String,
    name: String,
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

/// Those that `delete` names.
pub fn choose(
    settings: &Settings,
    scope: &Scope,
    kind: WorkloadKind,
    names: &[String],
    all: bool,
) -> Result<Vec<Chosen>, CliError> {
    if !names.is_empty() {
        let chosen = names.iter().map(|name| Chosen {
            kind,
            namespace: scope.namespace.clone(),
            name: name.clone(),
        });
        return Ok(chosen.collect());
    }
    if !all && scope.selector.is_none() {
        return Err(CliError::Usage {
            message: format!("which {kind}? Name them, or say --all, -l LABELS or -f FILE"),
        });
    }
    let found = look(settings, scope, kind, &[], &[])?;
    Ok(found.iter().map(|one| Chosen::of(&one.workload)).collect())
}

/// Deletes workloads with their pods and says so; the first that is not there.
pub async fn delete(
    settings: &Settings,
    chosen: Vec<Chosen>,
    grace: Option<u32>,
) -> Result<Option<(&'static str, String)>, CliError> {
    let mut absent = None;
    for one in chosen {
        let name = (one.kind.word(), one.name.clone());
        let tell = |kind: WorkloadKind, name: &str| say!("{kind} \"{name}\" deleted");
        if !remove(settings, one, grace, tell).await? {
            absent = absent.or(Some(name));
        }
    }
    Ok(absent)
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

/// A workload and how it is.
struct Seen {
    kept: Kept,
    workload: Workload,
    counts: Counts,
    pods: Vec<PodView>,
    /// Of a job: what its runner has counted.
    job: Option<JobState>,
}

impl Seen {
    fn object(&self) -> Value {
        let created = rfc3339(self.kept.created);
        let mut object = workload::object(&self.kept, &self.workload, self.counts, &created);
        if let (Some(job), Some(state)) = (&self.workload.job, &self.job) {
            let active = (self.counts.present, self.counts.ready);
            object["status"] = job::status(job, state, active, rfc3339);
        }
        object
    }
}

fn look(
    settings: &Settings,
    scope: &Scope,
    kind: WorkloadKind,
    names: &[String],
    pods: &[PodView],
) -> Result<Vec<Seen>, CliError> {
    if kind == WorkloadKind::Job {
        job::adopt_all(settings)?;
    }
    let mut found = Vec::new();
    for (namespace, name, kept) in workload::list(settings, kind)? {
        let is_named = names.is_empty() || names.contains(&name);
        if !is_named || !(scope.all_namespaces || namespace == scope.namespace) {
            continue;
        }
        let workload = kept.workload(kind, &name)?;
        let selector = scope.selector.as_ref();
        if selector.is_some_and(|selector| !selector.matches(&workload.labels)) {
            continue;
        }
        let members = workload::members(&kept, &workload, pods);
        let job = (kind == WorkloadKind::Job).then(|| job::read_state(settings, &namespace, &name));
        found.push(Seen {
            job: job.transpose()?,
            counts: workload::counts(&workload, &members),
            pods: pods
                .iter()
                .filter(|pod| workload::of(&kept, pod))
                .cloned()
                .collect(),
            kept,
            workload,
        });
    }
    Ok(found)
}

/// The names of all workloads of a scope.
pub fn names(
    settings: &Settings,
    scope: &Scope,
    kind: WorkloadKind,
) -> Result<Vec<String>, CliError> {
    let found = look(settings, scope, kind, &[], &[])?;
    Ok(found.into_iter().map(|one| one.workload.name).collect())
}

/// The object of a workload; `None` when it is not there.
pub async fn value(
    settings: &Settings,
    scope: &Scope,
    kind: WorkloadKind,
    name: &str,
) -> Result<Option<Value>, CliError> {
    let pods = engine::list(settings).await?;
    let found = look(settings, scope, kind, &[name.to_owned()], &pods)?;
    Ok(found.first().map(Seen::object))
}

/// The pod that is meant where one pod is wanted and a workload is named: one
/// that is ready before one that is not, as kubectl chooses.
pub fn first_pod(
    settings: &Settings,
    namespace: &str,
    (kind, name): (WorkloadKind, &str),
    pods: Vec<PodView>,
) -> Result<PodView, CliError> {
    let absent = |what| CliError::NotFound {
        what,
        name: name.to_owned(),
    };
    let kept = workload::read(settings, namespace, kind, name)?;
    let kept = kept.ok_or_else(|| absent(kind.word()))?;
    let mut mine: Vec<PodView> = pods
        .into_iter()
        .filter(|pod| workload::of(&kept, pod))
        .collect();
    mine.sort_by_key(|pod| !pod.status.conditions().contains(&("Ready", true)));
    mine.into_iter().next().ok_or_else(|| absent("pod of"))
}

/// Runs `get`.
pub async fn show(
    settings: &Settings,
    scope: &Scope,
    show: &Show,
    kind: WorkloadKind,
    names: &[String],
) -> Result<u8, CliError> {
    let pods = engine::list(settings).await?;
    let found = look(settings, scope, kind, names, &pods)?;
    let value = || match (found.as_slice(), names) {
        ([one], [_]) => one.object(),
        _ => object::list_of(found.iter().map(Seen::object).collect()),
    };
    match show.output {
        _ if found.is_empty() && !names.is_empty() => {}
        Some(Output::Json) => say!("{:#}", value()),
        Some(Output::Yaml) => put!("{}", yaml(&value())?),
        Some(Output::Name) => {
            for one in &found {
                say!("{kind}/{}", one.workload.name);
            }
        }
        Some(Output::Wide) | None if found.is_empty() => objects::tell_none(scope),
        Some(Output::Wide) | None => {
            for line in table(&found, kind, scope)
                .iter()
                .skip(usize::from(show.no_headers))
            {
                say!("{line}");
            }
        }
    }
    match absent(&found, names) {
        Some(name) if !show.ignore_not_found => Err(CliError::NotFound {
            what: kind.word(),
            name,
        }),
        _ => Ok(exit::OK),
    }
}

fn absent(found: &[Seen], names: &[String]) -> Option<String> {
    let is_there = |name: &&String| found.iter().any(|one| one.workload.name == **name);
    names.iter().find(|name| !is_there(name)).cloned()
}

fn table(found: &[Seen], kind: WorkloadKind, scope: &Scope) -> Vec<String> {
    let mut heads: Vec<&str> = match kind {
        WorkloadKind::Deployment => vec!["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"],
        WorkloadKind::ReplicaSet => vec!["NAME", "DESIRED", "CURRENT", "READY", "AGE"],
        WorkloadKind::StatefulSet => vec!["NAME", "READY", "AGE"],
        WorkloadKind::DaemonSet => vec![
            "NAME",
            "DESIRED",
            "CURRENT",
            "READY",
            "UP-TO-DATE",
            "AVAILABLE",
            "AGE",
        ],
        WorkloadKind::Job => vec!["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"],
    };
    if scope.all_namespaces {
        heads.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(&heads);
    for one in found {
        let Counts {
            desired,
            present,
            updated,
            ready,
            ..
        } = one.counts;
        let numbers = match kind {
            WorkloadKind::Deployment => {
                vec![
                    format!("{ready}/{desired}"),
                    updated.to_string(),
                    ready.to_string(),
                ]
            }
            WorkloadKind::ReplicaSet => [desired, present, ready].map(|n| n.to_string()).to_vec(),
            WorkloadKind::StatefulSet => vec![format!("{ready}/{desired}")],
            WorkloadKind::Job => job_cells(one),
            WorkloadKind::DaemonSet => [desired, present, ready, updated, ready]
                .map(|n| n.to_string())
                .to_vec(),
        };
        let mut row = vec![one.workload.name.clone()];
        row.extend(numbers);
        row.push(age(one.kept.created));
        if scope.all_namespaces {
            row.insert(0, one.workload.namespace.clone());
        }
        table.row(row);
    }
    table.lines(0)
}

fn job_cells(seen: &Seen) -> Vec<String> {
    let (Some(job), Some(state)) = (&seen.workload.job, &seen.job) else {
        return vec![String::new(); 3];
    };
    let of = match job.completions {
        Some(completions) => completions.to_string(),
        None => format!("1 of {}", job.parallelism),
    };
    let took = job::duration(state, crate::pod::now().unix);
    vec![
        job::word(job, state).to_owned(),
        format!("{}/{of}", state.succeeded()),
        took.map_or_else(String::new, |took| span(took.as_secs())),
    ]
}

/// Runs `describe`.
pub async fn describe(
    settings: &Settings,
    scope: &Scope,
    kind: WorkloadKind,
    names: &[String],
) -> Result<u8, CliError> {
    let pods = engine::list(settings).await?;
    let found = look(settings, scope, kind, names, &pods)?;
    for (at, one) in found.iter().enumerate() {
        if at > 0 {
            say!("\n");
        }
        for line in page(one).0 {
            say!("{}", line.trim_end());
        }
    }
    match absent(&found, names) {
        Some(name) => Err(CliError::NotFound {
            what: kind.word(),
            name,
        }),
        None => Ok(exit::OK),
    }
}

fn page(seen: &Seen) -> Page {
    let mut page = Page(Vec::new());
    let (workload, counts) = (&seen.workload, seen.counts);
    let pairs = |value: &Value| -> Vec<String> {
        let map = value.as_object();
        map.into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
            .collect()
    };
    let object = &workload.object;
    page.field(0, "Name", &workload.name);
    page.field(0, "Namespace", &workload.namespace);
    page.field(0, "UID", &seen.kept.uid);
    page.field(0, "Created", rfc3339(seen.kept.created));
    page.list(0, "Labels", &pairs(&object["metadata"]["labels"]));
    page.list(0, "Annotations", &pairs(&object["metadata"]["annotations"]));
    page.list(
        0,
        "Selector",
        &pairs(&object["spec"]["selector"]["matchLabels"]),
    );
    if let (Some(job), Some(state)) = (&workload.job, &seen.job) {
        job_page(&mut page, seen, job, state);
        return page;
    }
    page.field(
        0,
        "Replicas",
        format!(
            "{} desired | {} updated | {} total | {} ready | {} not ready",
            counts.desired,
            counts.updated,
            counts.present,
            counts.ready,
            counts.present.saturating_sub(counts.ready)
        ),
    );
    let update = match workload.update {
        Update::Recreate => "Recreate".to_owned(),
        Update::OnDelete => "OnDelete (new pods only)".to_owned(),
        Update::Rolling { surge, unavailable } => {
            format!("RollingUpdate ({unavailable} max unavailable, {surge} max surge)")
        }
    };
    page.field(0, "Update", update);
    page.list(0, "Containers", &images(workload));
    let mut pods = Table::new(&["Name", "Status", "Template", "Age"]);
    for pod in &seen.pods {
        let is_current = pod.spec.labels.get(workload.kind.hash_label()) == Some(&workload.hash);
        let template = if is_current { "present" } else { "older" };
        pods.row(vec![
            pod.name.clone(),
            get::status(pod),
            template.to_owned(),
            age(pod.status.created),
        ]);
    }
    page.table("Pods", &pods);
    page
}

fn images(workload: &Workload) -> Vec<String> {
    let containers = workload.template.spec.all_containers();
    containers
        .map(|container| format!("{} ({})", container.name, container.image))
        .collect()
}

fn job_page(page: &mut Page, seen: &Seen, job: &JobSpec, state: &JobState) {
    page.field(0, "Parallelism", job.parallelism.to_string());
    let completions = job
        .completions
        .map_or("<unset>".into(), |count| count.to_string());
    page.field(0, "Completions", completions);
    let mode = if job.is_indexed {
        "Indexed"
    } else {
        "NonIndexed"
    };
    page.field(0, "Completion Mode", mode);
    page.field(0, "Backoff Limit", job.backoff_limit.to_string());
    if let Some(started) = state.started {
        page.field(0, "Start Time", rfc3339(started));
    }
    if let Some(finished) = state.finished {
        page.field(0, "End Time", rfc3339(finished));
    }
    page.field(0, "Status", job::word(job, state));
    if let Some(end) = &state.end {
        page.field(0, "Reason", &end.reason);
        page.field(0, "Message", &end.message);
    }
    page.field(
        0,
        "Pods Statuses",
        format!(
            "{} Active ({} Ready) / {} Succeeded / {} Failed",
            seen.counts.present,
            seen.counts.ready,
            state.succeeded(),
            state.failed()
        ),
    );
    page.list(0, "Containers", &images(&seen.workload));
    let mut pods = Table::new(&["Name", "Status", "Age"]);
    for pod in &seen.pods {
        pods.row(vec![
            pod.name.clone(),
            get::status(pod),
            age(pod.status.created),
        ]);
    }
    page.table("Pods", &pods);
}
