//! What is known of the tasks of a pod, and of the processes beside them.
//!
//! ```text
//! created ─start─► running ─end─► stopped ─delete─► (gone)
//! ```
//! The table is only ever locked to look something up or to note it.

use crate::error::ShimError;
use crate::holder::Holder;
use crate::oci::Kind;
use containerd_shim_protos::api::{
    DeleteResponse, ProcessInfo, StateResponse, Status, WaitResponse,
};
use containerd_shim_protos::protobuf::{EnumOrUnknown, MessageField};
use oci_spec::runtime::Process as ProcessSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;
use tokio::sync::{mpsc, watch};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// 128 + signal when one ended it.
    pub code: u32,
    /// When.
    pub at: SystemTime,
}

/// Where a process's streams are, as containerd says it.
#[derive(Debug, Clone, Default)]
pub struct Stdio {
    /// A named pipe; empty for none.
    pub stdin: String,
    /// The same.
    pub stdout: String,
    /// The same.
    pub stderr: String,
    /// A terminal.
    pub terminal: bool,
}

/// What is asked of a process while it runs.
#[derive(Debug)]
pub enum Asked {
    /// A signal.
    Signal(i32),
    /// The terminal has this many rows and columns.
    Size(u16, u16),
    /// Its input has ended.
    CloseInput,
}

/// One process: a task's first, or one beside it.
#[derive(Debug)]
pub struct Process {
    /// Its streams.
    pub stdio: Stdio,
    /// The process of the host that it is in; 0 before it is started.
    pub pid: u32,
    /// It was started.
    pub is_started: bool,
    /// The start has been told.
    pub is_told: bool,
    /// It stands still.
    pub is_paused: bool,
    /// What it is, where it is one beside a task.
    pub spec: Option<ProcessSpec>,
    /// Whom to ask while it runs.
    pub asks: Option<mpsc::UnboundedSender<Asked>>,
    ended: watch::Sender<Option<Exit>>,
}

impl Process {
    /// One that is not started yet.
    pub fn new(stdio: Stdio) -> Self {
        Self {
            stdio,
            pid: 0,
            is_started: false,
            is_told: false,
            is_paused: false,
            spec: None,
            asks: None,
            ended: watch::Sender::new(None),
        }
    }

    /// Its end, if it has ended.
    pub fn exit(&self) -> Option<Exit> {
        *self.ended.borrow()
    }

    /// Notes its end; whether that is news.
    pub fn end(&mut self, exit: Exit) -> bool {
        self.asks = None;
        self.ended.send_if_modified(|known| {
            let is_news = known.is_none();
            known.get_or_insert(exit);
            is_news
        })
    }

    /// Tells of its end.
    pub fn ends(&self) -> watch::Receiver<Option<Exit>> {
        self.ended.subscribe()
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.is_started && self.exit().is_none()
    }

    fn status(&self) -> Status {
        match (self.exit(), self.is_started, self.is_paused) {
            (Some(_), _, _) => Status::STOPPED,
            (None, true, true) => Status::PAUSED,
            (None, true, false) => Status::RUNNING,
            (None, false, _) => Status::CREATED,
        }
    }
}

/// A task.
#[derive(Debug)]
pub struct Task {
    /// What it is to its pod.
    pub kind: Kind,
    /// containerd's directory of it.
    pub bundle: PathBuf,
    /// Its first process.
    pub own: Process,
    /// Those beside it.
    pub execs: BTreeMap<String, Process>,
    /// Whose PID it has while it has not ended, where that is not its machine's.
    pub holder: Option<Holder>,
    /// Bytes of memory that it may use, where that is limited.
    pub memory_limit: Option<u64>,
}

/// All of a pod.
#[derive(Debug, Default)]
pub struct Table {
    /// By containerd's identifiers.
    pub tasks: BTreeMap<String, Task>,
}

impl Table {
    /// A task.
    pub fn task(&mut self, id: &str) -> Result<&mut Task, ShimError> {
        self.tasks.get_mut(id).ok_or_else(|| ShimError::Absent {
            what: "task",
            name: id.to_owned(),
        })
    }

