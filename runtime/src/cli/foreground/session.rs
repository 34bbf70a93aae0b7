//! One pod in the foreground.

use super::{Options, delete, end};
use crate::cli::output::{Printer, reader_gone};
use crate::cli::style::Style;
use crate::cli::tailing::{Changes, Tailing};
use crate::cli::terminal::{self, Outputs, Raw};
use crate::cli::{CliError, exit, time};
use crate::engine::{self, AttachRequest, PodView, Remote, Starting, StopRequest, Update, Watch};
use crate::logs;
use crate::settings::Settings;
use crate::store::status::{ContainerState, ContainerStatus, DISK_STALLED, Phase, PodStatus};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long the last lines of a receipt are waited for.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(2);

/// A request to end a pod, on its way.
type Stopping = tokio::task::JoinHandle<Result<(), CliError>>;

/// How it came that nobody stays with a pod any longer.
enum Stay {
    /// It runs, and nobody is to wait for its end.
    Detached,
    /// It has ended, or is no longer there.
    Ended,
}

/// One container's output on its way to us.
struct Stream {
    container: String,
    tailing: Tailing,
    printer: Printer,
    watched: bool,
}

/// One pod in the foreground.
pub(super) struct Session {
    settings: Settings,
    pod: PodView,
    watch: Watch,
    options: Options,
    status: PodStatus,
    streams: Vec<Stream>,
    changes: Changes,
    /// It is one of several: lines about it begin with its name.
    is_one_of_several: bool,
    /// Lines of the receipt that were shown.
    shown: usize,
    /// When the last stall of a disk was that was told.
    stall: u64,
    announced: bool,
    /// When the first container was seen to have begun.
    begun: Option<Instant>,
}

impl Session {
    pub(super) fn new(
        settings: Settings,
        starting: Starting,
        options: Options,
        several: bool,
    ) -> Self {
        let Starting { view: pod, watch } = starting;
        let count = pod.spec.all_containers().count();
        let streams = pod
            .spec
            .all_containers()
            .enumerate()
            .map(|(at, container)| {
                let name = if several {
                    format!("{}/{} |", pod.name, container.name)
                } else {
                    format!("{} |", container.name)
                };
                let prefix = (count > 1 || several).then_some((name.as_str(), at));
                Stream {
                    container: container.name.clone(),
                    tailing: Tailing::new(logs::directory(&settings, &pod.uid, &container.name), 0),
                    printer: Printer::new(false, prefix, true),
                    watched: false,
                }
            })
            .collect();
        Self {
            settings,
            watch,
            options,
            status: pod.status.clone(),
            pod,
            streams,
            changes: Changes::new(),
            is_one_of_several: several,
            shown: 0,
            stall: 0,
            announced: false,
            begun: None,
        }
    }

    /// Stays with the pod to its end; its exit code. Who cannot stay with a pod that is to be
    /// deleted deletes it at once: nobody else would.
    pub(super) async fn run(
        mut self,
        mut interrupts: watch::Receiver<u32>,
    ) -> Result<u8, CliError> {
        let mut stopping = None;
        let stayed = self.stay(&mut interrupts, &mut stopping).await;
        match stayed {
            Ok(Stay::Detached) => {
                // One that never came up is an error here as well.
                let failure = end::failure(&self.pod, &self.status, !self.options.remove);
                failure.map_or(Ok(exit::OK), |error| Err(error.into()))
            }
            Ok(Stay::Ended) => self.ended(stopping).await,
            Err(error) => {
                let deletes = self.options.remove && !self.options.detach;
                if deletes || stopping.is_some() {
                    // What went wrong first is what is told.
                    drop(delete(&self.settings, &self.pod, Some(0)).await);
                }
                Err(error)
            }
        }
    }

