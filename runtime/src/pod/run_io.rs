//! The streams of container runs: output to logs and attached clients, input
//! from them; and ends that wait until the output is in the log.

use super::fifo::Pipes;
use super::output::{Pump, Reopened};
use super::server::Attach;
use super::supervisor::{Message, Supervisor};
use crate::logs::{self, LogFile, Output};
use beluga_proto::agent::{ProcessExit, ResumeStream, StdioNonces};
use beluga_proto::{ContainerId, Fault, FaultCode, Request};
use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// How long an ended run's streams may stay open with nothing coming: they end
/// with its last process, unless something outside holds them open, and however
/// slowly the rest comes, all of it is waited for. containerd waits 10 s.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(15);

/// A run's standard input, once the agent has dialled it.
pub(super) type Stdin = watch::Receiver<Option<Arc<UnixStream>>>;

/// The streams of one run.
#[derive(Debug)]
struct RunIo {
    pump: JoinHandle<()>,
    attached: mpsc::UnboundedSender<UnixStream>,
    reopen: mpsc::UnboundedSender<Reopened>,
    stdin: Option<Stdin>,
    /// Grows with each piece of output.
    moved: Arc<AtomicU64>,
    is_drained: bool,
    end: Option<End>,
}

/// How a run ended, and what it left to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastWords {
    pub(super) exit: ProcessExit,
    pub(super) message: Option<String>,
}

/// An end that waits for its output.
#[derive(Debug, Clone)]
struct End {
    seq: u64,
    last: LastWords,
    /// What had been moved when the deadline was set.
    moved: u64,
    deadline: u64,
}

/// When an end is told although nothing more of its output has come.
fn deadline(now: u64) -> u64 {
    let wait = u64::try_from(OUTPUT_PATIENCE.as_nanos()).unwrap_or(u64::MAX);
    now.saturating_add(wait)
}

/// A client that wants to join a container.
#[derive(Debug)]
struct Waiting {
    /// The container's place in the plan.
    index: usize,
    wants_stdin: bool,
    is_quiet: bool,
    reply: oneshot::Sender<Result<Attach, Fault>>,
}

/// The streams of all runs.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: HashMap<ContainerId, RunIo>,
    /// Clients that wait for a container to run, by their places in the plan.
    waiting: Vec<Waiting>,
}

impl Runs {
    /// Notes that a run has ended; whether its output is complete already.
    pub(super) fn has_ended(
        &mut self,
        id: &ContainerId,
        seq: u64,
        last: LastWords,
        now: u64,
    ) -> bool {
        let Some(run) = self.runs.get_mut(id) else {
            return false;
        };
        run.end = Some(End {
            seq,
            last,
            moved: run.moved.load(Ordering::Relaxed),
            deadline: deadline(now),
        });
        run.is_drained
    }

    /// Notes that a run's output is complete; whether it has ended as well.
    pub(super) fn drained(&mut self, id: &ContainerId) -> bool {
        self.runs.get_mut(id).is_some_and(|run| {
            run.is_drained = true;
            run.end.is_some()
        })
    }

    /// Takes the end of a run out, to be told to the state machine.
    pub(super) fn take_end(&mut self, id: &ContainerId) -> Option<LastWords> {
        let end = self.runs.get_mut(id)?.end.take()?;
        self.forget(id);
        Some(end.last)
    }

    /// Gives a run's streams up.
    pub(super) fn forget(&mut self, id: &ContainerId) {
        if let Some(run) = self.runs.remove(id) {
            run.pump.abort();
        }
    }

    /// Sequence numbers begin again at what is acknowledged.
    pub(super) fn forget_events(&mut self) {
        for run in self.runs.values_mut() {
            run.end = None;
        }
    }

    /// The last event up to which all are in the record, of those up to `received`.
    pub(super) fn safe_event(&self, received: u64) -> u64 {
        let held = self.runs.values().filter_map(|run| run.end.as_ref());
        held.filter(|end| end.seq > 0)
            .map(|end| end.seq - 1)
            .min()
            .map_or(received, |held| held.min(received))
    }