    /// A process: a task's own where `exec` is empty.
    pub fn process(&mut self, id: &str, exec: &str) -> Result<&mut Process, ShimError> {
        let task = self.task(id)?;
        if exec.is_empty() {
            return Ok(&mut task.own);
        }
        task.execs.get_mut(exec).ok_or_else(|| ShimError::Absent {
            what: "process",
            name: exec.to_owned(),
        })
    }

    /// The task that has this PID, if it has not ended.
    pub fn of_pid(&self, pid: u32) -> Option<(&str, &Kind)> {
        let mut all = self.tasks.iter();
        let found = all.find(|(_, task)| task.own.pid == pid && task.own.is_running());
        found.map(|(id, task)| (id.as_str(), &task.kind))
    }

    /// How a process is.
    pub fn state(&mut self, id: &str, exec: &str) -> Result<StateResponse, ShimError> {
        let bundle = self.task(id)?.bundle.display().to_string();
        let process = self.process(id, exec)?;
        let exit = process.exit();
        let stdio = process.stdio.clone();
        Ok(StateResponse {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            bundle,
            pid: process.pid,
            status: EnumOrUnknown::new(process.status()),
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            terminal: stdio.terminal,
            exit_status: exit.map_or(0, |exit| exit.code),
            exited_at: MessageField::from_option(exit.map(|exit| crate::events::stamp(exit.at))),
            ..StateResponse::default()
        })
    }

    /// The processes of a task; those beside its own have no PID but its.
    pub fn pids(&mut self, id: &str) -> Result<Vec<ProcessInfo>, ShimError> {
        let task = self.task(id)?;
        let all = std::iter::once(&task.own).chain(task.execs.values());
        let running = all.filter(|one| one.is_running());
        let pids: BTreeSet<u32> = running.map(|one| one.pid).collect();
        let infos = pids.into_iter().map(|pid| ProcessInfo {
            pid,
            ..ProcessInfo::default()
        });
        Ok(infos.collect())
    }
}

impl Exit {
    /// One of now.
    pub fn now(code: u32) -> Self {
        let at = SystemTime::now();
        Self { code, at }
    }

    /// The answer to who has waited.
    pub fn waited(self) -> WaitResponse {
        WaitResponse {
            exit_status: self.code,
            exited_at: MessageField::some(crate::events::stamp(self.at)),
            ..WaitResponse::default()
        }
    }

    /// The answer to who has deleted.
    pub fn deleted(self, pid: u32) -> DeleteResponse {
        DeleteResponse {
            pid,
            exit_status: self.code,
            exited_at: MessageField::some(crate::events::stamp(self.at)),
            ..DeleteResponse::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(kind: Kind, pid: u32) -> Task {
        let mut own = Process::new(Stdio::default());
        (own.pid, own.is_started) = (pid, true);
        Task {
            kind,
            bundle: PathBuf::new(),
            own,
            execs: BTreeMap::new(),
            holder: None,
            memory_limit: None,
        }
    }

    #[test]
    fn a_task_is_known_by_its_pid_while_it_runs() {
        let sandbox = "s".to_owned();
        let member = Kind::Member { sandbox };
        let tasks = [
            ("s", task(Kind::Sandbox, 7)),
            ("c", task(member.clone(), 8)),
        ];
        let tasks = tasks.map(|(id, task)| (id.to_owned(), task));
        let mut table = Table {
            tasks: tasks.into(),
        };
        assert_eq!(table.of_pid(7), Some(("s", &Kind::Sandbox)));
        assert_eq!(table.of_pid(8), Some(("c", &member)));
        assert_eq!(table.of_pid(9), None);
        let mut beside = Process::new(Stdio::default());
        (beside.pid, beside.is_started) = (8, true);
        let of = table.task("c").unwrap();
        of.execs.insert("e".to_owned(), beside);
        assert_eq!(table.pids("c").unwrap().len(), 1);
        table.task("c").unwrap().own.end(Exit::now(0));
        assert_eq!(table.of_pid(8), None);
    }
}