    async fn stay(
        &mut self,
        interrupts: &mut watch::Receiver<u32>,
        stopping: &mut Option<Stopping>,
    ) -> Result<Stay, CliError> {
        let attached = if self.options.interactive && !self.options.detach {
            Some(self.attach().await?)
        } else {
            None
        };
        let mut resized = signal(SignalKind::window_change())
            .map_err(|source| CliError::io("watch the terminal's size", source))?;
        loop {
            tokio::select! {
                update = self.watch.next() => match update {
                    Ok(Some(Update::Status(status))) => {
                        self.status = status;
                    }
                    // The supervisor has gone: with the pod, or without it.
                    Ok(None) | Err(_) if !self.again().await? => break,
                    Ok(None) | Err(_) => {}
                },
                () = self.changes.wait(), if attached.is_none() => {}
                // Without a receipt it goes on all the same.
                () = tokio::time::sleep(RECEIPT_PATIENCE), if self.is_receipt_missing() && !self.announced => {}
                _ = resized.recv(), if attached.is_some() => {
                    if let (Some((attached, ..)), Some(size)) = (&attached, terminal::size()) {
                        drop(attached.resize(size).await);
                    }
                }
                changed = interrupts.changed(), if changed_is_useful(interrupts) => {
                    if changed.is_ok() {
                        let count = *interrupts.borrow_and_update();
                        *stopping = Some(self.interrupted(count));
                    }
                }
            }
            self.progress();
            if self.options.detach && self.announced {
                return Ok(Stay::Detached);
            }
            // Where the time went is told before the first line that the pod prints.
            if attached.is_none() && !self.options.detach && !self.is_receipt_awaited() {
                self.print()?;
            }
        }
        if attached.is_none() {
            self.print()?;
        }
        if let Some((_, outputs, raw)) = attached {
            // Ctrl-C, too: a reader that never takes them would hold us up for ever.
            let written = tokio::select! {
                written = outputs.finish() => written,
                Ok(()) = interrupts.changed() => Ok(()),
            };
            drop(raw);
            written?;
        }
        Ok(Stay::Ended)
    }

    /// Whether a container has begun and the receipt is not whole.
    fn is_receipt_missing(&self) -> bool {
        let is_whole = self
            .status
            .receipt
            .iter()
            .any(|line| line.phase == "container");
        self.begun.is_some() && !is_whole && !self.status.phase.is_end()
    }

    /// Whether the rest of the receipt may still come: a moment after the first container has
    /// begun, and before that for sure.
    fn is_receipt_awaited(&self) -> bool {
        match self.begun {
            Some(begun) => self.is_receipt_missing() && begun.elapsed() < RECEIPT_PATIENCE,
            None => !self.status.phase.is_end(),
        }
    }

    /// Looks at the pod once more when its supervisor has gone. Gives back
    /// whether it lives, under another supervisor.
    async fn again(&mut self) -> Result<bool, CliError> {
        if self.status.phase.is_end() {
            return Ok(false);
        }
        let pods = engine::list(&self.settings).await?;
        let Some(pod) = pods.into_iter().find(|pod| pod.uid == self.pod.uid) else {
            // Deleted by somebody else.
            return Ok(false);
        };
        self.status = pod.status;
        self.progress();
        if self.status.phase.is_end() {
            return Ok(false);
        }
        self.watch = engine::watch(&self.settings, &self.pod.uid).await?;
        Ok(true)
    }

    /// Ties the container's streams to ours; called before anything runs, so
    /// nothing of its output is missed.
    async fn attach(&self) -> Result<(Remote, Outputs, Option<Raw>), CliError> {
        let container = self.pod.spec.containers.first();
        let request = AttachRequest {
            container: container.map(|container| container.name.clone()),
            stdin: container.is_some_and(|container| container.stdin),
            quiet: false,
        };
        let session = engine::attach(&self.settings, &self.pod.uid, request).await?;
        let raw = if self.options.tty {
            Some(Raw::enter()?)
        } else {
            None
        };
        let mut outputs = Outputs::default();
        outputs.add(session.output, false)?;
        if let Some(stdin) = session.stdin {
            terminal::send_input(stdin)?;
        }
        if let Some(size) = terminal::size().filter(|_| self.options.tty) {
            drop(session.control.resize(size).await);
        }
        Ok((session.control, outputs, raw))
    }

    /// Ctrl-C: the first time gently, then at once.
    fn interrupted(&self, count: u32) -> Stopping {
        let style = Style::stderr();
        let name = &self.pod.name;
        let grace = if count > 1 {
            tell!("{}", style.dim(&format!("pod/{name}: killing")));
            Some(0)
        } else {
            let seconds = self.pod.spec.grace_seconds;
            let line = format!("pod/{name}: stopping, {seconds} s at most (Ctrl-C again kills it)");
            tell!("{}", style.dim(&line));
            None
        };
        let (settings, pod) = (self.settings.clone(), self.pod.clone());
        tokio::task::spawn_local(async move {
            let request = StopRequest {
                grace,
                delete: false,
            };
            Ok(engine::stop(&settings, &pod.uid, request).await?)
        })
    }

