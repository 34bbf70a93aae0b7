//! `beluga describe pod`: everything about a pod, for people.

use super::events as words;
use super::pods::{self, Scope};
use super::table::{Table, printable};
use super::{CliError, exit, get, objects, time, workloads};
use crate::engine::PodView;
use crate::settings::Settings;
use crate::spec::{Bytes, Container, Medium, VolumeSource};
use crate::store::status::{ContainerState, ContainerStatus, Termination, VmEnd};
use beluga_proto::{ExitCause, Stamp};
use serde_json::Value;

/// Blanks before what follows a head.
const WIDTH: usize = 18;

/// Arguments of `describe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `pod NAME…` or `pod/NAME…`; all pods without names
    #[arg(required = true, value_name = "TYPE [NAME]")]
    what: Vec<String>,
    #[command(flatten)]
    scope: Scope,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    if let Some((kind, names)) = workloads::named(&args.what)? {
        return workloads::describe(settings, &args.scope, kind, &names).await;
    }
    let names = pods::names(&args.what)?;
    let all = pods::all(settings, &args.scope).await?;
    let chosen: Vec<&PodView> = all
        .iter()
        .filter(|pod| names.is_empty() || names.contains(&pod.name))
        .collect();
    for (at, pod) in chosen.iter().enumerate() {
        if at > 0 {
            say!("\n");
        }
        for line in describe(pod) {
            say!("{}", line.trim_end());
        }
    }
    match names
        .iter()
        .find(|name| !chosen.iter().any(|pod| pod.name == **name))
    {
        Some(name) => Err(CliError::NotFound {
            what: "pod",
            name: name.clone(),
        }),
        None => Ok(exit::OK),
    }
}

/// Lines of a description.
pub struct Page(pub Vec<String>);

impl Page {
    /// A line: the head, then its value.
    pub fn field(&mut self, indent: usize, name: &str, value: impl AsRef<str>) {
        let head = format!("{}{name}:", " ".repeat(indent));
        let value = printable(value.as_ref());
        self.0.push(format!("{head:<WIDTH$} {value}"));
    }

    fn optional(&mut self, indent: usize, name: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.field(indent, name, value);
        }
    }

    /// A head with its first value beside it and the others below.
    pub fn list(&mut self, indent: usize, name: &str, values: &[String]) {
        self.field(
            indent,
            name,
            values.first().map_or("<none>", String::as_str),
        );
        for value in values.iter().skip(1) {
            self.0.push(format!("{:WIDTH$} {}", "", printable(value)));
        }
    }

    fn head(&mut self, name: &str) {
        self.0.push(format!("{name}:"));
    }

    /// A head with a table below.
    pub fn table(&mut self, name: &str, table: &Table) {
        self.head(name);
        self.0.extend(table.lines(2));
    }
}

fn describe(pod: &PodView) -> Vec<String> {
    let mut page = Page(Vec::new());
    let status = &pod.status;
    let pairs = |map: &std::collections::BTreeMap<String, String>| -> Vec<String> {
        map.iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    };
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
    let line = if shown == phase {
        phase
    } else {
        format!("{phase} ({shown})")
    };
    page.field(0, "Status", line);
    page.optional(0, "Reason", status.reason.as_ref());
    page.optional(0, "Message", status.message.as_ref());
    let ips: Vec<String> = status.ips.iter().map(ToString::to_string).collect();
    page.list(0, "IP", &ips);
    page.field(0, "QoS Class", pod.spec.quality());
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
    for (name, holds) in status.conditions() {
        let word = if holds { "True" } else { "False" };
        conditions.row(vec![name.into(), word.into()]);
    }
    page.table("Conditions", &conditions);
    volumes(&mut page, pod);
    receipt(&mut page, pod);
    end(&mut page, pod);
    events(&mut page, pod);
    page.0
}

