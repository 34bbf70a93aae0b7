//! The owner's dealings with the agent: handshake, set-up, events, and what
//! there is after a takeover.

use super::now;
use super::run_io::LastWords;
use super::state::{Input, ProbeNews, Stage};
use super::supervisor::{Message, Supervisor};
use crate::link::{self, Link, LinkEvent};
use crate::logs;
use beluga_proto::agent::{ContainerState, MAX_TERMINATION_MESSAGE, ProcessExit, Target};
use beluga_proto::bytes::Bytes;
use beluga_proto::{
    ContainerId, Event, Fault, FaultCode, HostFrame, Nonce, PROTOCOL_MAX, PROTOCOL_MIN, Request,
    Welcome, negotiate,
};

impl Supervisor {
    pub(super) async fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Hello { hello, pending } => {
                let known = match (&self.record.token, &hello.token) {
                    (None, None) => !self.said_hello,
                    (Some(ours), Some(theirs)) => ours.matches(theirs.as_bytes()),
                    _ => false,
                };
                if !known {
                    // A container's process, or a second agent: no answer.
                    return;
                }
                let theirs = hello.protocols;
                let Some(protocol) = negotiate((PROTOCOL_MIN, PROTOCOL_MAX), theirs) else {
                    let message = format!(
                        "the agent (version {}) speaks protocols {} to {}, this Beluga {PROTOCOL_MIN} to {PROTOCOL_MAX}",
                        link::one_line(&hello.version),
                        theirs.0,
                        theirs.1
                    );
                    Link::refuse(pending, Fault::new(FaultCode::Unsupported, message.clone()));
                    self.fail("AgentVersion", message).await;
                    return;
                };
                self.said_hello = true;
                let token = self
                    .record
                    .token
                    .get_or_insert_with(|| Nonce::from_random(super::random_bytes()))
                    .clone();
                self.is_dirty = true;
                // On record before the agent may use it.
                if self.save().is_err() {
                    return;
                }
                let acked = self.record.acked;
                self.link.accept(
                    pending,
                    &HostFrame::Welcome(Welcome {
                        protocol,
                        token,
                        acked,
                    }),
                );
                self.received = acked;
                self.runs.forget_events();
                if self.is_set_up {
                    let list = self.link.request(Request::List);
                    self.later(async move { Message::Listed(list.await) });
                } else {
                    self.set_up().await;
                }
            }
            LinkEvent::Event { seq, event, .. } => self.on_event(seq, event).await,
            // It dials again, or its VM has ended, which shows at once.
            LinkEvent::Lost { why, .. } => tell!("the connection to the agent is gone: {why}"),
        }
    }

    /// Everything up to the first container, without waiting for replies.
    pub(super) async fn set_up(&mut self) {
        let mut guest = self.plan.guest.clone();
        guest.clock_unix_nanos = now().unix;
        let set_up = self.link.request(Request::Setup(Box::new(guest)));
        let layers = self.plan.layers.clone();
        let layers = self.link.request(Request::AddLayers { layers });
        let filler = self.filler();
        let is_filled = filler.is_none();
        self.later(async move {
            let result = match set_up.await {
                Ok(_) => layers.await.map(drop),
                Err(fault) => Err(fault),
            };
            Message::SetUp(match (result, filler) {
                (Ok(()), Some(filler)) => filler.fill(true).await.map(drop),
                (result, _) => result,
            })
        });
        // No container must find its volumes empty.
        if is_filled {
            self.step(Input::Ready).await;
        }
    }

    pub(super) async fn start_failed(&mut self, id: ContainerId, fault: Fault) {
        // The connection's end is not the container's: it will be listed.
        if fault.code == FaultCode::Unavailable {
            return;
        }
        self.boot_deadline = None;
        self.runs.forget(&id);
        let exit_code = match fault.code {
            FaultCode::CommandNotFound => 127,
            FaultCode::CommandNotExecutable => 126,
            _ => 128,
        };
        let message = fault.message;
        let input = Input::StartFailed {
            id,
            exit_code,
            message,
        };
        self.step(input).await;
    }

    #[expect(clippy::too_many_lines, reason = "a total match: every event once")]
    pub(super) async fn on_event(&mut self, seq: u64, event: Event) {
        // Sent again after a reconnection, and in the record already.
        if seq <= self.received {
            return;
        }
        self.received = seq;
        self.is_dirty = true;
        match event {
            Event::Exited {
                container,
                exit,
                message,
            } => {
                let message = message.map(last_words);
                let last = LastWords { exit, message };
                if self.runs.has_ended(&container, seq, last, now().boot) {
                    self.exited(&container).await;
                }
            }
            Event::ExecExited { exec, exit } => {
                if let Some(waiting) = self.execs.remove(&exec) {
                    let _ = waiting.send(exit);
                }
            }
            Event::OomKilled { container } => {
                if let Some((index, _)) = self.record.state.find(&container) {
                    let name = self.plan.containers[index].name();
                    let message = format!("Memory limit of container {name} reached");
                    self.warn("OOMKilling", message);
                }
            }
            Event::Probed {
                container: id,
                kind,
                passed,
                failures,
                message,
            } => {
                let news = ProbeNews {
                    kind,
                    passed,
                    failures,
                    message: link::bounded(message, MAX_WORDS),
                };
                self.step(Input::Probed { id, news }).await;
            }
            Event::HookEnded {
                container: id,
                hook,
                failure,
            } => {
                let failed = failure.is_some();
                self.step(Input::HookEnded { id, hook, failed }).await;
            }
            Event::TlsWanted {
                attempt,
                request: Bytes(request),
                timeout_millis,
            } => self.speak_tls(attempt, request, timeout_millis),
            Event::Warning { message } => {
                self.warn("Agent", link::bounded(message, MAX_WORDS));
            }
            Event::Unknown => {}
        }
    }

    /// A run has ended and its output is in the log.
    pub(super) async fn exited(&mut self, id: &ContainerId) {
        if let Some(LastWords { exit, message }) = self.runs.take_end(id) {
            let message = message.or_else(|| self.last_output(id, exit));
            let id = id.clone();
            self.step(Input::Exited { id, exit, message }).await;
        }
    }

    /// The end of a failed run's output, where the manifest takes it for the
    /// message that the run has not left.
    fn last_output(&self, id: &ContainerId, exit: ProcessExit) -> Option<String> {
        let (index, _) = self.record.state.find(id)?;
        if exit.code == 0 || !self.plan.containers[index].message_or_output {
            return None;
        }
        logs::last_words(&self.log_path(index))
    }

    /// Brings the state in line with what the agent has, after a takeover.
    pub(super) async fn reconcile(&mut self, containers: Vec<ContainerState>) {
        if !containers.is_empty() {
            // Complete, for the first one runs; the one before may not have had it.
            self.fetch_receipt().await;
        }
        for (index, id) in self.record.state.live() {
            let found = containers.iter().find(|container| container.id == id);
            match found {
                Some(container) => {
                    if !self.record.state.is_running(&id) {
                        self.step(Input::Started { id: id.clone() }).await;
                    }
                    self.resume_output(index, &id);
                    // Its event was acknowledged, or is on the way: once is enough.
                    if let Some(exit) = container.exit {
                        let message = container.message.clone().map(last_words);
                        let last = LastWords { exit, message };
                        self.runs.has_ended(&id, 0, last, now().boot);
                    }
                }
                None if self.record.state.is_running(&id) => {
                    let exit = ProcessExit {
                        code: 137,
                        signal: None,
                        oom_killed: false,
                        unix_nanos: now().unix,
                    };
                    let message = None;
                    self.step(Input::Exited { id, exit, message }).await;
                }
                // The request to start it never arrived.
                None => self.start_container(index, id),
            }
        }
        self.step(Input::Tick).await;
        self.repeat_stop_signals();
        self.repeat_hooks();
    }

    /// A stop signal may have been lost with the connection.
    pub(super) fn repeat_stop_signals(&self) {
        if !matches!(self.record.state.stage, Stage::Stopping { .. }) {
            return;
        }
        for (id, signal) in self.record.state.stop_signals() {
            let target = Target::Container { id };
            drop(self.link.request(Request::Signal {
                target,
                signal,
                all: false,
            }));
        }
    }
}

/// Most bytes of what a guest says that an event keeps: a record holds many.
const MAX_WORDS: usize = 1024;

/// What a run has left to say. The agent keeps the bound; another would not.
fn last_words(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MAX_TERMINATION_MESSAGE));
    message
}
