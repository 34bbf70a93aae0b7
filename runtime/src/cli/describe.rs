//! `beluga describe`: everything about a pod, for people; in [`objects`] and
//! [`workloads`] about what is not one.

mod container;

use super::events as words;
use super::page::{Page, pairs};
use super::pods::{self, Scope};
use super::resource::{self, Asked, Kind};
use super::table::Table;
use super::{CliError, error, get, objects, time, workloads};
use crate::engine::{self, PodView};
use crate::printable;
use crate::settings::Settings;
use crate::spec::{Bytes, Medium, VolumeSource};
use crate::store::status::{BOOT_TIMEOUT, PodStatus, VmEnd};
use beluga_proto::{ExitCause, Stamp};
use container::container;
use serde_json::Value;

/// Arguments of `describe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `pod NAME…`, `TYPE/NAME…`; all of the type without names
    #[arg(required = true, value_name = "TYPE [NAME]")]
    what: Vec<String>,
    #[command(flatten)]
    scope: Scope,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let asked = resource::asked(&args.what)?.unwrap_or_else(|| {
        vec![Asked {
            kind: Kind::Pod,
            names: args.what.clone(),
        }]
    });
    let scope = &args.scope;
    let all = engine::list(settings).await?;
    let mut errors = Vec::new();
    let mut is_first = true;
    for Asked { kind, names } in &asked {
        let pages = match *kind {
            Kind::Pod => pages(&all, scope, names),
            Kind::Object(kind) => objects::describe(settings, scope, kind, names)?,
            Kind::Workload(kind) => workloads::describe(settings, scope, kind, names, &all)?,
        };
        let is_absent = |name: &&String| !pages.iter().any(|(found, _)| found == *name);
        let absent = names.iter().filter(is_absent);
        errors.extend(absent.map(|name| pods::absent(settings, *kind, &scope.namespace, name)));
        for (_, page) in &pages {
            if !std::mem::take(&mut is_first) {
                say!("\n");
            }
            for line in &page.0 {
                say!("{}", line.trim_end());
            }
        }
    }
    if is_first && errors.is_empty() {
        objects::tell_none(scope);
    }
    error::all(errors)
}

/// A page for each pod that is meant, by its name.
fn pages(all: &[PodView], scope: &Scope, names: &[String]) -> Vec<(String, Page)> {
    let is_meant =
        |pod: &&PodView| scope.has(pod) && (names.is_empty() || names.contains(&pod.name));
    let chosen = all.iter().filter(is_meant);
    chosen
        .map(|pod| (pod.name.clone(), describe(pod)))
        .collect()
}

fn describe(pod: &PodView) -> Page {
    let mut page = Page(Vec::new());
    let status = &pod.status;
    page.field(0, "Name", &pod.name);
    page.field(0, "Namespace", &pod.namespace);
    page.field(0, "UID", pod.uid.as_str());
    page.field(0, "Created", time::rfc3339(status.created));
    page.optional(0, "Start Time", status.started.map(time::rfc3339).as_ref());
    page.optional(0, "End Time", status.finished.map(time::rfc3339).as_ref());
    page.list(0, "Labels", &pairs(&pod.spec.labels));
    page.list(0, "Annotations", &pairs(&pod.spec.annotations));
    let shown = get::status(pod);
    let phase = status.phase.to_string();
    // `Failed:CannotBoot` says nothing that the reason below does not.
    let line = if shown.starts_with(&phase) {
        phase
    } else {
        format!("{phase} ({shown})")
    };
    page.field(0, "Status", line);
    page.optional(0, "Reason", status.reason.as_ref());
    page.optional(0, "Message", status.message.as_ref());
    page.optional(0, "Try", status.advice.as_ref());
    let ips: Vec<String> = status.ips.iter().map(ToString::to_string).collect();
    page.list(0, "IP", &ips);
    dropped(&mut page, pod);
    page.field(0, "QoS Class", pod.spec.quality());
    let tenant = pod.plan.as_ref().and_then(|plan| plan.tenant);
    page.optional(0, "Profile", tenant.map(|one| one.to_string()).as_ref());
    page.field(0, "Grace Period", format!("{}s", pod.spec.grace_seconds));
    machine(&mut page, pod);
    for (name, containers) in [
        ("Init Containers", &pod.spec.init_containers),
        ("Containers", &pod.spec.containers),
        ("Ephemeral Containers", &pod.spec.ephemeral_containers),
    ] {
        if !containers.is_empty() {
            page.head(name);
            for spec in containers {
                let now = status.containers.iter().find(|one| one.name == spec.name);
                container(&mut page, spec, now);
            }
        }
    }
    let mut conditions = Table::new(&["Type", "Status"]);
    for (name, holds) in pod.conditions() {
        let word = if holds { "True" } else { "False" };
        conditions.row(vec![name.into(), word.into()]);
    }
    for (name, given) in &pod.spec.conditions {
        conditions.row(vec![name.clone(), given.status.clone()]);
    }
    if !pod.spec.readiness_gates.is_empty() {
        page.table("Readiness Gates", &gates(pod));
    }
    page.table("Conditions", &conditions);
    volumes(&mut page, pod);
    receipt(&mut page, pod);
    end(&mut page, pod);
    events(&mut page, pod);
    page
}

/// What the pod's readiness waits for besides its containers.
fn gates(pod: &PodView) -> Table {
    let mut table = Table::new(&["Type", "Status"]);
    for gate in &pod.spec.readiness_gates {
        let given = pod.spec.conditions.get(gate);
        let status = given.map_or("<none>", |given| given.status.as_str());
        table.row(vec![gate.clone(), status.to_owned()]);
    }
    table
}

