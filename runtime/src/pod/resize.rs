//! Limits of running containers follow the plan: at once, or as soon as their
//! processes let go of the memory that they are to lose.

use super::now;
use super::supervisor::{Message, Supervisor};
use crate::host::cgroup;
use crate::plan::{HostStep, milli_cpus};
use crate::spec::{Bytes, Resources};
use crate::store::status::{ChangeState, EventKind};
use beluga_proto::{ContainerId, Fault, FaultCode, Request};
use std::time::Duration;

/// Between two attempts to take memory away.
const AGAIN: Duration = Duration::from_secs(2);

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct Limited {
    index: usize,
    id: ContainerId,
    resources: Resources,
    result: Result<(), Fault>,
}

impl Supervisor {
    /// Gives running containers what the plan says, where they have something
    /// else.
    pub(super) fn resize(&self) {
        // Who is about to be replaced keeps what he has.
        if self.record.change.is_some() || self.record.state.is_changing() {
            return;
        }
        for (index, id) in self.to_be_resized() {
            let Some(id) = id.filter(|id| self.record.state.is_running(id)) else {
                // Its next run is started with them.
                continue;
            };
            let container = &self.plan.containers[index];
            let resources = container.resources.clone();
            let reply = self.link.request(Request::Limit {
                container: id.clone(),
                limits: container.template.cgroup.clone(),
            });
            self.later(async move {
                Message::Limited(Limited {
                    index,
                    id,
                    resources,
                    result: reply.await.map(drop),
                })
            });
        }
    }

    /// Containers that have other resources than the plan says. A record of
    /// before this could be does not know what they have.
    fn to_be_resized(&self) -> Vec<(usize, Option<ContainerId>)> {
        let all = self.record.status().containers.iter();
        let pairs = all.zip(&self.plan.containers).enumerate();
        let differ = pairs.filter(|(_, (status, plan))| {
            let has = status.resources.as_ref();
            has.is_some_and(|has| *has != plan.resources)
        });
        differ
            .map(|(index, (status, _))| (index, status.id.clone()))
            .collect()
    }

    pub(super) fn limited(&mut self, limited: Limited) {
        let Limited {
            index,
            id,
            resources,
            result,
        } = limited;
        let state = &mut self.record.state;
        let Some(status) = state.status.containers.get_mut(index) else {
            return;
        };
        if status.id.as_ref() != Some(&id) {
            return;
        }
        self.is_dirty = true;
        match result {
            Ok(()) => {
                let message = format!("Container {} has {}", status.name, shown(&resources));
                (status.resources, status.resizing) = (Some(resources), None);
                self.event(EventKind::Normal, "ResizeCompleted", message);
            }
            Err(fault) if fault.code == FaultCode::ResourceExhausted => {
                let limit = Bytes(resources.memory_limit.unwrap_or_default());
                let why = format!("{}, its new limit is {limit}", fault.message);
                if status.resizing.is_none() {
                    let message = format!("Container {}: {why}", status.name);
                    state.status.push_event(
                        now().unix,
                        EventKind::Warning,
                        "ResizeDelayed",
                        message,
                    );
                }
                if let Some(status) = state.status.containers.get_mut(index) {
                    status.resizing = Some(why);
                }
                self.later(async move {
                    tokio::time::sleep(AGAIN).await;
                    Message::ResizeAgain
                });
            }
            // It has ended, or the agent is away: another occasion comes.
            Err(_) => {}
        }
        self.resize_news();
    }

    /// Tells how the change gets on, if it was about resources alone.
    pub(super) fn resize_news(&mut self) {
        let state = &mut self.record.state;
        let is_about_more = self.record.change.is_some() || state.is_changing();
        let Some(change) = state.status.change.clone().filter(|_| !is_about_more) else {
            return;
        };
        if matches!(change.state, ChangeState::Done | ChangeState::RolledBack) {
            return;
        }
        let waits = state.status.containers.iter().find_map(|one| {
            let why = one.resizing.as_ref()?;
            Some(format!("container {}: {why}", one.name))
        });
        let (next, message) = match waits {
            Some(why) => (ChangeState::Converging, Some(why)),
            None if self.to_be_resized().is_empty() => (ChangeState::Done, None),
            None => return,
        };
        self.record
            .state
            .set_change(change.generation, next, message);
        self.is_dirty = true;
        if next == ChangeState::Done {
            self.settle();
        }
    }

    /// The pod's share of the host follows its plan.
    pub(super) fn limit_on_host(&mut self) {
        let mut warnings = Vec::new();
        for step in &self.plan.host {
            if let HostStep::Cgroup(plan) = step {
                match cgroup::create(plan) {
                    Ok(missing) => warnings.extend(missing.into_iter().map(str::to_owned)),
                    Err(error) => warnings.push(crate::error_chain(&error)),
                }
            }
        }
        if !warnings.is_empty() {
            let message = format!("the host's cgroup keeps its {}", warnings.join(", "));
            self.warn("HostLimits", message);
        }
    }
}

/// `cpu 500m, memory 64Mi`, the limits or, without them, the requests.
fn shown(resources: &Resources) -> String {
    let cpu = resources.cpu_limit_milli.or(resources.cpu_request_milli);
    let memory = resources.memory_limit.or(resources.memory_request);
    let cpu = cpu.map(|milli| format!("cpu {}", milli_cpus(milli)));
    let memory = memory.map(|bytes| format!("memory {}", Bytes(bytes)));
    let all: Vec<String> = cpu.into_iter().chain(memory).collect();
    all.join(", ")
}
