//! What is known of a pod and of each of its containers, as people and tools
//! see it. Times are nanoseconds since 1970.

use crate::plan::ContainerKind;
use crate::spec::Resources;
use beluga_proto::{ContainerId, ExitCause, Stamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Most events that a record keeps; the oldest goes first.
pub const MAX_EVENTS: usize = 64;

/// Where a pod is in its life, in Kubernetes' words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not every init container has ended, or no app container has run yet.
    #[default]
    Pending,
    /// At least one app container runs or will run again.
    Running,
    /// Every app container ended with 0 and none will run again.
    Succeeded,
    /// Every app container ended, one of them badly; or the pod's VM did.
    Failed,
}

impl Phase {
    /// Whether the pod has ended for good.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        })
    }
}

/// Reason of a pod whose machine did not come up in time.
pub const BOOT_TIMEOUT: &str = "BootTimeout";

/// Reason of a pod that ended because somebody wanted it to.
pub const STOPPED: &str = "Stopped";

/// A pod as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    /// Where it is in its life.
    pub phase: Phase,
    /// One word for why it is there, when there is more to say than the phase.
    pub reason: Option<String>,
    /// The same in a sentence or more.
    pub message: Option<String>,
    /// What helps, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Its addresses, the main one first.
    pub ips: Vec<IpAddr>,
    /// When its record was made.
    pub created: u64,
    /// When its VM was ready.
    pub started: Option<u64>,
    /// When it ended.
    pub finished: Option<u64>,
    /// When its end was asked for.
    pub deleted: Option<u64>,
    /// In the order of the plan: init containers first.
    pub containers: Vec<ContainerStatus>,
    /// What happened, oldest first.
    pub events: Vec<PodEvent>,
    /// What the start cost, by phase.
    pub receipt: Vec<ReceiptLine>,
    /// How the VM ended, once it has.
    pub vm_end: Option<VmEnd>,
    /// How the last change of the running pod gets on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeStatus>,
    /// When each condition came to be as it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transitions: BTreeMap<String, Transition>,
}

/// The last change of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Whether it holds since then.
    pub holds: bool,
    /// When.
    pub at: u64,
}

/// A change of a running pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeStatus {
    /// Which: they are counted.
    pub generation: u64,
    /// How far it is.
    pub state: ChangeState,
    /// Why it failed, or is being undone.
    pub message: Option<String>,
}

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    /// Under way.
    Progressing,
    /// What could be done is done; processes have to let go of memory.
    Converging,
    /// The pod is as it was to be.
    Done,
    /// It failed, and what was before is being brought back.
    RollingBack,
    /// It failed, and the pod is as it was before.
    RolledBack,
}

impl ChangeState {
    /// Whether there is nothing to wait for.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack | Self::Converging)
    }
}

/// A container as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its name in the pod.
    pub name: String,
    /// What it is to the pod.
    pub kind: ContainerKind,
    /// As the manifest writes it.
    pub image: String,
    /// `sha256:…`.
    pub image_id: String,
    /// Its present or last run.
    pub id: Option<ContainerId>,
    /// What it does.
    pub state: ContainerState,
    /// How the run before this one ended.
    pub last_termination: Option<Termination>,
    /// Runs beyond the first.
    pub restarts: u32,
    /// It has been started and has not ended since.
    pub started: bool,
    /// It does its work: runs, or (an init container) has ended well.
    pub ready: bool,
    /// What it has: for its run or, without one, its next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Why it has not what it is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resizing: Option<String>,
    /// A container of a sandbox that was removed: its place is free.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_gone: bool,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ContainerState {
    /// Not running yet, or not at the moment.
    Waiting {
        /// `PodInitializing`, `ContainerCreating`, `CrashLoopBackOff`.
        reason: String,
        /// More, where there is more to say.
        message: Option<String>,
    },
    /// Running.
    Running {
        /// Since when.
        started: u64,
    },
    /// Ended.
    Terminated(Termination),
}

/// The reason of a container of which nobody knows how it ended: its machine did.
pub const UNKNOWN: &str = "ContainerStatusUnknown";

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    /// Exit code; 128 + signal when a signal ended it.
    pub exit_code: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// More, where there is more to say.
    pub message: Option<String>,
    /// When it started, if it did.
    pub started: Option<u64>,
    /// When it ended.
    pub finished: u64,
    /// Which run it was.
    pub id: Option<ContainerId>,
}

/// The reason of an event: a disk waits for room on the host, or goes on.
pub const DISK_STALLED: &str = "DiskStalled";

/// Something that happened to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEvent {
    /// When, the last time.
    pub time: u64,
    /// Whether somebody should look.
    pub kind: EventKind,
    /// One word: `Started`, `BackOff`, `Killing`, …
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// How often in a row.
    pub count: u32,
}

