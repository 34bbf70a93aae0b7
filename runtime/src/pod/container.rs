//! One container's place in the pod's state machine.

use crate::plan::{ContainerKind, ContainerPlan};
use crate::settings::Backoff;
use crate::spec::{RestartPolicy, RestartRule};
use beluga_proto::ContainerId;
use beluga_proto::probe::ProbeKind;
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

/// What the manifest says of a container's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    pub(super) startup: bool,
    pub(super) readiness: bool,
    pub(super) post_start: bool,
    pub(super) pre_stop: bool,
    pub(super) startup_grace: Option<u32>,
    pub(super) liveness_grace: Option<u32>,
}

/// Which hook of a run is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "hook", rename_all = "snake_case")]
pub(super) enum Hook {
    /// None yet.
    #[default]
    None,
    /// Since its program was executed, in nanoseconds since 1970.
    PostStart {
        /// When.
        since: u64,
    },
    /// The stop signal waits for it.
    PreStop,
    /// The stop signal waits for nothing.
    Done,
}

/// A run that is being ended for its own sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Doom {
    /// When it is killed, by `CLOCK_BOOTTIME`.
    pub(super) kill_at: u64,
    /// Whether that has been done.
    pub(super) killed: bool,
    /// It is started again whatever its exit code.
    pub(super) restarts: bool,
}

/// What the probes of a run say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Passes {
    pub(super) startup: bool,
    pub(super) readiness: bool,
}

/// What a container's next run takes from its plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Face {
    /// As the manifest writes it.
    pub image: String,
    /// `sha256:…`.
    pub image_id: String,
    stop_signal: i32,
    life: Life,
}

impl Face {
    /// That of a container as it is planned.
    #[must_use]
    pub fn new(plan: &ContainerPlan) -> Self {
        Self {
            image: plan.image.clone(),
            image_id: plan.image_id.clone(),
            stop_signal: plan.stop_signal,
            life: Life::new(plan),
        }
    }
}

impl Life {
    fn new(plan: &ContainerPlan) -> Self {
        Self {
            startup: plan.has_probe(ProbeKind::Startup),
            readiness: plan.has_probe(ProbeKind::Readiness),
            post_start: plan.hooks.post_start.is_some(),
            pre_stop: plan.hooks.pre_stop.is_some(),
            startup_grace: plan.startup_grace_seconds,
            liveness_grace: plan.liveness_grace_seconds,
        }
    }
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
    /// What the manifest says of its life.
    #[serde(default)]
    pub(super) life: Life,
    #[serde(default)]
    pub(super) hook: Hook,
    #[serde(default)]
    pub(super) doom: Option<Doom>,
    #[serde(default)]
    pub(super) passes: Passes,
    /// Some run of it has passed its startup probe, if it has one.
    #[serde(default)]
    pub(super) has_started_up: bool,
    /// What its next run is to be instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Face>,
    /// Its image is not in the guest yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_held: bool,
    /// Nobody has said yet that it is to run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_waiting: bool,
    /// Ended with 0 the last time.
    pub(super) ended_well: bool,
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
            life: Life::new(plan),
            next: None,
            is_held: false,
            is_waiting: false,
            hook: Hook::None,
            doom: None,
            passes: Passes::default(),
            has_started_up: false,
            ended_well: false,
        }
    }

    /// Whether there is a run of it in the guest, for all we know.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.run, Run::Starting | Run::Running)
    }

    /// Whether its program has been executed and has not ended.
    pub(super) fn is_up(&self) -> bool {
        match self.run {
            Run::Running => true,
            Run::Starting => self.hook != Hook::None,
            Run::Idle | Run::Waiting { .. } | Run::Over => false,
        }
    }

    /// Whether the ones after it may start: it has ended well, or is a sidecar
    /// that was started and has passed its startup probe.
    pub(super) fn lets_others_start(&self) -> bool {
        match self.kind {
            ContainerKind::Init => self.run == Run::Over && self.ended_well,
            ContainerKind::Ephemeral => true,
            ContainerKind::Sidecar | ContainerKind::App => {
                self.was_started && (!self.life.startup || self.has_started_up)
            }
        }
    }

    /// What it is now.
    pub(super) fn face(&self, image: String, image_id: String) -> Face {
        Face {
            image,
            image_id,
            stop_signal: self.stop_signal,
            life: self.life,
        }
    }

    /// From now on its runs are of another plan: what was learned about the old
    /// one is forgotten. The next run begins at once.
    pub(super) fn turns_into(&mut self, next: Face) {
        self.next = Some(next);
        self.back_offs = 0;
        self.has_started_up = false;
    }

    /// Takes over what the run that begins is to be; its images.
    pub(super) fn turn(&mut self) -> Option<(String, String)> {
        let face = self.next.take()?;
        (self.stop_signal, self.life) = (face.stop_signal, face.life);
        Some((face.image, face.image_id))
    }

    /// Notes an end and says whether the container runs again.
    pub(super) fn runs_again(&mut self, exit_code: i32) -> bool {
        self.ended_well = exit_code == 0;
        // It was ended to be started again, whatever it made of that.
        if self.doom.take().is_some_and(|doom| doom.restarts) {
            return true;
        }
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
