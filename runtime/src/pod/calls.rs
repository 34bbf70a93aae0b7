//! What clients ask of the owner.

use super::server::{self, Call, Exec};
use super::state::{Input, Stage};
use super::supervisor::Supervisor;
use beluga_proto::{Fault, FaultCode};
use std::time::Duration;
use tokio::sync::oneshot;

impl Supervisor {
    pub(super) async fn on_call(&mut self, call: Call) {
        match call {
            Call::Stop(request) => {
                self.record.delete |= request.delete;
                self.is_dirty = true;
                let grace = request.grace.unwrap_or(self.plan.grace_seconds);
                let grace = Duration::from_secs(u64::from(grace));
                self.step(Input::Stop { grace }).await;
            }
            Call::Exec(request, reply) => {
                let _ = reply.send(self.exec(request));
            }
            Call::ExecGone(exec) => {
                self.execs.remove(&exec);
            }
            Call::Attach(request, reply) => self.attach(request, reply),
            Call::Refresh(reply) => self.refresh(Some(reply)),
            // The guest is told of it when it knows the rest.
            Call::Change(request, reply) if self.is_being_set_up() => {
                self.early.push((request, reply));
            }
            Call::Change(request, reply) => {
                let _ = reply.send(self.change(&request).await);
            }
            Call::Container(name, act, reply) => self.container(&name, act, reply).await,
            Call::StdinDone(id) => self.runs.close_stdin(&id),
        }
    }

    fn is_being_set_up(&self) -> bool {
        let stage = self.record.state.stage;
        !self.is_set_up && matches!(stage, Stage::Booting | Stage::Init | Stage::Running)
    }

    /// Changes that were asked for before the guest was there.
    pub(super) async fn make_early_changes(&mut self) {
        for (request, reply) in std::mem::take(&mut self.early) {
            let _ = reply.send(self.change(&request).await);
        }
    }

    /// Errors where nobody may come into the pod's containers from outside.
    pub(super) fn admit_exec(&self) -> Result<(), Fault> {
        if !self.plan.guest.no_exec {
            return Ok(());
        }
        let message = "the pod's profile, tenant, lets no command in (granted by \
                       `beluga run --profile tenant --allow-exec` when it is started)";
        Err(Fault::new(FaultCode::PermissionDenied, message))
    }

    pub(super) fn exec(&mut self, request: crate::api::ExecRequest) -> Result<Exec, Fault> {
        self.admit_exec()?;
        let index = self.container_index(request.container.as_deref())?;
        let container = &self.plan.containers[index];
        let id = self.record.status().containers[index]
            .id
            .clone()
            .filter(|id| self.record.state.is_running(id))
            .ok_or_else(|| {
                let name = container.name();
                let pod = &self.record.name;
                let message = format!(
                    "the container {name} is not running (why: `beluga describe pod {pod}`)"
                );
                Fault::new(FaultCode::FailedPrecondition, message)
            })?;
        let exec = super::random_exec_id();
        let process = server::exec_process(&container.template.process, &request)?;
        let (exit, exited) = oneshot::channel();
        self.execs.insert(exec.clone(), exit);
        Ok(Exec::begin(
            &self.link,
            &self.streams,
            id,
            exec,
            (process, request.copy),
            exited,
        ))
    }

    /// Place in the plan of the container of that name; the first app
    /// container without one.
    pub(super) fn container_index(&self, name: Option<&str>) -> Result<usize, Fault> {
        let containers = &self.plan.containers;
        let found = match name {
            Some(name) => containers.iter().position(|at| at.name() == name),
            None => containers
                .iter()
                .position(|at| at.kind == crate::plan::ContainerKind::App),
        };
        found.ok_or_else(|| {
            let message = format!("the pod has no container {:?}", name.unwrap_or_default());
            Fault::new(FaultCode::NotFound, message)
        })
    }
}
