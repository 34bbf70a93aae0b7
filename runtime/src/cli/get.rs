//! `beluga get`, and `beluga ps`.

use super::object::{list, object};
use super::pods::{self, Scope};
use super::table::Table;
use super::{CliError, events, exit, objects, output, time, workloads, yaml};
use crate::engine::PodView;
use crate::plan::ContainerKind;
use crate::settings::Settings;
use crate::spec::ObjectKind;
use crate::store::status::{ContainerState, ContainerStatus};
use std::time::Duration;

/// How often `--watch` looks.
const WATCH_STEP: Duration = Duration::from_millis(200);

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `pods`, `pod NAME…`, `pod/NAME…`, `deployments`, `configmaps`, `events`, …
    #[arg(required = true, value_name = "TYPE [NAME]")]
    what: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    show: Show,
}

/// Arguments of `ps`.
#[derive(Debug, clap::Args)]
pub struct PsArgs {
    /// Ended pods too, as always
    #[arg(short, long, hide = true)]
    all: bool,
    /// Only the names
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    show: Show,
}

/// How things are shown.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// How to print
    #[arg(short, long, value_enum)]
    pub output: Option<Output>,
    /// No line with the heads of the columns
    #[arg(long)]
    pub no_headers: bool,
    /// Go on and print what changes
    #[arg(short, long, conflicts_with = "output")]
    watch: bool,
    /// Nothing and exit code 0 when there is no such pod
    #[arg(long)]
    pub ignore_not_found: bool,
}

/// How pods are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Columns, more of them
    Wide,
    /// The objects
    Json,
    /// The objects
    Yaml,
    /// pod/NAME
    Name,
}

/// Runs `get`.
pub async fn get(settings: &Settings, args: Args) -> Result<u8, CliError> {
    if matches!(args.what[0].as_str(), "events" | "event" | "ev") {
        let Show {
            output, no_headers, ..
        } = args.show;
        return events::run(settings, &args.scope, output, no_headers).await;
    }
    if let Some((kind, names)) = objects::named(&args.what)? {
        return show_objects(settings, &args, kind, &names);
    }
    if let Some((kind, names)) = workloads::named(&args.what)? {
        return workloads::show(settings, &args.scope, &args.show, kind, &names).await;
    }
    let known = matches!(args.what[0].as_str(), "pod" | "pods" | "po")
        || args.what[0].starts_with("pod/")
        || args.what[0].starts_with("pods/")
        || args.what[0].starts_with("po/");
    if !known {
        return Err(CliError::Usage {
            message: format!(
                "there are no resources of type {:?}, only pods, deployments, replicasets, statefulsets, daemonsets, configmaps, secrets, persistentvolumeclaims and events",
                args.what[0]
            ),
        });
    }
    let names = pods::names(&args.what)?;
    show(settings, &args.scope, &names, &args.show).await
}

fn show_objects(
    settings: &Settings,
    args: &Args,
    kind: ObjectKind,
    names: &[String],
) -> Result<u8, CliError> {
    let (scope, show) = (&args.scope, &args.show);
    let (found, absent) = objects::choose(settings, scope, kind, names)?;
    let value = || match (found.as_slice(), names) {
        ([one], [_]) => objects::value(one),
        _ => super::object::list_of(found.iter().map(objects::value).collect()),
    };
    match show.output {
        _ if found.is_empty() && !names.is_empty() => {}
        Some(Output::Json) => say!("{:#}", value()),
        Some(Output::Yaml) => put!("{}", yaml(&value())?),
        Some(Output::Name) => {
            for kept in &found {
                say!("{kind}/{}", kept.object.name);
            }
        }
        Some(Output::Wide) | None if found.is_empty() => objects::tell_none(scope),
        Some(Output::Wide) | None => {
            let lines = objects::table(&found, kind, scope);
            for line in lines.iter().skip(usize::from(show.no_headers)) {
                say!("{line}");
            }
        }
    }
    match absent {
        Some(name) if !show.ignore_not_found => Err(CliError::NotFound {
            what: kind.word(),
            name,
        }),
        _ => Ok(exit::OK),
    }
}

