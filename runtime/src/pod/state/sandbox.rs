//! Containers of a sandbox: whoever fills it starts, ends and removes each.
//!
//! ```text
//! Place ─► held (image on its way) ─► waiting ─ Begin ─► Starting ─► Running ─ End, or its own end ─► Over
//!                                        └────────────────── Forget ──► gone: the place is free ◄──────┘
//! ```

use super::{Action, Now, PodState, Run, SIGKILL, Slot, first_status};
use crate::plan::ContainerPlan;
use crate::pod::container::Doom;
use crate::store::status::EventKind;
use std::time::Duration;

/// The reason of a container that nobody has started.
const CREATED: &str = "ContainerCreated";

impl PodState {
    /// Containers come to their places; they wait for [`PodState::release`], then
    /// for [`PodState::begin`].
    pub(super) fn place(&mut self, containers: &[(usize, ContainerPlan)]) {
        for (at, container) in containers {
            let mut slot = Slot::new(container);
            (slot.is_held, slot.is_waiting) = (true, true);
            let status = first_status(container, CREATED);
            match (self.slots.get_mut(*at), self.status.containers.get_mut(*at)) {
                (Some(place), Some(shown)) => (*place, *shown) = (slot, status),
                _ => {
                    self.slots.push(slot);
                    self.status.containers.push(status);
                }
            }
        }
    }

    /// Whether a container may come to a place.
    #[must_use]
    pub fn is_free(&self, at: usize) -> bool {
        let known = self.status.containers.get(at);
        known.is_none_or(|status| status.is_gone)
    }

    /// Whether a container has never been told to run.
    #[must_use]
    pub fn is_waiting(&self, at: usize) -> bool {
        let slot = self.slots.get(at);
        slot.is_some_and(|slot| slot.is_waiting && slot.run == Run::Idle)
    }

    /// Whether there is a run of a container in the guest, for all we know.
    #[must_use]
    pub fn is_alive(&self, at: usize) -> bool {
        self.slots.get(at).is_some_and(Slot::is_alive)
    }

    /// A container is to run.
    pub(super) fn begin(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.is_waiting = false;
        }
    }

    /// A container is to end. A second, more impatient request shortens the first.
    pub(super) fn end(
        &mut self,
        index: usize,
        grace: Duration,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let is_stopping = self.is_stopping();
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.is_up()) else {
            return;
        };
        if is_stopping {
            return;
        }
        let kill_at = now.after(grace);
        let is_first = slot.doom.is_none();
        let doom = slot.doom.get_or_insert(Doom {
            kill_at,
            killed: false,
            restarts: false,
        });
        doom.kill_at = doom.kill_at.min(kill_at);
        if grace.is_zero() && !doom.killed {
            doom.killed = true;
            slot.stop_sent = true;
            actions.extend(slot.id.clone().map(|id| Action::Signal {
                id,
                signal: SIGKILL,
                all: true,
            }));
        }
        if is_first {
            let message = format!("Stopping container {}", self.status.containers[index].name);
            self.status
                .push_event(now.unix, EventKind::Normal, "Killing", message);
        }
    }

    /// A container that does not run is forgotten, and its place is free.
    pub(super) fn forget(&mut self, index: usize, actions: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| !slot.is_alive()) else {
            return;
        };
        slot.run = Run::Over;
        (slot.is_held, slot.is_waiting) = (false, false);
        if let Some(id) = slot.id.take() {
            actions.push(Action::Remove { id });
        }
        self.status.containers[index].is_gone = true;
    }
}