fn machine(page: &mut Page, pod: &PodView) {
    let Some(plan) = &pod.plan else { return };
    let vm = &plan.vm;
    page.head("Machine");
    page.field(
        2,
        "CPUs",
        format!("{} ({})", vm.vcpus, vm.sizing.cpu_line()),
    );
    page.field(
        2,
        "Memory",
        format!("{}Mi ({})", vm.memory_mib, vm.sizing.memory_line()),
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

fn container(page: &mut Page, spec: &Container, now: Option<&ContainerStatus>) {
    page.0.push(format!("  {}:", spec.name));
    let id = now.and_then(|now| now.id.as_ref());
    page.optional(
        4,
        "Container ID",
        id.map(|id| format!("beluga://{id}")).as_ref(),
    );
    page.field(4, "Image", &spec.image);
    page.optional(4, "Image ID", now.map(|now| &now.image_id));
    page.optional(4, "Target", spec.target.as_ref());
    if spec.sidecar {
        page.field(4, "Restart Policy", "Always (sidecar)");
    }
    let ports: Vec<String> = spec
        .ports
        .iter()
        .map(|port| {
            let name = port.name.as_ref().map(|name| format!(" ({name})"));
            format!(
                "{}/{}{}",
                port.port,
                port.protocol,
                name.unwrap_or_default()
            )
        })
        .collect();
    page.field(
        4,
        "Ports",
        if ports.is_empty() {
            "<none>".into()
        } else {
            ports.join(", ")
        },
    );
    for (name, words) in [("Command", &spec.command), ("Args", &spec.args)] {
        if !words.is_empty() {
            page.field(4, name, quoted(words));
        }
    }
    if let Some(now) = now {
        state(page, "State", &now.state);
        if let Some(end) = &now.last_termination {
            page.field(4, "Last State", "Terminated");
            termination(page, end);
        }
        page.field(4, "Ready", if now.ready { "True" } else { "False" });
        page.field(4, "Restart Count", now.restarts.to_string());
    }
    amounts(page, spec);
    page.optional(4, "Resizing", now.and_then(|now| now.resizing.as_ref()));
    probes(page, spec);
    let env: Vec<String> = spec
        .env
        .iter()
        .map(|(name, value)| objects::variable(name, value))
        .collect();
    page.list(4, "Environment", &env);
    let from: Vec<String> = spec.env_from.iter().map(objects::all_keys).collect();
    if !from.is_empty() {
        page.list(4, "Environment from", &from);
    }
    let mounts: Vec<String> = spec
        .mounts
        .iter()
        .map(|mount| {
            let access = if mount.read_only { "ro" } else { "rw" };
            let sub = mount.sub_path.as_ref().map(|path| format!(", path={path}"));
            format!(
                "{} from {} ({access}{})",
                mount.path,
                mount.volume,
                sub.unwrap_or_default()
            )
        })
        .collect();
    page.list(4, "Mounts", &mounts);
}

/// Words as a shell would take them back.
fn quoted(words: &[String]) -> String {
    let safe = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    let quote = |word: &String| {
        if !word.is_empty() && word.chars().all(safe) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''").replace('\n', "⏎"))
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

fn state(page: &mut Page, name: &str, state: &ContainerState) {
    match state {
        ContainerState::Waiting { reason, message } => {
            page.field(4, name, "Waiting");
            page.field(6, "Reason", reason);
            page.optional(6, "Message", message.as_ref());
        }
        ContainerState::Running { started } => {
            page.field(4, name, "Running");
            page.field(6, "Started", time::rfc3339(*started));
        }
        ContainerState::Terminated(end) => {
            page.field(4, name, "Terminated");
            termination(page, end);
        }
    }
}

fn termination(page: &mut Page, end: &Termination) {
    page.field(6, "Reason", &end.reason);
    page.optional(6, "Message", end.message.as_ref());
    page.field(6, "Exit Code", end.exit_code.to_string());
    if let Some(signal) = end.signal {
        page.field(6, "Signal", signal.to_string());
    }
    page.optional(6, "Started", end.started.map(time::rfc3339).as_ref());
    page.field(6, "Finished", time::rfc3339(end.finished));
}

/// Probes in kubectl's words.
fn probes(page: &mut Page, spec: &Container) {
    let probes = &spec.probes;
    for (name, probe) in [
        ("Liveness", &probes.liveness),
        ("Readiness", &probes.readiness),
        ("Startup", &probes.startup),
    ] {
        if let Some(probe) = probe {
            page.field(
                4,
                name,
                format!(
                    "{} delay={}s timeout={}s period={}s #success={} #failure={}",
                    probe.target,
                    probe.initial_delay_seconds,
                    probe.timeout_seconds,
                    probe.period_seconds,
                    probe.success_threshold,
                    probe.failure_threshold
                ),
            );
        }
    }
}

fn amounts(page: &mut Page, spec: &Container) {
    let resources = &spec.resources;
    let rows = [
        (
            "Limits",
            resources.cpu_limit_milli,
            resources.memory_limit,
            resources.storage_limit,
        ),
        (
            "Requests",
            resources.cpu_request_milli,
            resources.memory_request,
            resources.storage_request,
        ),
    ];
    for (name, cpu, memory, storage) in rows {
        let mut parts = Vec::new();
        parts.extend(cpu.map(|milli| format!("cpu {}", crate::plan::milli_cpus(milli))));
        parts.extend(memory.map(|bytes| format!("memory {}", Bytes(bytes))));
        parts.extend(storage.map(|bytes| format!("ephemeral-storage {}", Bytes(bytes))));
        if !parts.is_empty() {
            page.field(4, name, parts.join(", "));
        }
    }
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
            VolumeSource::HostPath { path, kind } => match kind.word() {
                "" => format!("hostPath {path}"),
                word => format!("hostPath {path} ({word})"),
            },
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
    if !console.is_empty() && !is_orderly(end) {
        page.0.push("  Console:".into());
        page.0.extend(
            console
                .iter()
                .map(|line| format!("    {}", printable(line))),
        );
    }
}

/// Whether a machine ended because it was asked to, or said so itself: then
/// its console tells nothing.
pub fn is_orderly(end: &VmEnd) -> bool {
    matches!(end.cause, Some(ExitCause::Stopped | ExitCause::GuestEnded))
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
