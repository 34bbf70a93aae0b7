//! One container's place in the pod's state machine.

use crate::plan::{ContainerKind, ContainerPlan};
use crate::settings::Backoff;
use crate::spec::{RestartPolicy, RestartRule};
use beluga_proto::ContainerId;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "run", rename_all = "snake_case")]
pub(super) enum Run {
    /// Its turn has not come.
    Idle,
    /// The agent was asked to start it.
    Starting,
    /// Its program runs.
    Running,
    /// It ended and is started again at this time, by `CLOCK_BOOTTIME`.
    Waiting {
        /// When.
        until: u64,
    },
    /// It ended, or will never run.
    Over,
}

/// A container's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) kind: ContainerKind,
    pub(super) restart: RestartPolicy,
    #[serde(default)]
    restart_rules: Vec<RestartRule>,
    pub(super) stop_signal: i32,
    /// The present or last run.
    pub(super) id: Option<ContainerId>,
    pub(super) run: Run,
    /// By `CLOCK_BOOTTIME`.
    pub(super) started_boot: u64,
    pub(super) was_started: bool,
    pub(super) stop_sent: bool,
    /// Restarts since it last ran for long.
    back_offs: u32,
    /// Ended with 0 the last time.
    ended_well: bool,
}

impl Slot {
    pub(super) fn new(plan: &ContainerPlan) -> Self {
        Self {
            kind: plan.kind,
            restart: plan.restart,
            restart_rules: plan.restart_rules.clone(),
            stop_signal: plan.stop_signal,
            id: None,
            run: Run::Idle,
            started_boot: 0,
            was_started: false,
            stop_sent: false,
            back_offs: 0,
            ended_well: false,
        }
    }

    /// Whether there is a run of it in the guest, for all we know.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.run, Run::Starting | Run::Running)
    }

    /// Whether the ones after it may start: it has ended well, or is a sidecar
    /// that was started.
    pub(super) fn lets_others_start(&self) -> bool {
        match self.kind {
            ContainerKind::Init => self.run == Run::Over && self.ended_well,
            ContainerKind::Sidecar | ContainerKind::App => self.was_started,
        }
    }

    /// Notes an end and says whether the container runs again.
    pub(super) fn runs_again(&mut self, exit_code: i32) -> bool {
        self.ended_well = exit_code == 0;
        if self.kind == ContainerKind::Init && self.ended_well {
            return false;
        }
        if self
            .restart_rules
            .iter()
            .any(|rule| rule.matches(exit_code))
        {
            return true;
        }
        match self.restart {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
    }

    /// The wait before the next run: none before the first restart, as the
    /// kubelet has it, then the back-off, doubling.
    pub(super) fn back_off(&mut self, now_boot: u64, backoff: &Backoff) -> Duration {
        let ran = Duration::from_nanos(now_boot.saturating_sub(self.started_boot));
        if self.was_started && ran >= backoff.reset {
            self.back_offs = 0;
        }
        let wait = match self.back_offs.checked_sub(1) {
            Some(count) => backoff.wait(count),
            None => Duration::ZERO,
        };
        self.back_offs = self.back_offs.saturating_add(1);
        wait
    }
}
