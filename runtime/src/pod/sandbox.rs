//! What is asked of one container of a sandbox.

use super::state::Input;
use super::supervisor::Supervisor;
use crate::api::ContainerAct;
use beluga_proto::{Fault, FaultCode, Request};
use std::time::Duration;
use tokio::sync::oneshot;

type Reply = oneshot::Sender<Result<(), Fault>>;

impl Supervisor {
    /// Does it, or says why not.
    pub(super) async fn container(&mut self, name: &str, act: ContainerAct, reply: Reply) {
        let done = match self.in_sandbox(name) {
            Ok(index) if act == ContainerAct::ReopenLog => {
                // Whoever writes the log answers.
                return self.reopen_log(index, reply);
            }
            Ok(index) if matches!(act, ContainerAct::Freeze | ContainerAct::Thaw) => {
                return self.freeze(index, act == ContainerAct::Freeze, reply);
            }
            Ok(index) => self.act(index, act).await,
            Err(fault) => Err(fault),
        };
        let _ = reply.send(done);
    }

    /// Place of a container of a sandbox that is still there.
    fn in_sandbox(&self, name: &str) -> Result<usize, Fault> {
        if !self.plan.sandbox {
            let message = "the pod's containers are those of its manifest";
            return Err(Fault::new(FaultCode::FailedPrecondition, message));
        }
        let index = self.container_index(Some(name))?;
        let known = self.record.status().containers.get(index);
        if known.is_none_or(|one| one.name != name || one.is_gone) {
            let message = format!("the pod has no container {name:?}");
            return Err(Fault::new(FaultCode::NotFound, message));
        }
        Ok(index)
    }

    async fn act(&mut self, index: usize, act: ContainerAct) -> Result<(), Fault> {
        let state = &self.record.state;
        let name = self.plan.containers[index].name();
        let refused = |why: &str| {
            let message = format!("the container {name} {why}");
            Err(Fault::new(FaultCode::FailedPrecondition, message))
        };
        let input = match act {
            ContainerAct::Start if !state.is_waiting(index) => {
                return refused("was started before");
            }
            ContainerAct::Start => Input::Begin { index },
            ContainerAct::Stop { grace_seconds } => Input::End {
                index,
                grace: Duration::from_secs(grace_seconds.into()),
            },
            ContainerAct::Remove if state.is_alive(index) => return refused("runs"),
            ContainerAct::Remove => Input::Forget { index },
            ContainerAct::Freeze | ContainerAct::Thaw | ContainerAct::ReopenLog => return Ok(()),
        };
        self.step(input).await;
        Ok(())
    }

    /// The agent answers.
    fn freeze(&self, index: usize, frozen: bool, reply: Reply) {
        let known = &self.record.status().containers[index];
        let Some(container) = known
            .id
            .clone()
            .filter(|id| self.record.state.is_running(id))
        else {
            let message = format!("the container {} is not running", known.name);
            let _ = reply.send(Err(Fault::new(FaultCode::FailedPrecondition, message)));
            return;
        };
        let done = self.link.ask(Request::Freeze { container, frozen });
        tokio::spawn(async move {
            let _ = reply.send(done.await.map(drop));
        });
    }

    fn reopen_log(&self, index: usize, reply: Reply) {
        let run = self.record.status().containers[index].id.clone();
        if let Some(reply) = self.runs.reopen(run.as_ref(), reply) {
            let name = self.plan.containers[index].name();
            let message = format!("the container {name} is not running");
            let _ = reply.send(Err(Fault::new(FaultCode::FailedPrecondition, message)));
        }
    }
}
