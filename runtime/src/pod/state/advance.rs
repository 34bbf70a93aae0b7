//! How a pod moves on: init containers in order, then the apps, then the end.

use super::{Action, Now, PodState, Run, Slot, Stage};
use crate::plan::ContainerKind;
use crate::store::status::ContainerState;
use std::time::Duration;

impl PodState {
    /// Moves on as far as the state allows.
    pub(super) fn advance(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.advance_rollout(now, actions);
        if self.stage == Stage::Init {
            self.advance_init(now, actions);
        }
        if self.stage == Stage::Running {
            let apps = |slot: &&Slot| slot.kind == ContainerKind::App;
            let mut apps = self.slots.iter().filter(apps);
            if !self.is_sandbox && apps.all(|slot| slot.run == Run::Over) {
                self.begin_stop(Duration::from_secs(u64::from(self.grace_seconds)), now);
            } else {
                self.start_due(now, actions, |_| true);
            }
        }
        self.advance_doomed(now, actions);
        if matches!(self.stage, Stage::Stopping { .. }) {
            self.advance_stop(now, actions);
        }
    }

    fn advance_init(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.start_due(now, actions, |slot| {
            match slot.kind {
                ContainerKind::Sidecar => slot.was_started,
                // Somebody wants to look at this very stage.
                ContainerKind::Ephemeral => true,
                ContainerKind::Init | ContainerKind::App => false,
            }
        });
        let next = self
            .slots
            .iter()
            .position(|slot| slot.kind != ContainerKind::App && !slot.lets_others_start());
        match next {
            None => {
                self.stage = Stage::Running;
                for status in &mut self.status.containers {
                    if let ContainerState::Waiting { reason, .. } = &mut status.state
                        && reason == "PodInitializing"
                    {
                        "ContainerCreating".clone_into(reason);
                    }
                }
            }
            Some(index) if self.slots[index].run == Run::Over => {
                let name = &self.status.containers[index].name;
                self.status.reason = Some("InitContainerFailed".to_owned());
                self.status.message = Some(format!(
                    "The init container {name} failed and is not run again"
                ));
                self.begin_stop(Duration::from_secs(u64::from(self.grace_seconds)), now);
            }
            Some(index) => self.start_if_due(index, now, actions),
        }
    }

    fn start_due(&mut self, now: Now, actions: &mut Vec<Action>, which: impl Fn(&Slot) -> bool) {
        for index in 0..self.slots.len() {
            if self.slots[index].kind != ContainerKind::Init && which(&self.slots[index]) {
                self.start_if_due(index, now, actions);
            }
        }
    }

    fn start_if_due(&mut self, index: usize, now: Now, actions: &mut Vec<Action>) {
        let slot = &mut self.slots[index];
        let is_due = match slot.run {
            Run::Idle => !slot.is_held && !slot.is_waiting,
            Run::Waiting { until } => until <= now.boot,
            Run::Starting | Run::Running | Run::Over => false,
        };
        if !is_due {
            return;
        }
        let status = &mut self.status.containers[index];
        if let Some(id) = slot.id.take() {
            actions.push(Action::Remove { id });
            status.restarts = status.restarts.saturating_add(1);
        }
        let id = crate::pod::random_container_id();
        slot.begin_run(id.clone());
        if let Some((image, image_id)) = slot.turn() {
            (status.image, status.image_id) = (image, image_id);
        }
        status.id = Some(id.clone());
        actions.push(Action::Start { index, id });
    }
}