/// Frames that were not the pod's to send: foreign cards, foreign addresses.
fn dropped(page: &mut Page, pod: &PodView) {
    let network = pod.plan.iter().flat_map(|plan| &plan.identity.network);
    let taps = network.map(|own| crate::host::rules::dropped(&own.tap).ok());
    let carried = pod.plan.iter().flat_map(|plan| &plan.identity.carried);
    let cards = carried.flat_map(|all| all.cards.iter().map(move |card| (&all.netns, &card.tap)));
    let cards = cards.map(|(netns, tap)| crate::host::carry::dropped(netns, tap).ok());
    // The tables are gone with the pod.
    let count: u64 = taps.chain(cards).flatten().sum();
    if count > 0 {
        let line = format!("{count} dropped, sent with a foreign MAC or IP address");
        page.field(0, "Packets", line);
    }
}

fn machine(page: &mut Page, pod: &PodView) {
    let Some(plan) = &pod.plan else { return };
    let vm = &plan.vm;
    page.head("Machine");
    page.field(
        2,
        "CPUs",
        format!("{} ({})", vm.vcpus, vm.sizing.cpu_line(vm.vcpus)),
    );
    page.field(
        2,
        "Memory",
        format!(
            "{}Mi ({})",
            vm.memory_mib,
            vm.sizing.memory_line(vm.memory_mib)
        ),
    );
    let size = |id: &str| -> u64 {
        let disks = vm.disks.iter().filter(|disk| disk.id == id);
        disks
            .flat_map(|disk| &disk.extents)
            .map(|extent| extent.length)
            .sum()
    };
    page.field(2, "Scratch", Bytes(size("scratch")).to_string());
    page.field(
        2,
        "Layers",
        format!("{} ({})", plan.layers.len(), Bytes(size("layers"))),
    );
}

fn volumes(page: &mut Page, pod: &PodView) {
    if pod.spec.volumes.is_empty() {
        page.field(0, "Volumes", "<none>");
        return;
    }
    page.head("Volumes");
    for volume in &pod.spec.volumes {
        let text = match &volume.source {
            VolumeSource::EmptyDir { medium, size_limit } => {
                let medium = match medium {
                    Medium::Disk => "on the scratch disk",
                    Medium::Memory => "in memory",
                };
                let limit = size_limit.map_or("no limit".into(), |bytes| Bytes(bytes).to_string());
                format!("emptyDir, {medium}, {limit}")
            }
            VolumeSource::Files { sources, .. } => objects::sources(sources),
            VolumeSource::Claim { name, read_only } => {
                let access = if *read_only { ", read-only" } else { "" };
                format!("persistentVolumeClaim {name}{access}")
            }
            VolumeSource::Ephemeral { claim } => format!(
                "ephemeral, a disk of its own, {}, {}",
                Bytes(claim.bytes),
                claim.volume_mode()
            ),
            VolumeSource::HostPath { path, kind } => match kind.word() {
                "" => format!("hostPath {path}"),
                word => format!("hostPath {path} ({word})"),
            },
            VolumeSource::Image { image, .. } => format!("image {image}"),
        };
        page.field(2, &volume.name, text);
    }
}

fn receipt(page: &mut Page, pod: &PodView) {
    if pod.status.receipt.is_empty() {
        return;
    }
    let mut table = Table::new(&["Phase", "Time", "CPU"]);
    let mut total = 0u64;
    for line in &pod.status.receipt {
        total = total.saturating_add(line.wall_nanos);
        let cpu = line.cpu_nanos.map_or("-".into(), time::short);
        table.row(vec![line.phase.clone(), time::short(line.wall_nanos), cpu]);
    }
    table.row(vec!["total".into(), time::short(total), String::new()]);
    page.table("Start", &table);
}

fn end(page: &mut Page, pod: &PodView) {
    let Some(end) = &pod.status.vm_end else {
        return;
    };
    page.head("Machine End");
    let cause = end.cause.and_then(|cause| serde_json::to_value(cause).ok());
    let cause = match &cause {
        Some(Value::String(word)) => word.as_str(),
        _ => "killed, it left no record",
    };
    page.field(2, "Cause", cause);
    page.field(2, "Detail", &end.detail);
    if let Some(stamp) = end.last_stamp {
        page.field(2, "Reached", format!("{stamp:?}"));
    }
    let console = tail(&end.console);
    if !console.is_empty() && !is_orderly(&pod.status, end) {
        page.0.push("  Console:".into());
        page.0.extend(
            console
                .iter()
                .map(|line| format!("    {}", printable(line))),
        );
    }
}

/// Whether a machine ended because it was asked to, or said so itself: then
/// its console tells nothing, but of one that was ended because it hung.
pub fn is_orderly(status: &PodStatus, end: &VmEnd) -> bool {
    let is_hung = status.reason.as_deref() == Some(BOOT_TIMEOUT);
    !is_hung
        && matches!(end.cause, Some(ExitCause::Stopped | ExitCause::GuestEnded))
        && end.last_stamp != Some(Stamp::EndAgentFault)
}

/// The last lines of a console.
pub fn tail(console: &str) -> Vec<&str> {
    const LINES: usize = 20;
    let lines: Vec<&str> = console.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

fn events(page: &mut Page, pod: &PodView) {
    if pod.status.events.is_empty() {
        page.field(0, "Events", "<none>");
        return;
    }
    let mut table = Table::new(&["Type", "Reason", "Age", "Message"]);
    for event in &pod.status.events {
        table.row(vec![
            words::word(event.kind).into(),
            event.reason.clone(),
            words::age(event),
            event.message.clone(),
        ]);
    }
    page.table("Events", &table);
}