    /// When an end is told even though its output is not complete.
    pub(super) fn deadline(&self) -> Option<u64> {
        let ends = self.runs.values().filter_map(|run| run.end.as_ref());
        ends.map(|end| end.deadline).min()
    }

    /// Runs whose ends are told now: nothing has come for long. The others are
    /// given time again.
    pub(super) fn overdue(&mut self, now: u64) -> Vec<ContainerId> {
        let mut overdue = Vec::new();
        for (id, run) in &mut self.runs {
            let Some(end) = run.end.as_mut().filter(|end| end.deadline <= now) else {
                continue;
            };
            let moved = run.moved.load(Ordering::Relaxed);
            if moved == end.moved {
                overdue.push(id.clone());
            } else {
                (end.moved, end.deadline) = (moved, deadline(now));
            }
        }
        overdue
    }

    /// Waits until what lies in the streams of a VM that is gone is in the logs.
    pub(super) async fn drain(&mut self, patience: Duration) {
        let all = async {
            for (_, run) in self.runs.drain() {
                let _ = run.pump.await;
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
    }

    /// Has a run's log opened anew; gives back who is to be told when there is no run.
    pub(super) fn reopen(&self, id: Option<&ContainerId>, reply: Reopened) -> Option<Reopened> {
        let Some(run) = id.and_then(|id| self.runs.get(id)) else {
            return Some(reply);
        };
        run.reopen.send(reply).err().map(|unsent| unsent.0)
    }

    /// Closes a run's standard input: its process reads the end of it.
    pub(super) fn close_stdin(&mut self, id: &ContainerId) {
        let stdin = self.runs.get(id).and_then(|run| run.stdin.as_ref());
        if let Some(stdin) = stdin.and_then(|stdin| stdin.borrow().clone()) {
            let _ = rustix::net::shutdown(stdin.as_fd(), rustix::net::Shutdown::Write);
        }
    }
}

impl Supervisor {
    /// Asks the agent to start a container, its streams prepared.
    pub(super) fn start_container(&mut self, index: usize, id: ContainerId) {
        self.forget_old_logs(index);
        let container = &self.plan.containers[index];
        let process = &container.template.process;
        let (stdout_nonce, stdout) = self.streams.expect();
        let stderr = process.tty.is_none().then(|| self.streams.expect());
        let stdin = process.stdin.then(|| self.streams.expect());
        let (stderr_nonce, stderr) = stderr.unzip();
        let (stdin_nonce, stdin) = stdin.unzip();
        let resources = Some(container.resources.clone());
        if let Some(status) = self.record.state.status.containers.get_mut(index) {
            (status.resources, status.resizing) = (resources, None);
        }
        let mut spec = container.run(id.clone());
        spec.processes_of = self.target_of(container);
        let start = Request::Start {
            spec: Box::new(spec),
            stdio: StdioNonces {
                stdin: stdin_nonce,
                stdout: Some(stdout_nonce),
                stderr: stderr_nonce,
            },
        };
        self.begin_run(index, &id, stdout, stderr, stdin);
        let reply = self.link.request(start);
        self.later(async move { Message::Started(id, reply.await) });
    }

    /// The run whose processes a container is to see.
    fn target_of(&self, container: &crate::plan::ContainerPlan) -> Option<ContainerId> {
        let target = container.template.target.as_deref()?;
        let mut all = self.record.status().containers.iter();
        all.find(|one| one.name == target)?.id.clone()
    }

    /// Takes up the output of a run where the log ends.
    pub(super) fn resume_output(&mut self, index: usize, id: &ContainerId) {
        let Some(safe) = self.safe_output(index) else {
            return;
        };
        let process = &self.plan.containers[index].template.process;
        let resume = |nonce, output: Output| ResumeStream {
            nonce,
            offset: safe[output.index()],
        };
        let (stdout_nonce, stdout) = self.streams.expect();
        let stderr = process.tty.is_none().then(|| self.streams.expect());
        let stdin = process.stdin.then(|| self.streams.expect());
        let (stderr_nonce, stderr) = stderr.unzip();
        let (stdin_nonce, stdin) = stdin.unzip();
        let request = Request::ResumeOutput {
            container: id.clone(),
            stdout: Some(resume(stdout_nonce, Output::Stdout)),
            stderr: stderr_nonce.map(|nonce| resume(nonce, Output::Stderr)),
            stdin: stdin_nonce,
        };
        self.runs.forget(id);
        self.begin_run(index, id, stdout, stderr, stdin);
        drop(self.link.request(request));
    }

    /// How much of each stream is where it belongs; nothing when the log cannot
    /// be opened, which is told.
    fn safe_output(&mut self, index: usize) -> Option<[u64; 2]> {
        let both = [Output::Stdout, Output::Stderr];
        if let Some(pipes) = self.pipes(index) {
            return Some(both.map(|output| pipes.safe(output)));
        }
        let path = self.log_path(index);
        match LogFile::open(&path, &self.log_kind(index)) {
            Ok(log) => Some(both.map(|output| log.safe(output))),
            Err(error) => {
                let message = format!("Cannot open {}: {error}", path.display());
                self.warn("LogFailed", message);
                None
            }
        }
    }

    /// The pipes that take a container's output in place of a log.
    fn pipes(&self, index: usize) -> Option<Pipes> {
        let container = &self.plan.containers[index];
        let (settings, uid) = (&self.settings, &self.record.uid);
        container.fifos.clone().map(|fifos| Pipes {
            fifos,
            directory: logs::directory(settings, uid, container.name()),
        })
    }

    /// Before a run: the run before it keeps its log, as the kubelet does it.
    fn forget_old_logs(&self, index: usize) {
        let status = &self.record.status().containers[index];
        let Some(kept) = status.restarts.checked_sub(1) else {
            return;
        };
        let directory = logs::directory(&self.settings, &self.record.uid, &status.name);
        // What stays only takes room; the next run tries again.
        let _ = logs::segments::forget_runs_before(&directory, kept);
    }

    pub(super) fn log_path(&self, index: usize) -> std::path::PathBuf {
        if let Some(path) = &self.plan.containers[index].log {
            return path.clone();
        }
        let status = &self.record.status().containers[index];
        logs::path(
            &self.settings,
            &self.record.uid,
            &status.name,
            status.restarts,
        )
    }

    /// Who puts full files of a log aside.
    fn log_kind(&self, index: usize) -> logs::Kind {
        let container = &self.plan.containers[index];
        match &container.log {
            None => logs::Kind::Own(self.settings.logs),
            Some(_) => {
                let (settings, uid) = (&self.settings, &self.record.uid);
                let directory = logs::directory(settings, uid, container.name());
                logs::Kind::Others(directory.join("begins"))
            }
        }
    }

    fn begin_run(
        &mut self,
        index: usize,
        id: &ContainerId,
        stdout: oneshot::Receiver<UnixStream>,
        stderr: Option<oneshot::Receiver<UnixStream>>,
        stdin: Option<oneshot::Receiver<UnixStream>>,
    ) {
        let (attach, attached) = mpsc::unbounded_channel();
        let (reopen, reopened) = mpsc::unbounded_channel();
        let pump = Pump {
            log: self.log_path(index),
            kind: self.log_kind(index),
            pipes: self.pipes(index),
            reopened,
            stdout,
            stderr,
            attached,
            moved: Arc::default(),
        };
        let moved = Arc::clone(&pump.moved);
        let messages = self.messages.clone();
        let run = id.clone();
        let pump = tokio::spawn(async move {
            let error = pump.run().await.err().map(|error| error.to_string());
            let _ = messages.send(Message::Drained(run, error));
        });
        let stdin = stdin.map(|dialled| {
            let (opened, stdin) = watch::channel(None);
            tokio::spawn(async move {
                if let Ok(stream) = dialled.await {
                    opened.send_replace(Some(Arc::new(stream)));
                }
            });
            stdin
        });
        let io = RunIo {
            pump,
            attached: attach,
            reopen,
            stdin,
            moved,
            is_drained: false,
            end: None,
        };
        self.runs.runs.insert(id.clone(), io);
        self.serve_waiting(index, id);
    }

    /// Attaches a client to a container now, or when it runs.
    pub(super) fn attach(
        &mut self,
        request: crate::api::AttachRequest,
        reply: oneshot::Sender<Result<Attach, Fault>>,
    ) {
        let admitted = match request.stdin {
            true => self.admit_exec(),
            false => Ok(()),
        };
        let index = admitted.and_then(|()| self.container_index(request.container.as_deref()));
        let index = match index {
            Ok(index) => index,
            Err(fault) => {
                let _ = reply.send(Err(fault));
                return;
            }
        };
        let container = &self.plan.containers[index];
        if request.stdin && !container.template.process.stdin {
            let message = format!("the container {} has no standard input", container.name());
            let _ = reply.send(Err(Fault::new(FaultCode::FailedPrecondition, message)));
            return;
        }
        if self.record.state.is_over(index) {
            let message = format!("the container {} has ended", container.name());
            let _ = reply.send(Err(Fault::new(FaultCode::FailedPrecondition, message)));
            return;
        }
        self.runs.waiting.push(Waiting {
            index,
            wants_stdin: request.stdin,
            is_quiet: request.quiet,
            reply,
        });
        let run = self.record.status().containers[index].id.clone();
        if let Some(id) = run.filter(|id| self.runs.runs.contains_key(id)) {
            self.serve_waiting(index, &id);
        }
    }

    fn serve_waiting(&mut self, index: usize, id: &ContainerId) {
        let ready: Vec<_> = self
            .runs
            .waiting
            .extract_if(.., |waiting| waiting.index == index)
            .collect();
        for waiting in ready {
            let wanted = (waiting.wants_stdin, waiting.is_quiet);
            let attach = self.join(index, id, wanted);
            let _ = waiting.reply.send(attach);
        }
    }

    fn join(
        &mut self,
        index: usize,
        id: &ContainerId,
        (stdin, is_quiet): (bool, bool),
    ) -> Result<Attach, Fault> {
        let fault = |error: std::io::Error| Fault::new(FaultCode::Internal, error.to_string());
        let run =
            self.runs.runs.get(id).ok_or_else(|| {
                Fault::new(FaultCode::FailedPrecondition, "the container has ended")
            })?;
        let (ours, theirs) = UnixStream::pair().map_err(fault)?;
        if !is_quiet {
            let _ = run.attached.send(ours);
        }
        let output = theirs.into_std().map(OwnedFd::from).map_err(fault)?;
        let container = &self.plan.containers[index];
        Ok(Attach {
            id: id.clone(),
            index,
            output,
            stdin: run.stdin.clone().filter(|_| stdin),
            closes_stdin: stdin && container.stdin_once,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_waits_while_output_comes_and_not_for_ever() {
        let (attached, _) = mpsc::unbounded_channel();
        let (reopen, _) = mpsc::unbounded_channel();
        let moved = Arc::new(AtomicU64::new(5));
        let run = RunIo {
            pump: tokio::spawn(std::future::pending()),
            attached,
            reopen,
            stdin: None,
            moved: Arc::clone(&moved),
            is_drained: false,
            end: None,
        };
        let (mut runs, id) = (Runs::default(), ContainerId::from_random([1; 16]));
        runs.runs.insert(id.clone(), run);
        let exit = ProcessExit {
            code: 3,
            signal: None,
            oom_killed: false,
            unix_nanos: 0,
        };
        let last = LastWords {
            exit,
            message: None,
        };
        assert!(!runs.has_ended(&id, 1, last.clone(), 0));
        let mut now = 0;
        for _ in 0..3 {
            moved.fetch_add(1, Ordering::Relaxed);
            assert!(runs.overdue(now).is_empty(), "too early");
            now = runs.deadline().unwrap();
            assert!(runs.overdue(now).is_empty(), "some has come since");
        }
        now = runs.deadline().unwrap();
        assert_eq!(runs.overdue(now), std::slice::from_ref(&id));
        assert_eq!(runs.take_end(&id), Some(last));
        assert_eq!(runs.deadline(), None);
    }
}
