//! The life of one run: its start hook, what its probes say, and its end when
//! it is ended for its own sake.
//!
//! ```text
//! executed ─► PostStart hook ─► Running ─► liveness or startup failed ─► PreStop hook ─► signal ─► SIGKILL
//!                  └── failed ─────────────────────────────────────────────▲    (both within the grace period)
//! ```
//! A startup probe stands between Running and `started`, a readiness probe
//! between `started` and `ready`. The agent counts; what arrives here is what
//! has changed.

use super::super::container::{Doom, Hook, Passes};
use super::{Action, Now, PodState, SIGKILL, Slot};
use crate::plan::ContainerKind;
use crate::spec::RestartPolicy;
use crate::store::status::{ContainerState, EventKind};
use beluga_proto::ContainerId;
use beluga_proto::probe::{HookKind, ProbeKind};
use std::time::Duration;

/// Shortest time from a stop signal after a hook to SIGKILL, as the kubelet has
/// it, however much of the grace period the hook has left.
pub(super) const LEAST_WINDOW: Duration = Duration::from_secs(2);

/// News of a probe, in the words of the event that a kubelet writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeNews {
    /// Which probe.
    pub kind: ProbeKind,
    /// What holds from now on; none: what held before.
    pub passed: Option<bool>,
    /// Failed attempts that have not been told.
    pub failures: u32,
    /// `failed: …`.
    pub message: String,
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}

