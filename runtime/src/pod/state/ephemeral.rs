//! Containers that come to a pod while it runs: started once, in the pod's fate
//! only by its end.

use super::{Now, PodState, Run, START_ERROR, Slot, first_status};
use crate::plan::ContainerPlan;
use crate::store::status::{ContainerState, EventKind, Termination};

impl PodState {
    /// More containers; they wait for [`PodState::release`].
    pub(super) fn add(&mut self, containers: &[ContainerPlan]) {
        for container in containers {
            let mut slot = Slot::new(container);
            slot.is_held = true;
            self.slots.push(slot);
            let status = first_status(container, "ContainerCreating");
            self.status.containers.push(status);
        }
    }

    /// Their images have come, or cannot.
    pub(super) fn release(&mut self, failure: Option<String>, now: Now) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if !std::mem::take(&mut slot.is_held) {
                continue;
            }
            let Some(why) = &failure else { continue };
            let status = &mut self.status.containers[index];
            slot.run = Run::Over;
            status.state = ContainerState::Terminated(Termination {
                exit_code: 128,
                signal: None,
                reason: START_ERROR.to_owned(),
                message: Some(why.clone()),
                started: None,
                finished: now.unix,
                id: None,
            });
            let message = format!("Container {} could not be started: {why}", status.name);
            self.status
                .push_event(now.unix, EventKind::Warning, START_ERROR, message);
        }
    }
}
