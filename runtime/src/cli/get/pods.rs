//! Pods as lines of a table.

use crate::cli::pods::Scope;
use crate::cli::table::Table;
use crate::cli::time;
use crate::engine::PodView;
use crate::machine;
use crate::plan::ContainerKind;
use crate::store::status::{ContainerState, ContainerStatus, PodStatus, STOPPED};

/// A table of pods.
pub fn table(pods: &[PodView], scope: &Scope, wide: bool) -> Table {
    let mut heads = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
    if scope.all_namespaces {
        heads.insert(0, "NAMESPACE");
    }
    if wide {
        heads.extend(["IP", "CPUS", "MEMORY"]);
    }
    // Few pods publish any, and lines are long enough.
    let with_ports = wide && pods.iter().any(|pod| !pod.spec.published().is_empty());
    if with_ports {
        heads.push("PORTS");
    }
    let mut table = Table::new(&heads);
    for pod in pods {
        let mut row = cells(pod, scope, wide);
        if with_ports {
            row.push(published(pod));
        }
        table.row(row);
    }
    table
}

fn published(pod: &PodView) -> String {
    let ports = pod.spec.published();
    let texts: Vec<String> = ports.iter().map(ToString::to_string).collect();
    if texts.is_empty() {
        "<none>".to_owned()
    } else {
        texts.join(",")
    }
}

/// A pod's line.
pub fn cells(pod: &PodView, scope: &Scope, wide: bool) -> Vec<String> {
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
    // Whatever its containers were at, and however they took it.
    if status.phase.is_end()
        && status.deleted.is_some()
        && status.reason.as_deref() == Some(STOPPED)
    {
        return STOPPED.to_owned();
    }
    let mut word = match &status.reason {
        // These words are Beluga's own: who knows kubectl's needs the phase with them.
        Some(reason) if is_machines(reason, status) => format!("{}:{reason}", status.phase),
        Some(reason) => reason.clone(),
        None => status.phase.to_string(),
    };
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

/// Whether a reason is how the pod's machine ended.
fn is_machines(reason: &str, status: &PodStatus) -> bool {
    let end = status.vm_end.as_ref();
    end.is_some_and(|end| [machine::reason(end), "HostRestarted"].contains(&reason))
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