/// Runs `ps`.
pub async fn ps(settings: &Settings, args: PsArgs) -> Result<u8, CliError> {
    if args.quiet {
        for pod in pods::all(settings, &args.scope).await? {
            say!("{}", pod.name);
        }
        return Ok(exit::OK);
    }
    show(settings, &args.scope, &[], &args.show).await
}

async fn show(
    settings: &Settings,
    scope: &Scope,
    names: &[String],
    show: &Show,
) -> Result<u8, CliError> {
    let all = pods::all(settings, scope).await?;
    let chosen: Vec<PodView> = all
        .iter()
        .filter(|pod| names.is_empty() || names.contains(&pod.name))
        .cloned()
        .collect();
    print(&chosen, names, scope, show)?;
    if show.watch {
        return watch(settings, scope, names, chosen).await;
    }
    let absent = |name: &&String| !chosen.iter().any(|pod| pod.name == **name);
    match names.iter().find(absent) {
        Some(name) if !show.ignore_not_found => Err(CliError::NotFound {
            what: "pod",
            name: name.clone(),
        }),
        _ => Ok(exit::OK),
    }
}

/// Prints a line for each pod whose line has changed, for ever.
async fn watch(
    settings: &Settings,
    scope: &Scope,
    names: &[String],
    mut before: Vec<PodView>,
) -> Result<u8, CliError> {
    loop {
        tokio::time::sleep(WATCH_STEP).await;
        let mut now = pods::all(settings, scope).await?;
        now.retain(|pod| names.is_empty() || names.contains(&pod.name));
        let is_news = |pod: &&PodView| {
            let same = |old: &&PodView| old.uid == pod.uid;
            before
                .iter()
                .find(same)
                .is_none_or(|old| cells(old, scope, false)[..4] != cells(pod, scope, false)[..4])
        };
        let news: Vec<PodView> = now.iter().filter(is_news).cloned().collect();
        if !news.is_empty() {
            table(&news, scope, false, true);
        }
        before = now;
        if output::is_unread() {
            return Ok(exit::OK);
        }
    }
}

fn print(chosen: &[PodView], names: &[String], scope: &Scope, show: &Show) -> Result<(), CliError> {
    // One named pod is an object, everything else a list, as kubectl has it.
    let value = || match (chosen, names) {
        ([one], [_]) => object(one),
        _ => list(chosen),
    };
    match show.output {
        _ if chosen.is_empty() && !names.is_empty() => {}
        Some(Output::Json) => say!("{:#}", value()),
        Some(Output::Yaml) => put!("{}", yaml(&value())?),
        Some(Output::Name) => {
            for pod in chosen {
                say!("pod/{}", pod.name);
            }
        }
        wide if chosen.is_empty() => {
            let _: Option<Output> = wide;
            objects::tell_none(scope);
        }
        wide => table(chosen, scope, wide.is_some(), show.no_headers),
    }
    Ok(())
}

fn table(pods: &[PodView], scope: &Scope, wide: bool, no_headers: bool) {
    let mut heads = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
    if scope.all_namespaces {
        heads.insert(0, "NAMESPACE");
    }
    if wide {
        heads.extend(["IP", "CPUS", "MEMORY"]);
    }
    let mut table = Table::new(&heads);
    for pod in pods {
        table.row(cells(pod, scope, wide));
    }
    let lines = table.lines(0);
    for line in lines.iter().skip(usize::from(no_headers)) {
        say!("{line}");
    }
}

