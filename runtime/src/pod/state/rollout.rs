//! Containers that are replaced by others while the pod runs.
//!
//! ```text
//!            old runs gone, new ones started          all ready
//! Forward ──────────────────────────────────► gate ─────────────► Done
//!    │                                          │ one crashed, or not ready in time
//!    └──────────── not in time ────────────────►├──────► Back ── the old ones run again ──► RolledBack
//! ```
//! A container without a readiness probe passes the gate when it has run for a
//! moment. Whatever the old run is doing, it ends as it would at its pod's end:
//! hook, signal, grace period.

use super::super::container::Face;
use super::{Action, Now, PodState, Run, Slot};
use crate::plan::ContainerKind;
use crate::store::status::{ChangeState, ChangeStatus, ContainerState, EventKind};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a container without a readiness probe must run to count as good:
/// most that cannot run at all end within it.
const MOMENT: Duration = Duration::from_secs(3);

/// A replacement under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rollout {
    generation: u64,
    parts: Vec<Part>,
    patience_nanos: u64,
    /// By `CLOCK_BOOTTIME`.
    deadline: u64,
    /// It is being undone, and why.
    back: Option<String>,
}

/// One container of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    index: usize,
    before: Face,
}

/// What can be said of a part.
enum Verdict {
    Pending,
    Good,
    Bad(String),
}