    /// Shows what has happened since the last time.
    fn progress(&mut self) {
        // Nothing else would say why a pod stands still.
        let events = self.status.events.iter();
        for event in events.filter(|event| event.reason == DISK_STALLED) {
            if event.time > self.stall {
                self.stall = event.time;
                tell!("pod/{}: {}", self.pod.name, event.message);
            }
        }
        let has_begun = |one: &ContainerStatus| {
            one.id.is_some() && !matches!(one.state, ContainerState::Waiting { .. })
        };
        if self.status.phase != Phase::Pending || self.status.containers.iter().any(has_begun) {
            self.begun.get_or_insert_with(Instant::now);
        }
        let quiet = self.options.quiet || (self.options.tty && self.options.interactive);
        let style = Style::stderr();
        let whose = if self.is_one_of_several {
            format!("pod/{} ", self.pod.name)
        } else {
            String::new()
        };
        for line in self.status.receipt.iter().skip(self.shown) {
            self.shown += 1;
            if !quiet && !self.announced {
                let took = time::short(line.wall_nanos);
                let line = format!("  {whose}{:<10} {took:>8}", line.phase);
                tell!("{}", style.dim(&line));
            }
        }
        if self.announced || self.status.phase == Phase::Pending {
            return;
        }
        if self.is_receipt_awaited() {
            return;
        }
        self.announced = true;
        let complete = self
            .status
            .receipt
            .iter()
            .any(|line| line.phase == "container");
        if !complete && self.status.phase == Phase::Failed {
            // It never came up: what follows is an error, no success.
            return;
        }
        let total: u64 = self.status.receipt.iter().map(|line| line.wall_nanos).sum();
        let address = self.status.ips.first().map(|ip| format!(", {ip}"));
        let line = format!(
            "pod/{} started in {}{}",
            self.pod.name,
            time::short(total),
            address.unwrap_or_default()
        );
        if self.options.detach && self.options.quiet {
            say!("{}", self.pod.name);
        } else if self.options.detach {
            say!("{line}");
        } else if !quiet && !self.status.receipt.is_empty() {
            tell!("{}", style.dim(&line));
        }
    }

    /// Prints what the containers have printed.
    fn print(&mut self) -> Result<(), CliError> {
        for stream in &mut self.streams {
            if !stream.watched {
                let directory = logs::directory(&self.settings, &self.pod.uid, &stream.container);
                stream.watched = self.changes.add(&directory);
            }
            let now = self
                .status
                .containers
                .iter()
                .find(|one| one.name == stream.container);
            loop {
                let Stream {
                    tailing, printer, ..
                } = stream;
                let mut failed = None;
                let read = tailing.drain(|line| {
                    if failed.is_none() {
                        failed = printer.print(&line).err();
                    }
                });
                read.map_err(|source| CliError::io("read the log", source))?;
                if let Some(source) = failed.filter(|error| !reader_gone(error)) {
                    return Err(CliError::io("write the log", source));
                }
                // A later run has begun: the file before it is complete.
                if now.is_none_or(|now| now.restarts <= tailing.run()) {
                    break;
                }
                tailing.next_run();
            }
        }
        Ok(())
    }

    /// What the end means: the exit code, or an error when no container ran.
    async fn ended(self, stopping: Option<Stopping>) -> Result<u8, CliError> {
        let interrupted = stopping.is_some();
        if let Some(stopping) = stopping {
            // The pod has ended; that the request says the same adds nothing.
            stopping.abort();
        }
        let failure = end::failure(&self.pod, &self.status, !self.options.remove);
        if failure.is_none() && !interrupted {
            for line in end::out_of_memory(&self.pod.spec, &self.status) {
                tell!("{} {line}", Style::stderr().bad("error:"));
            }
        }
        if self.options.remove || interrupted {
            delete(&self.settings, &self.pod, Some(0)).await?;
        }
        if self.is_one_of_several && failure.is_none() && !interrupted {
            let line = format!("pod/{} {}", self.pod.name, end::outcome(&self.status));
            tell!("{}", Style::stderr().dim(&line));
        }
        match (self.status.exit_code(), failure) {
            _ if interrupted => Ok(exit::INTERRUPTED),
            (_, Some(error)) => Err(error.into()),
            (Some(code), None) => Ok(exit::of_process(code)),
            (None, None) => {
                let what = "was deleted, by somebody else, before a container of it had ended";
                tell!(
                    "{} pod/{} {what}",
                    Style::stderr().bad("error:"),
                    self.pod.name
                );
                Ok(exit::POD_FAILED)
            }
        }
    }
}

/// Whether the sender of interrupts is still there; a closed channel is
/// always "changed" and would spin.
fn changed_is_useful(interrupts: &watch::Receiver<u32>) -> bool {
    interrupts.has_changed().is_ok()
}
