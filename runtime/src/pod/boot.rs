//! From a plan to a VMM process: host steps, then the machine.

use super::supervisor::SupervisorError;
use crate::host::share::ServerProcess;
use crate::host::{self, Made};
use crate::machine::{self, Files, Given, Machine, control};
use crate::plan::{HostStep, Plan};
use crate::settings::Settings;
use crate::store::status::ReceiptLine;
use std::path::PathBuf;
use std::time::Instant;

/// A VM that has been started.
#[derive(Debug)]
pub(super) struct Booted {
    pub(super) machine: Machine,
    pub(super) shares: Vec<ServerProcess>,
    pub(super) receipt: Vec<ReceiptLine>,
    pub(super) warnings: Vec<String>,
}

/// Where a pod's VMM leaves its exit record.
pub(super) fn exit_record(settings: &Settings, plan: &Plan) -> PathBuf {
    settings.pod_dir(&plan.identity.uid).join("exit.json")
}

/// Where a pod's VMM listens.
pub(super) fn control_path(settings: &Settings, plan: &Plan) -> PathBuf {
    settings.run_dir(&plan.identity.uid).join("vmm.sock")
}

/// Makes the host objects and starts the VMM. On an error everything that was
/// made is undone by its guard.
pub(super) fn boot(settings: &Settings, plan: &Plan) -> Result<Booted, SupervisorError> {
    let parts = settings.parts()?;
    let mut guards = Vec::with_capacity(plan.host.len());
    // Dropped before the guards: what runs in the cgroup ends before it goes.
    let mut made = Made::default();
    let mut receipt: Vec<ReceiptLine> = Vec::new();
    for step in &plan.host {
        let started = Instant::now();
        guards.push(host::apply(settings, step, &mut made)?);
        let phase = match step {
            HostStep::Bridge { .. }
            | HostStep::Tap { .. }
            | HostStep::Guard { .. }
            | HostStep::Pasta(_)
            | HostStep::Carry { .. }
            | HostStep::Publish { .. } => "net",
            HostStep::Scratch { .. } | HostStep::Disk(_) => "disk",
            HostStep::Directory { .. } | HostStep::Cgroup(_) => "host",
            HostStep::Share(_) | HostStep::Mounts { .. } => "share",
        };
        add(&mut receipt, phase, started);
    }
    let listener = control::listen(&control_path(settings, plan))?;
    let uid = &plan.identity.uid;
    let files = Files {
        vmm: parts.vmm,
        log: settings.pod_dir(uid).join("vmm.log"),
        exit_record: exit_record(settings, plan),
    };
    let (mut servers, mut processes) = (Vec::new(), Vec::new());
    for share in std::mem::take(&mut made.shares) {
        servers.push((share.tag, share.server));
        processes.push(share.process);
    }
    let given = Given {
        taps: std::mem::take(&mut made.taps),
        shares: servers,
        control: listener,
    };
    let machine = machine::spawn(&plan.vm, uid, &files, given)?;
    guards.into_iter().for_each(host::Guard::keep);
    Ok(Booted {
        machine,
        shares: processes,
        receipt,
        warnings: std::mem::take(&mut made.warnings),
    })
}

fn add(receipt: &mut Vec<ReceiptLine>, phase: &str, started: Instant) {
    let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    match receipt.iter_mut().find(|line| line.phase == phase) {
        Some(line) => line.wall_nanos = line.wall_nanos.saturating_add(nanos),
        None => receipt.push(ReceiptLine {
            phase: phase.to_owned(),
            wall_nanos: nanos,
            cpu_nanos: None,
        }),
    }
}
