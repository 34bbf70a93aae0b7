//! Workloads as people and tools see them: tables, objects, pages.

use super::super::CliError;
use super::super::get::{self, Found};
use super::super::page::Page;
use super::super::pods::Scope;
use super::super::resource::Kind;
use super::super::table::Table;
use super::super::time::{age, rfc3339, span};
use crate::engine::{self, PodView};
use crate::settings::Settings;
use crate::spec::{JobSpec, Update, Workload, WorkloadKind};
use crate::workload::job::JobState;
use crate::workload::{self, Counts, Kept, job};
use serde_json::Value;

/// A workload and how it is.
pub struct Seen {
    kept: Kept,
    pub workload: Workload,
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

/// The workloads of a scope; with names only those.
pub fn look(
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
        if !scope.selects(&namespace, &workload.labels) {
            continue;
        }
        let members = workload::members(&kept, &workload, pods);
        let state = || job::read_state(settings, &namespace, &name, &kept.uid);
        let job = (kind == WorkloadKind::Job).then(state);
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

/// Namespace and name of all workloads of a scope.
pub fn names(
    settings: &Settings,
    scope: &Scope,
    kind: WorkloadKind,
) -> Result<Vec<(String, String)>, CliError> {
    let found = look(settings, scope, kind, &[], &[])?;
    let names = found.into_iter().map(|one| one.workload);
    Ok(names.map(|one| (one.namespace, one.name)).collect())
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
    mine.sort_by_key(|pod| !pod.conditions().contains(&("Ready", true)));
    mine.into_iter().next().ok_or_else(|| absent("pod of"))
}

/// What `get` shows.
pub fn found(
    settings: &Settings,
    scope: &Scope,
    kind: WorkloadKind,
    names: &[String],
    pods: &[PodView],
) -> Result<Found, CliError> {
    let found = look(settings, scope, kind, names, pods)?;
    let names = found.iter().map(|one| one.workload.name.clone());
    Ok(Found {
        kind: Kind::Workload(kind),
        names: names.collect(),
        table: table(&found, kind, scope),
        objects: found.iter().map(Seen::object).collect(),
    })
}

fn table(found: &[Seen], kind: WorkloadKind, scope: &Scope) -> Table {
    let mut heads: Vec<&str> = match kind {
        WorkloadKind::Deployment => vec!["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"],
        WorkloadKind::ReplicaSet | WorkloadKind::ReplicationController => {
            vec!["NAME", "DESIRED", "CURRENT", "READY", "AGE"]
        }
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
            WorkloadKind::ReplicaSet | WorkloadKind::ReplicationController => {
                [desired, present, ready].map(|n| n.to_string()).to_vec()
            }
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
    table
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

/// A page for each workload, by its name.
pub fn describe(
    settings: &Settings,
    scope: &Scope,
    kind: WorkloadKind,
    names: &[String],
    pods: &[PodView],
) -> Result<Vec<(String, Page)>, CliError> {
    let found = look(settings, scope, kind, names, pods)?;
    let pages = found.iter();
    let pages = pages.map(|one| (one.workload.name.clone(), page(one)));
    Ok(pages.collect())
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
    let selector = &object["spec"]["selector"];
    let selector = match workload.kind {
        WorkloadKind::ReplicationController => selector,
        _ => &selector["matchLabels"],
    };
    page.list(0, "Selector", &pairs(selector));
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
    if let Some(limit) = job.index_backoff_limit {
        page.field(0, "Backoff Limit Per Index", limit.to_string());
        let failed = job::ranges(&state.failed_indexes(job));
        page.field(0, "Failed Indexes", failed);
    }
    if job.is_indexed {
        let completed = job::ranges(&state.succeeded_indexes());
        page.field(0, "Completed Indexes", completed);
    }
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
