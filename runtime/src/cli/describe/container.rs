//! A container of a described pod.

use crate::cli::page::Page;
use crate::cli::{objects, time};
use crate::spec::{Bytes, Container, VolumeMount};
use crate::store::status::{ContainerState, ContainerStatus, Termination};

pub(super) fn container(page: &mut Page, spec: &Container, now: Option<&ContainerStatus>) {
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
    ports(page, spec);
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
    let mounts: Vec<String> = spec.mounts.iter().map(mount).collect();
    page.list(4, "Mounts", &mounts);
    let devices = spec.devices.iter();
    let devices: Vec<String> = devices
        .map(|device| format!("{} from {}", device.path, device.volume))
        .collect();
    if !devices.is_empty() {
        page.list(4, "Devices", &devices);
    }
}

fn ports(page: &mut Page, spec: &Container) {
    let ports = spec.ports.iter().map(|port| {
        let name = port.name.as_ref().map(|name| format!(" ({name})"));
        let name = name.unwrap_or_default();
        format!("{}/{}{name}", port.port, port.protocol)
    });
    let ports: Vec<String> = ports.collect();
    let none = || "<none>".into();
    let ports = (!ports.is_empty()).then(|| ports.join(", "));
    page.field(4, "Ports", ports.unwrap_or_else(none));
    let published = spec.ports.iter().filter_map(|port| port.published());
    let host: Vec<String> = published.map(|port| port.at()).collect();
    if !host.is_empty() {
        page.field(4, "Host Ports", host.join(", "));
    }
}

fn mount(mount: &VolumeMount) -> String {
    let access = if mount.read_only { "ro" } else { "rw" };
    let sub = mount.sub_path.as_ref().map(|path| format!(", path={path}"));
    let sub = sub.unwrap_or_default();
    format!("{} from {} ({access}{sub})", mount.path, mount.volume)
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
