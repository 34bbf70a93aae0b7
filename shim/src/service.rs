//! The task service: each call is looked up in the table of tasks, and made one
//! of the engine's.

use crate::error::ShimError;
use crate::events::Events;
use crate::execs::ask;
use crate::holder::Holder;
use crate::oci::{self, Kind, Note};
use crate::options::Options;
use crate::task::{Asked, Exit, Process, Stdio, Table, Task as Known};
use crate::{follow, root, stdio};
use beluga_proto::PodUid;
use beluga_runtime::engine::{self, EngineError, StopRequest, sandbox};
use beluga_runtime::settings::Settings;
use beluga_runtime::store;
use beluga_runtime::store::status::PodStatus;
use containerd_shim_protos::api::{
    CreateTaskRequest, DeleteResponse, ExecProcessRequest, KillRequest, WaitResponse,
};
use containerd_shim_protos::events::task::{TaskDelete, TaskExecAdded, TaskExecStarted, TaskStart};
use containerd_shim_protos::protobuf::MessageField;
use oci_spec::runtime::{Process as ProcessSpec, Spec};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

mod begin;
mod calls;
mod resources;
use begin::{created, named};
pub use calls::Service;

/// The exit code of what was ended by force.
const KILLED: u32 = 137;

/// SIGKILL.
const KILL: u32 = 9;

/// The last of the real-time signals.
const SIGNALS: u32 = 64;

/// The server of one pod.
#[derive(Debug)]
pub struct Shim {
    /// The installation.
    pub settings: Settings,
    /// Where events are said.
    pub events: Events,
    options: Options,
    table: Mutex<Table>,
    pod: Mutex<Option<Made>>,
    last: Mutex<Option<PodStatus>>,
    /// Changes of the pod are made one at a time.
    turn: tokio::sync::Mutex<()>,
    finished: Notify,
}

/// The pod that was made.
#[derive(Debug, Clone)]
struct Made {
    uid: PodUid,
    /// Its containers see all processes of its machine.
    guest_processes: bool,
}

