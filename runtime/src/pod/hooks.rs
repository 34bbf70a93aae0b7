//! Hooks: the agent runs them, and tells their ends as events.

use super::now;
use super::supervisor::{Message, Supervisor};
use beluga_proto::probe::HookKind;
use beluga_proto::{ContainerId, FaultCode, Request};
use std::time::Duration;

impl Supervisor {
    /// Asks the agent to run a hook.
    pub(super) fn run_hook(&mut self, id: &ContainerId, hook: HookKind, timeout: Option<Duration>) {
        let Some((index, _)) = self.record.state.find(id) else {
            return;
        };
        let hooks = &self.plan.containers[index].hooks;
        let handler = match hook {
            HookKind::PostStart => &hooks.post_start,
            HookKind::PreStop => &hooks.pre_stop,
        };
        let messages = self.messages.clone();
        let refused = Message::HookRefused(id.clone(), hook);
        let Some(handler) = handler.clone() else {
            let _ = messages.send(refused);
            return;
        };
        let reply = self.link.request(Request::Hook {
            container: id.clone(),
            hook,
            handler,
            timeout_millis: timeout
                .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        });
        tokio::spawn(async move {
            match reply.await {
                Ok(_) => {}
                // It is asked again over the next connection.
                Err(fault) if fault.code == FaultCode::Unavailable => {}
                Err(_) => drop(messages.send(refused)),
            }
        });
    }

    /// Requests or their answers may have been lost with the connection.
    pub(super) fn repeat_hooks(&mut self) {
        for (id, hook, timeout) in self.record.state.open_hooks(now()) {
            self.run_hook(&id, hook, timeout);
        }
    }
}
