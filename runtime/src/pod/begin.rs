//! How a supervisor comes to its pod: it starts it, or takes it over.

use super::boot;
use super::now;
use super::supervisor::{Message, Supervisor, after};
use crate::cni;
use crate::host::cgroup;
use crate::machine::Machine;
use crate::machine::control::Control;
use crate::plan::HostStep;
use crate::store::Life;
use crate::store::status::EventKind;
use std::time::Duration;

/// How long an agent that does not come, or output that does not end, keeps
/// clients waiting after a takeover.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(5);

/// From a start to its being over for good.
const SHED_AFTER: Duration = Duration::from_secs(3);

impl Supervisor {
    /// Makes the host objects and starts the VM; whether it runs.
    pub(super) fn start(&mut self) -> bool {
        let booted = boot::boot(&self.settings, &self.plan);
        match booted.and_then(|booted| {
            self.control = Some(Control::connect(&boot::control_path(
                &self.settings,
                &self.plan,
            ))?);
            Ok(booted)
        }) {
            Ok(booted) => {
                self.record.vmm = Some(booted.machine.process);
                self.record.state.status.receipt.extend(booted.receipt);
                for warning in booted.warnings {
                    self.warn("HostLimits", warning);
                }
                self.watch_machine(booted.machine);
                self.keep_shares(booted.shares);
                self.watch_rules();
                self.boot_deadline = Some(after(now(), self.settings.boot_timeout));
                self.is_dirty = true;
                true
            }
            Err(error) => {
                self.vm_ended("StartFailed", crate::error_chain(&error));
                false
            }
        }
    }

    /// Takes a pod over from a supervisor that died; whether its VM runs.
    pub(super) fn take_over(&mut self) -> bool {
        let machine = self.record.vmm.and_then(Machine::adopt);
        for step in &self.plan.host {
            if let HostStep::Cgroup(plan) = step {
                let _ = cgroup::enter(&plan.path);
            }
        }
        match (self.record.life, machine) {
            (Life::Running, Some(machine)) => {
                let path = boot::control_path(&self.settings, &self.plan);
                match Control::connect(&path) {
                    Ok(control) => {
                        self.control = Some(control);
                        self.watch_machine(machine);
                        self.adopt_shares();
                        self.catching_up = Some(after(now(), CATCH_UP_PATIENCE));
                        let message = "A new supervisor has taken the pod over".to_owned();
                        self.event(EventKind::Normal, "Adopted", message);
                        self.watch_rules();
                        self.check_networks();
                        true
                    }
                    Err(error) => {
                        self.machine = Some(machine);
                        self.vm_ended("SupervisorLost", crate::error_chain(&error));
                        false
                    }
                }
            }
            (Life::Starting, machine) => {
                self.machine = machine;
                self.vm_ended(
                    "SupervisorLost",
                    "The pod's supervisor was killed while the pod was being started; \
                     what had been made was undone"
                        .to_owned(),
                );
                false
            }
            (_, machine) => {
                self.machine = machine;
                false
            }
        }
    }

    /// Asks the plugins that made the pod's networks whether they are as they
    /// made them: nobody may have looked after them for a while.
    fn check_networks(&self) {
        let (settings, uid) = (self.settings.clone(), self.plan.identity.uid.clone());
        let check = move || cni::check(&settings, &uid).err();
        self.later(async move {
            let checked = tokio::task::spawn_blocking(check).await;
            let wrong = checked.ok().flatten();
            Message::NetworksChecked(wrong.map(|error| crate::error_chain(&error)))
        });
    }

    pub(super) fn networks_checked(&mut self, wrong: Option<String>) {
        if let Some(why) = wrong {
            self.warn("NetworkChanged", why);
        }
    }

    /// Lets clients in once what happened while there was no supervisor is on
    /// record: the agent tells it before it says what runs. Their first look is
    /// as true as any later one.
    pub(super) fn catch_up(&mut self) {
        // An end is told when all of the run's output is in the log.
        let is_done = self.is_listed && self.runs.deadline().is_none();
        let is_over = |until: u64| is_done || until <= now().boot;
        if self.catching_up.is_some_and(is_over) {
            self.catching_up = None;
        }
    }

    /// Gives back what only the beginning needed, when it is over.
    pub(super) fn shed(&self) {
        self.later(async {
            tokio::time::sleep(SHED_AFTER).await;
            Message::Shed
        });
    }

    pub(super) fn watch_machine(&mut self, machine: Machine) {
        self.exit_watch = machine.pidfd.try_clone().and_then(crate::sys::watch).ok();
        self.machine = Some(machine);
    }
}