impl PodState {
    /// Begins to replace containers.
    pub(super) fn replace(
        &mut self,
        generation: u64,
        next: Vec<(usize, Face)>,
        patience: Duration,
        now: Now,
    ) {
        let mut parts = Vec::with_capacity(next.len());
        for (index, face) in next {
            let (Some(slot), Some(status)) =
                (self.slots.get_mut(index), self.status.containers.get(index))
            else {
                continue;
            };
            let before = slot.face(status.image.clone(), status.image_id.clone());
            // One that has ended for good is not run again; it is only shown.
            if slot.run != Run::Over {
                slot.turns_into(face);
                parts.push(Part { index, before });
            }
        }
        self.set_change(generation, ChangeState::Progressing, None);
        self.rollout = Some(Rollout {
            generation,
            parts,
            patience_nanos: u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX),
            deadline: now.after(patience),
            back: None,
        });
    }

    /// Whether containers are being replaced.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.rollout.is_some()
    }

    /// Whether a container has ended for good.
    #[must_use]
    pub fn is_over(&self, index: usize) -> bool {
        self.slots
            .get(index)
            .is_none_or(|slot| slot.run == Run::Over)
    }

    /// Tells how a change gets on.
    pub fn set_change(&mut self, generation: u64, state: ChangeState, message: Option<String>) {
        self.status.change = Some(ChangeStatus {
            generation,
            state,
            message,
        });
    }

    pub(super) fn rollout_wakes_at(&self) -> Option<u64> {
        let rollout = self.rollout.as_ref()?;
        let slots = rollout.parts.iter().map(|part| &self.slots[part.index]);
        let moments = slots.filter(|slot| slot.next.is_none() && slot.run == Run::Running);
        let moments = moments.filter(|slot| !slot.life.readiness);
        let moments = moments.map(Slot::settled_at);
        Some(moments.fold(rollout.deadline, u64::min))
    }

    pub(super) fn advance_rollout(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Some(mut rollout) = self.rollout.take() else {
            return;
        };
        if self.is_stopping() {
            let message = "the pod was ended meanwhile".to_owned();
            self.set_change(rollout.generation, ChangeState::RolledBack, Some(message));
            actions.push(Action::Settle);
            return;
        }
        self.make_way(&rollout, now);
        match self.verdict(&rollout, now) {
            Verdict::Pending => self.rollout = Some(rollout),
            Verdict::Good => self.settle(rollout, now, actions),
            Verdict::Bad(why) if rollout.back.is_none() => {
                self.roll_back(&mut rollout, why, now, actions);
                self.rollout = Some(rollout);
                // What can begin to go back does so now.
                self.advance_rollout(now, actions);
            }
            Verdict::Bad(why) => {
                let message = format!("what was there before does not come up either: {why}");
                self.status
                    .push_event(now.unix, EventKind::Warning, "RollbackFailed", message);
                self.settle(rollout, now, actions);
            }
        }
    }

    /// Ends old runs, and lets those that wait begin.
    fn make_way(&mut self, rollout: &Rollout, now: Now) {
        let grace = Duration::from_secs(u64::from(self.grace_seconds));
        for part in &rollout.parts {
            let slot = &mut self.slots[part.index];
            if slot.next.is_none() {
                continue;
            }
            match slot.run {
                Run::Running | Run::Starting if slot.is_up() => {
                    if slot.kind == ContainerKind::Init {
                        // It runs once: what comes after it waits for it.
                        continue;
                    }
                    let name = &self.status.containers[part.index].name;
                    // The kubelet's sentence.
                    let message = format!("Container {name} definition changed, will be restarted");
                    self.dooms(part.index, message, grace, true, now);
                }
                Run::Waiting { .. } => slot.run = Run::Waiting { until: now.boot },
                // It ended by itself while it was to be ended.
                Run::Over if slot.kind != ContainerKind::Init => {
                    slot.run = Run::Waiting { until: now.boot };
                }
                _ => {}
            }
        }
    }

    fn verdict(&self, rollout: &Rollout, now: Now) -> Verdict {
        let mut all = Verdict::Good;
        for part in &rollout.parts {
            let name = &self.status.containers[part.index].name;
            match self.verdict_of(part, now) {
                Verdict::Good => {}
                Verdict::Pending => all = Verdict::Pending,
                Verdict::Bad(why) => return Verdict::Bad(format!("container {name}: {why}")),
            }
        }
        if matches!(all, Verdict::Pending) && rollout.deadline <= now.boot {
            let seconds = Duration::from_nanos(rollout.patience_nanos).as_secs();
            let late = rollout.parts.iter().find(|part| {
                let slot = &self.slots[part.index];
                slot.next.is_some() || !self.status.containers[part.index].ready
            });
            let name = late.map(|part| self.status.containers[part.index].name.as_str());
            return Verdict::Bad(format!(
                "container {} was not ready within {seconds} s",
                name.unwrap_or_default()
            ));
        }
        all
    }

    fn verdict_of(&self, part: &Part, now: Now) -> Verdict {
        let slot = &self.slots[part.index];
        let status = &self.status.containers[part.index];
        if slot.next.is_some() {
            // An init container that has done its work does not do it again.
            return match slot.run {
                Run::Over => Verdict::Good,
                _ => Verdict::Pending,
            };
        }
        if slot.doom.is_some() {
            return Verdict::Bad("it has to be ended again".to_owned());
        }
        match slot.run {
            Run::Running if slot.kind == ContainerKind::Init => Verdict::Good,
            Run::Running if status.ready => {
                if slot.life.readiness || slot.settled_at() <= now.boot {
                    Verdict::Good
                } else {
                    Verdict::Pending
                }
            }
            Run::Over if slot.ended_well => Verdict::Good,
            Run::Over | Run::Waiting { .. } => Verdict::Bad(self.last_end(part.index)),
            Run::Idle | Run::Starting | Run::Running => Verdict::Pending,
        }
    }

    /// How a container ended the last time, in a clause.
    fn last_end(&self, index: usize) -> String {
        let status = &self.status.containers[index];
        let end = match &status.state {
            ContainerState::Terminated(end) => Some(end),
            _ => status.last_termination.as_ref(),
        };
        match end {
            Some(end) if end.reason == super::START_ERROR => format!(
                "it could not be started: {}",
                end.message.as_deref().unwrap_or_default()
            ),
            Some(end) => format!("it ended with exit code {}", end.exit_code),
            None => "it ended".to_owned(),
        }
    }

    fn roll_back(
        &mut self,
        rollout: &mut Rollout,
        why: String,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        // Before anything is started from the plan.
        actions.push(Action::RollBack);
        for part in &rollout.parts {
            let slot = &mut self.slots[part.index];
            let has_not_begun = slot.next.take().is_some();
            if has_not_begun && slot.doom.is_none() && slot.is_alive() {
                continue;
            }
            slot.turns_into(part.before.clone());
        }
        let message = format!("{why}; going back to what ran before");
        self.status
            .push_event(now.unix, EventKind::Warning, "RolloutFailed", message);
        let state = ChangeState::RollingBack;
        self.set_change(rollout.generation, state, Some(why.clone()));
        rollout.back = Some(why);
        rollout.deadline = now.boot.saturating_add(rollout.patience_nanos);
    }

    fn settle(&mut self, rollout: Rollout, now: Now, actions: &mut Vec<Action>) {
        actions.push(Action::Settle);
        for part in &rollout.parts {
            let status = &self.status.containers[part.index];
            if self.slots[part.index].next.take().is_some() {
                continue;
            }
            let (reason, message) = if rollout.back.is_some() {
                let message = format!("Container {} runs {} again", status.name, status.image);
                ("RolledBack", message)
            } else {
                let (name, before) = (&status.name, &part.before.image);
                let message = format!("Container {name} runs {}, not {before}", status.image);
                ("Replaced", message)
            };
            self.status
                .push_event(now.unix, EventKind::Normal, reason, message);
        }
        let state = if rollout.back.is_some() {
            ChangeState::RolledBack
        } else {
            ChangeState::Done
        };
        self.set_change(rollout.generation, state, rollout.back);
    }
}

impl Slot {
    /// When a run that goes on counts as good.
    fn settled_at(&self) -> u64 {
        let moment = u64::try_from(MOMENT.as_nanos()).unwrap_or(u64::MAX);
        self.started_boot.saturating_add(moment)
    }
}