/// Whether an event is a matter of course.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// It is.
    Normal,
    /// Somebody should look.
    Warning,
}

/// One phase of a start and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptLine {
    /// `image`, `net`, `disk`, `vmm`, `kernel`, `agent`, `setup`, `container`.
    pub phase: String,
    /// Time that passed, in nanoseconds.
    pub wall_nanos: u64,
    /// CPU time of the VMM and the guest, in nanoseconds, where it is theirs.
    pub cpu_nanos: Option<u64>,
}

/// How a VM ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmEnd {
    /// By the VMM's own record; `None` when it left none (it was killed).
    pub cause: Option<ExitCause>,
    /// One sentence.
    pub detail: String,
    /// The host's out-of-memory killer ended the VMM.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_host_oom: bool,
    /// Exit code of the VMM process, where it exited and this was seen.
    pub exit_code: Option<i32>,
    /// Signal that ended the VMM process, where this was seen.
    pub signal: Option<i32>,
    /// The last word of the guest: the boot phase that was reached last, or how it ended itself.
    pub last_stamp: Option<Stamp>,
    /// The boot phase that was reached last.
    #[serde(default)]
    pub reached: Option<Stamp>,
    /// Last lines of the early console.
    pub console: String,
}

impl PodStatus {
    /// Appends an event, or counts the last one up when it is the same again.
    pub fn push_event(&mut self, time: u64, kind: EventKind, reason: &str, message: String) {
        self.push_events(time, kind, reason, message, 1);
    }

    /// The same for one that happened `count` times.
    pub fn push_events(
        &mut self,
        time: u64,
        kind: EventKind,
        reason: &str,
        message: String,
        count: u32,
    ) {
        if let Some(last) = self.events.last_mut()
            && last.reason == reason
            && last.message == message
        {
            last.count = last.count.saturating_add(count);
            last.time = time;
            return;
        }
        if self.events.len() >= MAX_EVENTS {
            self.events.remove(0);
        }
        self.events.push(PodEvent {
            time,
            kind,
            reason: reason.to_owned(),
            message,
            count,
        });
    }

    /// Notes the conditions that are not as they were.
    pub fn keep_transitions(&mut self, now: u64) {
        for (kind, holds) in self.conditions() {
            let last = self.transitions.get(kind);
            if last.is_none_or(|last| last.holds != holds) {
                let change = Transition { holds, at: now };
                self.transitions.insert(kind.to_owned(), change);
            }
        }
    }

    /// The exit code of the pod as a command: 0 when it succeeded, otherwise
    /// the code of the first app container (then init container) that ended
    /// badly; `None` while it has not ended or when no container says why.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.phase {
            Phase::Pending | Phase::Running => None,
            Phase::Succeeded => Some(0),
            Phase::Failed => {
                let failed = |kind: ContainerKind| {
                    self.containers
                        .iter()
                        .filter(move |container| container.kind == kind)
                        .filter_map(|container| match &container.state {
                            ContainerState::Terminated(end) => Some(end.exit_code),
                            _ => None,
                        })
                        .find(|code| *code != 0)
                };
                failed(ContainerKind::App).or_else(|| failed(ContainerKind::Init))
            }
        }
    }

    /// The four conditions that Kubernetes shows, with whether each holds.
    #[must_use]
    pub fn conditions(&self) -> [(&'static str, bool); 4] {
        let all = || self.containers.iter();
        let lasting = || {
            let kinds = [ContainerKind::App, ContainerKind::Sidecar];
            all().filter(move |container| kinds.contains(&container.kind))
        };
        let apps_ready = lasting().all(|one| one.ready) && self.phase == Phase::Running;
        let initialized = all().all(|container| match container.kind {
            ContainerKind::Init => container.ready,
            ContainerKind::Sidecar => container.started,
            ContainerKind::App | ContainerKind::Ephemeral => true,
        });
        // Once an app container has run, how a sidecar ended changes nothing.
        let app_ran = self
            .containers
            .iter()
            .any(|container| container.kind == ContainerKind::App && container.id.is_some());
        [
            ("PodScheduled", true),
            ("Initialized", app_ran || initialized),
            ("ContainersReady", apps_ready),
            ("Ready", apps_ready && self.deleted.is_none()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_events_in_a_row_are_counted_and_the_list_is_bounded() {
        let mut status = PodStatus::default();
        for at in 0..3 {
            status.push_event(at, EventKind::Warning, "BackOff", "again".to_owned());
        }
        assert_eq!((status.events.len(), status.events[0].count), (1, 3));
        assert_eq!(status.events[0].time, 2);
        for at in 0..200 {
            status.push_event(at, EventKind::Normal, "Started", at.to_string());
        }
        assert_eq!(status.events.len(), MAX_EVENTS);
    }
}