fn cells(pod: &PodView, scope: &Scope, wide: bool) -> Vec<String> {
    let mut row = vec![
        pod.name.clone(),
        ready(pod),
        status(pod),
        restarts(pod),
        time::age(pod.status.created),
    ];
    if scope.all_namespaces {
        row.insert(0, pod.namespace.clone());
    }
    if wide {
        let none = || "<none>".to_owned();
        let vm = pod.plan.as_ref().map(|plan| &plan.vm);
        row.push(
            pod.status
                .ips
                .first()
                .map_or_else(none, ToString::to_string),
        );
        row.push(vm.map_or_else(none, |vm| vm.vcpus.to_string()));
        row.push(vm.map_or_else(none, |vm| format!("{}Mi", vm.memory_mib)));
    }
    row
}

/// Containers that are to stay up: app containers and sidecars.
fn lasting(pod: &PodView) -> impl Iterator<Item = &ContainerStatus> {
    pod.status
        .containers
        .iter()
        .filter(|one| matches!(one.kind, ContainerKind::App | ContainerKind::Sidecar))
}

fn ready(pod: &PodView) -> String {
    let ready = lasting(pod).filter(|container| container.ready).count();
    let all = pod.spec.containers.len()
        + pod
            .spec
            .init_containers
            .iter()
            .filter(|one| one.sidecar)
            .count();
    format!("{ready}/{all}")
}

fn restarts(pod: &PodView) -> String {
    let count: u32 = pod
        .status
        .containers
        .iter()
        .map(|container| container.restarts)
        .sum();
    let last = pod
        .status
        .containers
        .iter()
        .filter_map(|container| container.last_termination.as_ref())
        .map(|end| end.finished)
        .max();
    match last {
        Some(at) if count > 0 => format!("{count} ({} ago)", time::age(at)),
        _ => count.to_string(),
    }
}

/// The STATUS column: the most telling word about a pod, by kubectl's rules.
pub fn status(pod: &PodView) -> String {
    let status = &pod.status;
    let mut word = status
        .reason
        .clone()
        .unwrap_or_else(|| status.phase.to_string());
    let inits = status
        .containers
        .iter()
        .filter(|one| matches!(one.kind, ContainerKind::Init | ContainerKind::Sidecar));
    let count = pod.spec.init_containers.len();
    // Once an app container has run, how a sidecar ended is no news.
    let initialized = status
        .containers
        .iter()
        .any(|one| one.kind == ContainerKind::App && one.id.is_some());
    let mut initializing = false;
    for (at, init) in inits.enumerate().filter(|_| !initialized) {
        let done = match (&init.state, init.kind) {
            (ContainerState::Terminated(end), ContainerKind::Init) => end.exit_code == 0,
            (_, ContainerKind::Sidecar) => init.started,
            _ => false,
        };
        if done {
            continue;
        }
        word = match reason(&init.state) {
            Some(reason) if reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{at}/{count}"),
        };
        initializing = true;
        break;
    }
    if !initializing && status.reason.is_none() {
        let apps: Vec<&ContainerStatus> = status
            .containers
            .iter()
            .filter(|one| one.kind == ContainerKind::App)
            .collect();
        for app in apps.iter().rev() {
            if let Some(reason) = reason(&app.state) {
                word = reason;
            }
        }
        let running = apps
            .iter()
            .any(|app| matches!(app.state, ContainerState::Running { .. }));
        if word == "Completed" && running {
            word = "Running".into();
        }
    }
    if status.deleted.is_some() && !status.phase.is_end() {
        word = "Terminating".into();
    }
    word
}

/// The word for a container that does not run.
fn reason(state: &ContainerState) -> Option<String> {
    match state {
        ContainerState::Waiting { reason, .. } if !reason.is_empty() => Some(reason.clone()),
        ContainerState::Terminated(end) if !end.reason.is_empty() => Some(end.reason.clone()),
        ContainerState::Terminated(end) => Some(match end.signal {
            Some(signal) => format!("Signal:{signal}"),
            None => format!("ExitCode:{}", end.exit_code),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
