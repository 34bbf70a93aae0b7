//! The pod's state machine: what happened goes in, what to do comes out.
//! Nothing here waits, opens or sends; a supervisor carries the actions out,
//! and the whole state is a value in the pod's record, so that the next
//! supervisor goes on where the last one stopped.
//!
//! ```text
//!            Ready                every init ended well,          every app over for good,
//!                                 every sidecar started           or an init failed, or Stop
//! Booting ──────────► Init ──────────────────────────► Running ─────────────────► Stopping ─► Over
//!    │                  └──────────── init failed for good, Stop ─────────────────────▲          ▲
//!    └──────────────────────────── VmEnded (from anywhere), Stop while booting ──────────────────┘
//! ```
//! A container: `Idle ─► Starting ─► Running ─► Waiting (back-off) ─► Starting …` or `─► Over`.
//! Stopping: apps are signalled together; when they are gone the sidecars, the
//! last started first; at the deadline everything is killed.

mod advance;
mod deadline;
mod ephemeral;
mod first;
mod life;
mod rollout;
mod sandbox;
mod stop;

use self::first::{first_reason, first_status};
use super::container::{Face, Run, Slot};
use crate::plan::{ContainerKind, ContainerPlan, Plan};
use crate::settings::Backoff;
use crate::store::status::{ContainerState, EventKind, Phase, PodStatus, Termination};
use beluga_proto::ContainerId;
use beluga_proto::agent::ProcessExit;
use beluga_proto::probe::HookKind;
use deadline::Deadline;
pub use life::ProbeNews;
use rollout::Rollout;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// SIGKILL on Linux.
const SIGKILL: i32 = 9;

/// Reason of an end that is no end of a program.
const START_ERROR: &str = "StartError";

/// Two clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME` in nanoseconds: for deadlines.
    pub boot: u64,
    /// Nanoseconds since 1970: for people.
    pub unix: u64,
}

impl Now {
    fn after(self, wait: Duration) -> u64 {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.boot.saturating_add(nanos)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The agent is ready.
    Ready,
    /// A container's program has been executed.
    Started {
        /// The run.
        id: ContainerId,
    },
    /// A container could not be started.
    StartFailed {
        /// The run.
        id: ContainerId,
        /// What it counts as: 127 for no such command, 126, 128.
        exit_code: i32,
        /// Why.
        message: String,
    },
    /// A container ended and its output is in the log.
    Exited {
        /// The run.
        id: ContainerId,
        /// How.
        exit: ProcessExit,
        /// Its last message.
        message: Option<String>,
    },
    /// A probe of a container has news.
    Probed {
        /// The run.
        id: ContainerId,
        /// What.
        news: ProbeNews,
    },
    /// A hook of a container has ended.
    HookEnded {
        /// The run.
        id: ContainerId,
        /// Which.
        hook: HookKind,
        /// It has not done what it should.
        failed: bool,
    },
    /// A deadline of [`PodState::wake_at`] has come.
    Tick,
    /// There are more containers, whose images are on their way.
    Add {
        /// Each as it is planned, in order.
        containers: Vec<ContainerPlan>,
    },
    /// The images of added containers are at hand, or never will be.
    Release {
        /// Why not.
        failure: Option<String>,
    },
    /// Containers of a sandbox come to their places; their images are on their way.
    Place {
        /// Each by its place, as it is planned.
        containers: Vec<(usize, ContainerPlan)>,
    },
    /// A container of a sandbox is to run.
    Begin {
        /// Its place.
        index: usize,
    },
    /// A container of a sandbox is to end.
    End {
        /// Its place.
        index: usize,
        /// From the stop signal to SIGKILL.
        grace: Duration,
    },
    /// A container of a sandbox that does not run is forgotten.
    Forget {
        /// Its place.
        index: usize,
    },
    /// Containers are to run from something else, which is at hand.
    Replace {
        /// Which change of the pod this is.
        generation: u64,
        /// By their places.
        next: Vec<(usize, Face)>,
        /// How long they may take until they are ready.
        patience: Duration,
    },
    /// Somebody wants the pod to end.
    Stop {
        /// From the stop signal to SIGKILL.
        grace: Duration,
    },
    /// The VM is gone.
    VmEnded {
        /// One word.
        reason: String,
        /// The whole story.
        message: String,
    },
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the container of this place in the plan as this run.
    Start {
        /// Place in the plan.
        index: usize,
        /// The run.
        id: ContainerId,
    },
    /// Send a signal.
    Signal {
        /// To this run.
        id: ContainerId,
        /// Which.
        signal: i32,
        /// To every process of it.
        all: bool,
    },
    /// Run a hook of the manifest.
    Hook {
        /// In this run.
        id: ContainerId,
        /// Which.
        hook: HookKind,
        /// How long it may take.
        timeout: Option<Duration>,
    },
    /// Forget an ended run.
    Remove {
        /// Which.
        id: ContainerId,
    },
    /// A change is being undone: from now on the plan before it holds.
    RollBack,
    /// A change is over: the plan before it is of no use any more.
    Settle,
    /// End the VM: nothing runs in it any more.
    EndVm,
}

/// How far the pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// The VM is not ready.
    Booting,
    /// Init containers run, one after another.
    Init,
    /// App containers run.
    Running,
    /// Containers are being ended.
    Stopping {
        /// When what is left is killed.
        kill_at: u64,
        /// Whether that has been done.
        killed: bool,
    },
    /// Nothing runs.
    Over,
}