impl PodState {
    /// A program has been executed.
    pub(super) fn started(&mut self, id: &ContainerId, now: Now, actions: &mut Vec<Action>) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        let slot = &mut self.slots[index];
        if slot.run != super::Run::Starting || slot.hook != Hook::None {
            return;
        }
        slot.started_boot = now.boot;
        let name = &self.status.containers[index].name;
        let message = format!("Started container {name}");
        self.status
            .push_event(now.unix, EventKind::Normal, "Started", message);
        let slot = &mut self.slots[index];
        if slot.life.post_start {
            slot.hook = Hook::PostStart { since: now.unix };
            actions.push(Action::Hook {
                id: id.clone(),
                hook: HookKind::PostStart,
                timeout: None,
            });
        } else {
            self.runs(index, now.unix);
        }
    }

    /// A container is Running for everybody.
    fn runs(&mut self, index: usize, since: u64) {
        let slot = &mut self.slots[index];
        slot.run = super::Run::Running;
        slot.hook = Hook::None;
        slot.was_started = true;
        self.status.containers[index].state = ContainerState::Running { started: since };
        self.show(index);
    }

    /// Brings `started` and `ready` in line with what the probes say.
    fn show(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let is_running = slot.run == super::Run::Running;
        let started = is_running && (!slot.life.startup || slot.passes.startup);
        let ready = matches!(slot.kind, ContainerKind::App | ContainerKind::Sidecar)
            && started
            && (!slot.life.readiness || slot.passes.readiness);
        slot.has_started_up |= started;
        let status = &mut self.status.containers[index];
        (status.started, status.ready) = (started, ready);
    }

    pub(super) fn probed(
        &mut self,
        id: &ContainerId,
        news: ProbeNews,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        // Only a program that runs is probed: this may come before the answer
        // to the request that has started it.
        self.started(id, now, actions);
        let Some(index) = self.index_of(id) else {
            return;
        };
        let name = &self.status.containers[index].name;
        let (word, failed) = match news.kind {
            ProbeKind::Startup => ("Startup", format!("Container {name} failed startup probe")),
            ProbeKind::Readiness => ("Readiness", String::new()),
            ProbeKind::Liveness => (
                "Liveness",
                format!("Container {name} failed liveness probe"),
            ),
        };
        if news.failures > 0 {
            let message = format!("{word} probe {}", news.message);
            self.status.push_events(
                now.unix,
                EventKind::Warning,
                "Unhealthy",
                message,
                news.failures,
            );
        }
        let slot = &mut self.slots[index];
        let life = slot.life;
        match (news.kind, news.passed) {
            (ProbeKind::Startup, Some(true)) => slot.passes.startup = true,
            (ProbeKind::Readiness, Some(passes)) => slot.passes.readiness = passes,
            (ProbeKind::Startup, Some(false)) => {
                return self.ends_for_its_probe(index, failed, life.startup_grace, now);
            }
            (ProbeKind::Liveness, Some(false)) => {
                return self.ends_for_its_probe(index, failed, life.liveness_grace, now);
            }
            (ProbeKind::Liveness, Some(true)) | (_, None) => return,
        }
        if slot.run == super::Run::Running {
            self.show(index);
        }
    }

    fn ends_for_its_probe(&mut self, index: usize, why: String, grace: Option<u32>, now: Now) {
        let restarts = self.slots[index].restart != RestartPolicy::Never;
        let message = if restarts {
            format!("{why}, will be restarted")
        } else {
            why
        };
        let grace = grace.unwrap_or(self.grace_seconds);
        self.dooms(index, message, seconds(grace), restarts, now);
    }

    /// Decides that a run ends: from now it has so long.
    pub(super) fn dooms(
        &mut self,
        index: usize,
        message: String,
        grace: Duration,
        restarts: bool,
        now: Now,
    ) {
        let is_stopping = self.is_stopping();
        let slot = &mut self.slots[index];
        if slot.doom.is_some() || is_stopping || !slot.is_up() {
            return;
        }
        slot.doom = Some(Doom {
            kill_at: now.after(grace),
            killed: false,
            restarts,
        });
        self.status
            .push_event(now.unix, EventKind::Normal, "Killing", message);
    }

    pub(super) fn hook_ended(&mut self, id: &ContainerId, hook: HookKind, failed: bool, now: Now) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        // The kubelet's sentences do not say why: that may be a secret.
        match (self.slots[index].hook, hook, failed) {
            (Hook::PostStart { since }, HookKind::PostStart, false) => self.runs(index, since),
            (Hook::PostStart { .. }, HookKind::PostStart, true) => {
                let (reason, message) = ("FailedPostStartHook", "PostStartHook failed".to_owned());
                self.status
                    .push_event(now.unix, EventKind::Warning, reason, message);
                let grace = seconds(self.grace_seconds);
                self.dooms(index, reason.to_owned(), grace, false, now);
            }
            (Hook::PreStop, HookKind::PreStop, _) => {
                self.slots[index].hook = Hook::Done;
                if failed {
                    let message = "PreStopHook failed".to_owned();
                    self.status.push_event(
                        now.unix,
                        EventKind::Warning,
                        "FailedPreStopHook",
                        message,
                    );
                }
            }
            // One that was overtaken by the pod's end.
            _ => {}
        }
    }

    /// Ends those that are to end for their own sakes.
    pub(super) fn advance_doomed(&mut self, now: Now, actions: &mut Vec<Action>) {
        for slot in &mut self.slots {
            let (Some(doom), true, Some(id)) = (slot.doom, slot.is_up(), slot.id.clone()) else {
                continue;
            };
            actions.extend(slot.begin_pre_stop(&id, doom.kill_at, now));
            let waits = slot.hook == Hook::PreStop && now.boot < doom.kill_at;
            if !slot.stop_sent && !waits {
                let kill_at = doom.kill_at.max(now.after(LEAST_WINDOW));
                slot.doom = Some(Doom { kill_at, ..doom });
                actions.push(slot.signalled(id));
            } else if slot.stop_sent && !doom.killed && doom.kill_at <= now.boot {
                let killed = true;
                slot.doom = Some(Doom { killed, ..doom });
                actions.push(Action::Signal {
                    id,
                    signal: SIGKILL,
                    all: true,
                });
            }
        }
    }

    /// Hooks that have been asked for and not told the end of, for a new agent
    /// connection: asking twice runs them once.
    #[must_use]
    pub fn open_hooks(&self, now: Now) -> Vec<(ContainerId, HookKind, Option<Duration>)> {
        let pod_kill = match self.stage {
            super::Stage::Stopping { kill_at, .. } => Some(kill_at),
            _ => None,
        };
        let open = self.slots.iter().filter(|slot| slot.is_up());
        open.filter_map(|slot| {
            let id = slot.id.clone()?;
            match slot.hook {
                Hook::PostStart { .. } => Some((id, HookKind::PostStart, None)),
                Hook::PreStop => {
                    let kill_at = slot.doom.map(|doom| doom.kill_at).or(pod_kill)?;
                    let left = Duration::from_nanos(kill_at.saturating_sub(now.boot));
                    Some((id, HookKind::PreStop, Some(left)))
                }
                Hook::None | Hook::Done => None,
            }
        })
        .collect()
    }
}

impl Slot {
    /// Begins the hook before the stop signal, once, if there is one and time
    /// for it; what it asks for.
    pub(super) fn begin_pre_stop(
        &mut self,
        id: &ContainerId,
        kill_at: u64,
        now: Now,
    ) -> Option<Action> {
        if self.stop_sent || matches!(self.hook, Hook::PreStop | Hook::Done) {
            return None;
        }
        let left = Duration::from_nanos(kill_at.saturating_sub(now.boot));
        if !self.life.pre_stop || left.is_zero() {
            self.hook = Hook::Done;
            return None;
        }
        self.hook = Hook::PreStop;
        Some(Action::Hook {
            id: id.clone(),
            hook: HookKind::PreStop,
            timeout: Some(left),
        })
    }

    /// Sends the stop signal.
    pub(super) fn signalled(&mut self, id: ContainerId) -> Action {
        self.stop_sent = true;
        self.hook = Hook::Done;
        Action::Signal {
            id,
            signal: self.stop_signal,
            all: false,
        }
    }

    /// A new run begins: nothing of the old one holds.
    pub(super) fn begin_run(&mut self, id: ContainerId) {
        self.id = Some(id);
        self.run = super::Run::Starting;
        self.stop_sent = false;
        self.hook = Hook::None;
        self.doom = None;
        self.passes = Passes::default();
    }
}
