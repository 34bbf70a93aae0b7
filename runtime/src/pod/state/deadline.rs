//! What bounds a pod from outside: the time that it may take, and the room for
//! its containers' last messages.

use super::{Now, PodState, Stage};
use crate::plan::Plan;
use crate::store::status::EventKind;
use beluga_proto::agent::MAX_TERMINATION_MESSAGE;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Bytes of the last messages of all containers, as the kubelet has it.
const MAX_POD_MESSAGES: usize = 12 << 10;

/// The kubelet's word and sentence.
const REASON: &str = "DeadlineExceeded";
const MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// `activeDeadlineSeconds`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deadline {
    seconds: Option<u32>,
    /// By `CLOCK_BOOTTIME`, from when the pod has started.
    pub(super) at: Option<u64>,
    /// The pod has failed, however its containers end.
    pub(super) has_passed: bool,
}

impl Deadline {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            seconds: plan.active_deadline_seconds,
            ..Self::default()
        }
    }

    /// The pod has started.
    pub(super) fn begins(&mut self, now: Now) {
        let seconds = self.seconds.map(u64::from);
        self.at = seconds.map(|seconds| now.after(Duration::from_secs(seconds)));
    }
}

impl PodState {
    /// Ends a pod whose time is over.
    pub(super) fn keep_deadline(&mut self, now: Now) {
        let is_over = self.deadline.at.is_some_and(|at| at <= now.boot);
        if !is_over || !matches!(self.stage, Stage::Init | Stage::Running) {
            return;
        }
        self.deadline.has_passed = true;
        self.status.reason = Some(REASON.to_owned());
        self.status.message = Some(MESSAGE.to_owned());
        self.status
            .push_event(now.unix, EventKind::Normal, REASON, MESSAGE.to_owned());
        self.begin_stop(Duration::from_secs(u64::from(self.grace_seconds)), now);
    }

    /// A last message cut to the container's share.
    pub(super) fn bounded(&self, mut message: String) -> String {
        let share = MAX_POD_MESSAGES / self.slots.len().max(1);
        let most = share.min(MAX_TERMINATION_MESSAGE);
        message.truncate(message.floor_char_boundary(most));
        message
    }
}