/// The state of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodState {
    /// How far it is.
    pub stage: Stage,
    /// As people see it; `containers` has one for each slot.
    pub status: PodStatus,
    /// From the plan's stop signal to SIGKILL when containers end by themselves.
    grace_seconds: u32,
    #[serde(default)]
    deadline: Deadline,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<Rollout>,
    /// It runs without containers, until somebody ends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_sandbox: bool,
    slots: Vec<Slot>,
}

impl PodState {
    /// The state of a pod that is about to boot.
    #[must_use]
    pub fn new(plan: &Plan, now: Now) -> Self {
        let containers = plan.containers.iter();
        let containers = containers.map(|one| first_status(one, first_reason(plan, one.kind)));
        Self {
            stage: Stage::Booting,
            status: PodStatus {
                created: now.unix,
                ips: plan.ips(),
                containers: containers.collect(),
                ..PodStatus::default()
            },
            grace_seconds: plan.grace_seconds,
            deadline: Deadline::new(plan),
            rollout: None,
            is_sandbox: plan.sandbox,
            slots: plan.containers.iter().map(Slot::new).collect(),
        }
    }

    /// Takes in what happened and says what to do, in order.
    pub fn step(&mut self, input: Input, now: Now, backoff: &Backoff) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Ready => {
                if self.stage == Stage::Booting {
                    self.stage = Stage::Init;
                    self.status.started = Some(now.unix);
                    self.deadline.begins(now);
                }
            }
            Input::Started { id } => self.started(&id, now, &mut actions),
            Input::Probed { id, news } => self.probed(&id, news, now, &mut actions),
            Input::HookEnded { id, hook, failed } => self.hook_ended(&id, hook, failed, now),
            Input::StartFailed {
                id,
                exit_code,
                message,
            } => {
                let failure = Termination {
                    exit_code,
                    signal: None,
                    reason: START_ERROR.to_owned(),
                    message: Some(message),
                    started: None,
                    finished: now.unix,
                    id: Some(id.clone()),
                };
                self.ended(&id, failure, now, backoff);
            }
            Input::Exited { id, exit, message } => {
                let mut end = termination(&id, exit, now);
                end.message = message.map(|message| self.bounded(message));
                self.ended(&id, end, now, backoff);
            }
            Input::Tick => {}
            Input::Replace {
                generation,
                next,
                patience,
            } => self.replace(generation, next, patience, now),
            Input::Add { containers } => self.add(&containers),
            Input::Place { containers } => self.place(&containers),
            Input::Begin { index } => self.begin(index),
            Input::End { index, grace } => self.end(index, grace, now, &mut actions),
            Input::Forget { index } => self.forget(index, &mut actions),
            Input::Release { failure } => self.release(failure, now),
            Input::Stop { grace } => self.stop(grace, now),
            Input::VmEnded { reason, message } => self.vm_ended(reason, message, now),
        }
        self.keep_deadline(now);
        self.advance(now, &mut actions);
        self.status.phase = self.phase();
        if self.stage == Stage::Over && self.status.finished.is_none() {
            self.status.finished = Some(now.unix);
        }
        self.status.keep_transitions(now.unix);
        actions
    }

    /// When [`Input::Tick`] is due next, by `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn wake_at(&self) -> Option<u64> {
        let waits = self.slots.iter().filter_map(|slot| match slot.run {
            Run::Waiting { until } if !self.is_stopping() => Some(until),
            _ => None,
        });
        let kill = match self.stage {
            Stage::Stopping { kill_at, .. } => Some(kill_at),
            _ => None,
        };
        let dooms = self.slots.iter().filter(|slot| slot.is_up());
        let dooms = dooms.filter_map(|slot| slot.doom.filter(|doom| !doom.killed));
        let deadline = self.deadline.at.filter(|_| !self.is_stopping());
        let all = waits.chain(kill).chain(deadline);
        let all = all.chain(self.rollout_wakes_at());
        all.chain(dooms.map(|doom| doom.kill_at)).min()
    }

    /// The place in the plan of a run, and how often the container ran before.
    #[must_use]
    pub fn find(&self, id: &ContainerId) -> Option<(usize, u32)> {
        let index = self.index_of(id)?;
        Some((index, self.status.containers[index].restarts))
    }

    /// Runs that the agent should know as running or starting, with their places.
    #[must_use]
    pub fn live(&self) -> Vec<(usize, ContainerId)> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.is_alive())
            .filter_map(|(index, slot)| slot.id.clone().map(|id| (index, id)))
            .collect()
    }

    /// Whether the run was started for all we know.
    #[must_use]
    pub fn is_running(&self, id: &ContainerId) -> bool {
        self.index_of(id)
            .is_some_and(|index| self.slots[index].is_up())
    }

    /// Running containers that have been asked to end, with their signals.
    #[must_use]
    pub fn stop_signals(&self) -> Vec<(ContainerId, i32)> {
        self.slots
            .iter()
            .filter(|slot| slot.is_up() && slot.stop_sent)
            .filter_map(|slot| slot.id.clone().map(|id| (id, slot.stop_signal)))
            .collect()
    }

    fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Stopping { .. } | Stage::Over)
    }

    fn index_of(&self, id: &ContainerId) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.id.as_ref() == Some(id))
    }

    fn ended(&mut self, id: &ContainerId, mut end: Termination, now: Now, backoff: &Backoff) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        if !self.slots[index].is_alive() {
            return;
        }
        if let ContainerState::Running { started } = self.status.containers[index].state {
            end.started = Some(started);
        }
        self.tell_end(index, &end, now);
        let is_stopping = self.is_stopping();
        let slot = &mut self.slots[index];
        let again = slot.runs_again(end.exit_code) && !is_stopping;
        let status = &mut self.status.containers[index];
        status.started = false;
        status.ready = slot.kind == ContainerKind::Init && end.exit_code == 0;
        if again {
            let wait = slot.back_off(now.boot, backoff);
            slot.run = Run::Waiting {
                until: now.after(wait),
            };
            if wait.is_zero() {
                status.last_termination = Some(end.clone());
                status.state = ContainerState::Terminated(end);
                return;
            }
            let message = format!(
                "back-off {} restarting failed container={}",
                seconds(wait),
                status.name
            );
            status.state = waiting("CrashLoopBackOff", Some(message.clone()));
            status.last_termination = Some(end);
            self.status
                .push_event(now.unix, EventKind::Warning, "BackOff", message);
        } else {
            slot.run = Run::Over;
            status.state = ContainerState::Terminated(end);
        }
    }

    fn tell_end(&mut self, index: usize, end: &Termination, now: Now) {
        let name = &self.status.containers[index].name;
        let message = match (&end.message, end.signal) {
            (Some(message), _) if end.reason == START_ERROR => {
                format!("Container {name} could not be started: {message}")
            }
            (_, Some(signal)) => format!("Container {name} was ended by signal {signal}"),
            (_, None) => format!("Container {name} exited with {}", end.exit_code),
        };
        let kind = if end.exit_code == 0 || self.is_stopping() {
            EventKind::Normal
        } else {
            EventKind::Warning
        };
        self.status.push_event(now.unix, kind, &end.reason, message);
    }

    fn phase(&self) -> Phase {
        match self.stage {
            Stage::Booting | Stage::Init => Phase::Pending,
            Stage::Running => {
                let ran = |slot: &&Slot| slot.kind == ContainerKind::App && slot.was_started;
                if self.is_sandbox || self.slots.iter().any(|slot| ran(&slot)) {
                    Phase::Running
                } else {
                    self.status.phase
                }
            }
            Stage::Stopping { .. } => self.status.phase,
            Stage::Over => {
                let ended_well = self.status.containers.iter().all(|status| {
                    status.kind != ContainerKind::App
                        || matches!(&status.state,
                            ContainerState::Terminated(end) if end.exit_code == 0)
                });
                if ended_well && !self.deadline.has_passed {
                    Phase::Succeeded
                } else {
                    Phase::Failed
                }
            }
        }
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState::Waiting {
        reason: reason.to_owned(),
        message,
    }
}

fn termination(id: &ContainerId, exit: ProcessExit, now: Now) -> Termination {
    let reason = if exit.oom_killed {
        "OOMKilled"
    } else if exit.code == 0 {
        "Completed"
    } else {
        "Error"
    };
    Termination {
        exit_code: exit.code,
        signal: exit.signal,
        reason: reason.to_owned(),
        message: None,
        started: None,
        finished: now.unix,
        id: Some(id.clone()),
    }
}

/// As Kubernetes writes it: `10s`, `1m20s`, `5m0s`.
fn seconds(wait: Duration) -> String {
    let seconds = wait.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, 0) => format!("{}ms", wait.as_millis()),
        (0, rest) => format!("{rest}s"),
        (minutes, rest) => format!("{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests;
