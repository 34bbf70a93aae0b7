//! How a pod ends: everybody is asked, then killed; or its VM ends under it.

use super::super::container::Hook;
use super::life::LEAST_WINDOW;
use super::{Action, Now, PodState, Run, SIGKILL, Slot, Stage};
use crate::plan::ContainerKind;
use crate::store::status::{ContainerState, EventKind, STOPPED, Termination, UNKNOWN};
use std::time::Duration;

/// How long after SIGKILL a container may take to be reported as ended before
/// the VM is ended over its head.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl PodState {
    pub(super) fn stop(&mut self, grace: Duration, now: Now) {
        self.status.deleted.get_or_insert(now.unix);
        match &mut self.stage {
            Stage::Booting => {
                self.status.reason = Some(STOPPED.to_owned());
                self.stage = Stage::Over;
            }
            Stage::Over => {}
            // A second, more impatient request shortens the first.
            Stage::Stopping { kill_at, killed } => {
                if !*killed {
                    *kill_at = (*kill_at).min(now.after(grace));
                }
            }
            Stage::Init | Stage::Running => self.begin_stop(grace, now),
        }
    }

    pub(super) fn begin_stop(&mut self, grace: Duration, now: Now) {
        self.stage = Stage::Stopping {
            kill_at: now.after(grace),
            killed: false,
        };
        for (slot, status) in self.slots.iter_mut().zip(&mut self.status.containers) {
            if matches!(slot.run, Run::Waiting { .. }) {
                // It will not run again: its last end is its end.
                slot.run = Run::Over;
                if let Some(end) = status.last_termination.clone() {
                    status.state = ContainerState::Terminated(end);
                }
            }
        }
    }

    pub(super) fn vm_ended(&mut self, reason: String, message: String, now: Now) {
        if self.stage == Stage::Over {
            return;
        }
        for (slot, status) in self.slots.iter_mut().zip(&mut self.status.containers) {
            if slot.run == Run::Over {
                continue;
            }
            let started = match status.state {
                ContainerState::Running { started } => Some(started),
                _ => None,
            };
            // One that waits to run again has ended already.
            let ended = match &status.state {
                ContainerState::Terminated(end) => Some(end.clone()),
                _ => status.last_termination.clone(),
            };
            let ended = ended.filter(|_| !slot.is_alive());
            status.state = ContainerState::Terminated(ended.unwrap_or_else(|| Termination {
                exit_code: 128 + SIGKILL,
                signal: None,
                reason: UNKNOWN.to_owned(),
                message: Some("The pod's virtual machine ended".to_owned()),
                started,
                finished: now.unix,
                id: slot.id.clone(),
            }));
            status.started = false;
            status.ready = false;
            slot.run = Run::Over;
        }
        self.status
            .push_event(now.unix, EventKind::Warning, &reason, message.clone());
        self.status.reason = Some(reason);
        self.status.message = Some(message);
        self.stage = Stage::Over;
    }

    pub(super) fn advance_stop(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Stage::Stopping { kill_at, killed } = self.stage else {
            return;
        };
        if !self.slots.iter().any(Slot::is_alive) || (killed && kill_at <= now.boot) {
            self.stage = Stage::Over;
            self.give_up_on_the_living(now);
            // How its containers ended then says little: by the signal that it was asked to
            // end with.
            if self.status.deleted.is_some() && self.status.reason.is_none() {
                self.status.reason = Some(STOPPED.to_owned());
            }
            actions.push(Action::EndVm);
            return;
        }
        if kill_at <= now.boot && !self.end_hooks(killed, now, actions) {
            self.kill(now, actions);
            return;
        }
        self.begin_hooks(kill_at, killed, now, actions);
        self.signal_whose_turn_it_is(killed, actions);
    }

    /// The grace period is over, and hooks have taken all of it: their
    /// containers get the stop signal and a moment, as the kubelet has it.
    fn end_hooks(&mut self, killed: bool, now: Now, actions: &mut Vec<Action>) -> bool {
        let mut any = false;
        for slot in &mut self.slots {
            if !killed && slot.is_up() && slot.hook == Hook::PreStop && !slot.stop_sent {
                any = true;
                actions.extend(slot.id.clone().map(|id| slot.signalled(id)));
            }
        }
        if any {
            self.stage = Stage::Stopping {
                kill_at: now.after(LEAST_WINDOW),
                killed,
            };
        }
        any
    }

    fn kill(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.stage = Stage::Stopping {
            kill_at: now.after(KILL_PATIENCE),
            killed: true,
        };
        for slot in self.slots.iter().filter(|slot| slot.is_up()) {
            actions.extend(slot.id.clone().map(|id| Action::Signal {
                id,
                signal: SIGKILL,
                all: true,
            }));
        }
    }

    /// Everybody's end begins at once with the hook before the stop signal,
    /// whoever's turn it is.
    fn begin_hooks(&mut self, kill_at: u64, killed: bool, now: Now, actions: &mut Vec<Action>) {
        let mut told = Vec::new();
        for (slot, status) in self.slots.iter_mut().zip(&self.status.containers) {
            let begins = !matches!(slot.hook, Hook::PreStop | Hook::Done) && !slot.stop_sent;
            let (true, Some(id)) = (begins && slot.is_up(), slot.id.clone()) else {
                continue;
            };
            // After a kill the rest get no courtesy.
            let until = if killed { now.boot } else { kill_at };
            actions.extend(slot.begin_pre_stop(&id, until, now));
            if slot.doom.is_none() {
                told.push(format!("Stopping container {}", status.name));
            }
        }
        for message in told {
            self.status
                .push_event(now.unix, EventKind::Normal, "Killing", message);
        }
    }

    fn signal_whose_turn_it_is(&mut self, killed: bool, actions: &mut Vec<Action>) {
        let main_lives = self
            .slots
            .iter()
            .any(|slot| slot.kind != ContainerKind::Sidecar && slot.is_alive());
        let last_sidecar = self
            .slots
            .iter()
            .rposition(|slot| slot.kind == ContainerKind::Sidecar && slot.is_alive());
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let is_its_turn = if main_lives {
                slot.kind != ContainerKind::Sidecar
            } else {
                Some(index) == last_sidecar
            };
            // One that is still starting is signalled when it has started.
            if !is_its_turn || !slot.is_up() || slot.stop_sent || slot.hook == Hook::PreStop {
                continue;
            }
            let Some(id) = slot.id.clone() else { continue };
            let stop = slot.signalled(id.clone());
            actions.push(if killed {
                Action::Signal {
                    id,
                    signal: SIGKILL,
                    all: true,
                }
            } else {
                stop
            });
        }
    }

    pub(super) fn give_up_on_the_living(&mut self, now: Now) {
        for (slot, status) in self.slots.iter_mut().zip(&mut self.status.containers) {
            if slot.is_alive() {
                slot.run = Run::Over;
                status.state = ContainerState::Terminated(Termination {
                    exit_code: 128 + SIGKILL,
                    signal: Some(SIGKILL),
                    reason: "Error".to_owned(),
                    message: Some("Did not end in time; its virtual machine was ended".to_owned()),
                    started: None,
                    finished: now.unix,
                    id: slot.id.clone(),
                });
            }
        }
    }
}