fn locked<T, R>(mutex: &Mutex<T>, with: impl FnOnce(&mut T) -> R) -> R {
    with(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Shim {
    /// One without a pod.
    pub fn new(options: &Options, events: Events) -> Result<Self, ShimError> {
        Ok(Self {
            settings: Settings::new(None, None)?,
            events,
            options: options.clone(),
            table: Mutex::default(),
            pod: Mutex::default(),
            last: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            finished: Notify::new(),
        })
    }

    /// Looks something up in the table, or notes it.
    pub fn table<R>(&self, with: impl FnOnce(&mut Table) -> R) -> R {
        locked(&self.table, with)
    }

    /// The last status of the pod.
    pub fn last<R>(&self, with: impl FnOnce(&mut Option<PodStatus>) -> R) -> R {
        locked(&self.last, with)
    }

    fn made(&self) -> Result<Made, ShimError> {
        locked(&self.pod, |pod| pod.clone()).ok_or_else(|| ShimError::Absent {
            what: "sandbox",
            name: self.options.id.clone(),
        })
    }

    /// The pod.
    pub fn uid(&self) -> Result<PodUid, ShimError> {
        Ok(self.made()?.uid)
    }

    /// The process of the host that is the pod's machine; 0 where there is none.
    pub fn machine(&self) -> u32 {
        let record = self
            .uid()
            .ok()
            .map(|uid| store::read_record(&self.settings, &uid));
        let vmm = record
            .and_then(Result::ok)
            .flatten()
            .and_then(|one| one.vmm);
        vmm.and_then(|vmm| u32::try_from(vmm.pid).ok()).unwrap_or(0)
    }

    /// Waits until there is nothing more to serve.
    pub async fn finished(&self) {
        self.finished.notified().await;
        self.events.told().await;
    }

    fn finish(&self, is_urgent: bool) {
        if is_urgent || self.table(|table| table.tasks.is_empty()) {
            self.finished.notify_one();
        }
    }

    async fn create(self: &Arc<Self>, request: CreateTaskRequest) -> Result<u32, ShimError> {
        let _turn = self.turn.lock().await;
        let id = request.id.clone();
        if self.table(|table| table.tasks.contains_key(&id)) {
            return Err(ShimError::Exists {
                what: "task",
                name: id,
            });
        }
        if !request.checkpoint.is_empty() {
            return Err(ShimError::Refused {
                field: "checkpoint".to_owned(),
                why: "a container is not restored from a checkpoint",
            });
        }
        let bundle = PathBuf::from(&request.bundle);
        let spec = oci::read(&bundle)?;
        let kind = oci::kind(&spec);
        let stdio = Stdio {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        if kind != Kind::Sandbox {
            stdio::check(&stdio)?;
            root::mount(&bundle, &request.rootfs)?;
        }
        let made = self.make(&kind, &spec, (&id, &bundle), &stdio).await;
        if let Err(error) = made {
            root::unmount(&bundle)?;
            return Err(error);
        }
        let holder = match &kind {
            Kind::Member { .. } => Some(self.hold(&id, &bundle).await?),
            Kind::Sandbox | Kind::Alone => None,
        };
        let mut own = Process::new(stdio);
        own.pid = holder.as_ref().map_or_else(|| self.machine(), Holder::pid);
        let pid = own.pid;
        let limits = spec
            .linux()
            .as_ref()
            .and_then(|one| one.resources().clone());
        let task = Known {
            kind,
            bundle,
            own,
            execs: std::collections::BTreeMap::new(),
            holder,
            memory_limit: limits.and_then(|given| oci::limits(&given).memory_limit),
        };
        self.table(|table| table.tasks.insert(id.clone(), task));
        self.events.say("/tasks/create", &created(request, pid));
        Ok(pid)
    }

    async fn make(
        self: &Arc<Self>,
        kind: &Kind,
        spec: &Spec,
        (id, bundle): (&str, &Path),
        stdio: &Stdio,
    ) -> Result<(), ShimError> {
        // What is refused is so before anything is made.
        let wanted = match kind {
            Kind::Sandbox => None,
            Kind::Member { .. } | Kind::Alone => {
                let streams = (stdio.terminal, !stdio.stdin.is_empty(), stdio::fifos(stdio));
                let mut wanted = oci::container(spec, id, &root::path(bundle), streams)?;
                self.give_processes(kind, spec, &mut wanted.container)?;
                Some(wanted)
            }
        };
        if !matches!(kind, Kind::Member { .. }) {
            self.run_pod(spec, id).await?;
        }
        let Some(wanted) = wanted else {
            return Ok(());
        };
        let made = sandbox::create(&self.settings, &self.uid()?, wanted).await;
        if made.is_err() && *kind == Kind::Alone {
            self.stop(true).await?;
        }
        made.map_err(|error| named(error, id))
    }

    async fn run_pod(self: &Arc<Self>, spec: &Spec, id: &str) -> Result<(), ShimError> {
        let note = Note {
            containerd: self.options.address.clone(),
            namespace: self.options.namespace.clone(),
            task: id.to_owned(),
        };
        let wanted = oci::pod(&self.settings, spec, &note)?;
        let guest_processes = wanted.guest_processes;
        let pod = sandbox::run(&self.settings, wanted).await?;
        let made = Made {
            uid: pod.uid.clone(),
            guest_processes,
        };
        locked(&self.pod, |known| *known = Some(made));
        tokio::spawn(follow::follow(Arc::clone(self), pod.uid));
        Ok(())
    }

    async fn stop(&self, delete: bool) -> Result<(), ShimError> {
        let grace = Some(0);
        let request = StopRequest { grace, delete };
        Ok(engine::stop(&self.settings, &self.uid()?, request).await?)
    }

    async fn start(self: &Arc<Self>, id: &str, exec: &str) -> Result<u32, ShimError> {
        let uid = self.uid()?;
        if !exec.is_empty() {
            self.exec(&uid, (id, exec)).await?;
            let pid = self.table(|table| Ok::<_, ShimError>(table.process(id, exec)?.pid))?;
            let event = TaskExecStarted {
                container_id: id.to_owned(),
                exec_id: exec.to_owned(),
                pid,
                ..TaskExecStarted::default()
            };
            self.events.say("/tasks/exec-started", &event);
            return Ok(pid);
        }
        let (kind, stdin) = self.table(|table| {
            let task = table.task(id)?;
            Ok::<_, ShimError>((task.kind.clone(), task.own.stdio.stdin.clone()))
        })?;
        if kind != Kind::Sandbox {
            let started = sandbox::start(&self.settings, &uid, &oci::container_name(id)).await;
            if let Err(error) = started {
                self.has_not_started(id, &kind).await;
                return Err(named(error, id));
            }
        }
        let asks = (!stdin.is_empty() && kind != Kind::Sandbox).then(|| self.feed(id, stdin));
        let pid = self.table(|table| {
            let own = &mut table.task(id)?.own;
            own.asks = asks;
            own.is_started = true;
            Ok::<_, ShimError>(own.pid)
        })?;
        let event = TaskStart {
            container_id: id.to_owned(),
            pid,
            ..TaskStart::default()
        };
        self.events.say("/tasks/start", &event);
        self.told(id);
        self.look_again();
        Ok(pid)
    }

    /// From now on the end of a task may be told.
    fn told(&self, id: &str) {
        self.table(|table| {
            if let Ok(task) = table.task(id) {
                task.own.is_told = true;
            }
        });
    }

    async fn wait(&self, id: &str, exec: &str) -> Result<WaitResponse, ShimError> {
        let mut ends = self.table(|table| Ok::<_, ShimError>(table.process(id, exec)?.ends()))?;
        let ended = ends.wait_for(Option::is_some).await;
        let exit = ended.ok().and_then(|exit| *exit);
        Ok(exit.unwrap_or_else(|| Exit::now(KILLED)).waited())
    }

    async fn delete(&self, id: &str, exec: &str) -> Result<DeleteResponse, ShimError> {
        let _turn = self.turn.lock().await;
        let (kind, bundle) = self.table(|table| {
            let task = table.task(id)?;
            Ok::<_, ShimError>((task.kind.clone(), task.bundle.clone()))
        })?;
        let (exit, pid) = self.table(|table| {
            let process = table.process(id, exec)?;
            if process.is_running() {
                return Err(ShimError::State {
                    message: format!("cannot delete {id} {exec}: it runs"),
                });
            }
            Ok((
                process.exit().unwrap_or_else(|| Exit::now(KILLED)),
                process.pid,
            ))
        })?;
        if exec.is_empty() {
            if kind != Kind::Sandbox {
                let name = oci::container_name(id);
                sandbox::remove(&self.settings, &self.uid()?, &name).await?;
                root::unmount(&bundle)?;
            }
            if !matches!(kind, Kind::Member { .. }) {
                self.stop(true).await?;
            }
            self.table(|table| table.tasks.remove(id));
        } else {
            self.table(|table| Ok::<_, ShimError>(table.task(id)?.execs.remove(exec)))?;
        }
        let event = TaskDelete {
            container_id: id.to_owned(),
            id: if exec.is_empty() { id } else { exec }.to_owned(),
            pid,
            exit_status: exit.code,
            exited_at: MessageField::some(crate::events::stamp(exit.at)),
            ..TaskDelete::default()
        };
        if exec.is_empty() {
            self.events.say("/tasks/delete", &event);
        }
        Ok(exit.deleted(pid))
    }

    async fn kill(&self, request: KillRequest) -> Result<(), ShimError> {
        let (id, exec) = (request.id.as_str(), request.exec_id.as_str());
        if request.signal > SIGNALS {
            return Err(ShimError::Invalid {
                field: "signal",
                why: format!("there is no signal {}", request.signal),
            });
        }
        let (kind, is_running, is_over) = self.table(|table| {
            let kind = table.task(id)?.kind.clone();
            let process = table.process(id, exec)?;
            let (runs, over) = (process.is_running(), process.exit().is_some());
            Ok::<_, ShimError>((kind, runs, over))
        })?;
        if is_over {
            let (what, name) = ("running process", id.to_owned());
            return Err(ShimError::Absent { what, name });
        }
        if exec.is_empty() && kind == Kind::Sandbox {
            self.stop(false).await?;
            self.told(id);
            self.look_again();
            return Ok(());
        }
        if !is_running {
            self.end(id, exec, Exit::now(128 + request.signal));
            return Ok(());
        }
        let signal = i32::try_from(request.signal).unwrap_or(0);
        if exec.is_empty() && request.all && request.signal == KILL {
            let control = self.attach(id, false).await?.control;
            return Ok(control.kill().await.map_err(EngineError::from)?);
        }
        self.ask(id, exec, Asked::Signal(signal)).await
    }

    /// Asks something of a process that runs.
    async fn ask(&self, id: &str, exec: &str, asked: Asked) -> Result<(), ShimError> {
        let through_queue = !exec.is_empty() || matches!(asked, Asked::CloseInput);
        let asks = self.table(|table| {
            let process = table.process(id, exec)?;
            Ok::<_, ShimError>(process.asks.clone())
        })?;
        if through_queue {
            if let Some(asks) = asks {
                let _ = asks.send(asked);
            }
            return Ok(());
        }
        let session = self.attach(id, false).await?;
        ask(&session.control, asked).await;
        Ok(())
    }

    fn add_exec(&self, request: ExecProcessRequest) -> Result<(), ShimError> {
        let stdio = Stdio {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        stdio::check(&stdio)?;
        let spec = request.spec.into_option().unwrap_or_default();
        let spec: ProcessSpec = parse(&spec.value)?;
        let mut process = Process::new(stdio);
        process.spec = Some(spec);
        let exec = request.exec_id;
        self.table(|table| {
            let task = table.task(&request.id)?;
            if task.execs.contains_key(&exec) {
                let (what, name) = ("process", exec.clone());
                return Err(ShimError::Exists { what, name });
            }
            task.execs.insert(exec.clone(), process);
            Ok(())
        })?;
        let event = TaskExecAdded {
            container_id: request.id,
            exec_id: exec,
            ..TaskExecAdded::default()
        };
        self.events.say("/tasks/exec-added", &event);
        Ok(())
    }
}

fn parse<T: for<'d> serde::Deserialize<'d>>(bytes: &[u8]) -> Result<T, ShimError> {
    serde_json::from_slice(bytes).map_err(|error| ShimError::Invalid {
        field: "request",
        why: error.to_string(),
    })
}
