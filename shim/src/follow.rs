//! Follows a pod: what becomes of its containers are the ends of tasks.

use crate::oci::{self, Kind};
use crate::service::Shim;
use crate::task::Exit;
use beluga_proto::PodUid;
use beluga_runtime::engine::{self, Update};
use beluga_runtime::store::status::{ContainerState, PodStatus, Termination};
use containerd_shim_protos::events::task::{TaskExit, TaskOOM};
use containerd_shim_protos::protobuf::MessageField;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The exit code of what ended with its machine.
const KILLED: u32 = 137;

/// Between two looks at a pod whose supervisor cannot be reached.
const PAUSE: Duration = Duration::from_millis(200);

/// Until the pod has ended; through changes of supervisors.
pub async fn follow(shim: Arc<Shim>, uid: PodUid) {
    loop {
        match engine::watch(&shim.settings, &uid).await {
            Ok(mut watch) => {
                while let Ok(Some(Update::Status(status))) = watch.next().await {
                    let is_over = status.phase.is_end();
                    shim.look(status);
                    if is_over {
                        return;
                    }
                }
            }
            Err(engine::EngineError::Absent { .. }) => return shim.lost(),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

impl Shim {
    /// Notes what a status says of tasks.
    pub fn look(&self, status: PodStatus) {
        self.last(|last| *last = Some(status));
        self.look_again();
    }

    /// The same of the last one: a start that has been told may be followed by its
    /// end.
    pub fn look_again(&self) {
        let status = self.last(|last| last.clone());
        let Some(status) = status else {
            return;
        };
        let is_over = status.phase.is_end();
        let ids: Vec<_> = self.table(|table| {
            let all = table.tasks.iter();
            let all = all.filter(|(_, task)| task.own.is_told && task.own.exit().is_none());
            all.map(|(id, task)| (id.clone(), task.kind.clone()))
                .collect()
        });
        // The sandbox is the last to end.
        let (sandboxes, members): (Vec<_>, Vec<_>) = ids
            .into_iter()
            .partition(|(_, kind)| *kind == Kind::Sandbox);
        for (id, _) in members {
            let name = oci::container_name(&id);
            let mut all = status.containers.iter();
            let found = all.rfind(|one| one.name == name && !one.is_gone);
            match found.map(|one| &one.state) {
                Some(ContainerState::Terminated(end)) => self.ended(&id, end),
                _ if is_over => self.end(&id, "", Exit::now(KILLED)),
                _ => {}
            }
        }
        for (id, _) in sandboxes.into_iter().filter(|_| is_over) {
            self.end(&id, "", Exit::now(KILLED));
        }
    }

    fn ended(&self, id: &str, end: &Termination) {
        if end.reason == "OOMKilled" {
            let event = TaskOOM {
                container_id: id.to_owned(),
                ..TaskOOM::default()
            };
            self.events.say("/tasks/oom", &event);
        }
        let exit = Exit {
            code: u32::try_from(end.exit_code).unwrap_or(255),
            at: SystemTime::UNIX_EPOCH + Duration::from_nanos(end.finished),
        };
        self.end(id, "", exit);
    }

    /// The pod has gone, with its record.
    fn lost(&self) {
        let ids: Vec<_> = self.table(|table| table.tasks.keys().cloned().collect());
        for id in ids {
            self.end(&id, "", Exit::now(KILLED));
        }
    }

    /// Notes and tells the end of a process, once. Those beside a task end with it.
    pub fn end(&self, id: &str, exec: &str, exit: Exit) {
        let execs: Vec<String> = self.table(|table| match table.tasks.get(id) {
            Some(task) if exec.is_empty() => {
                let running = task.execs.iter().filter(|(_, one)| one.is_running());
                running.map(|(id, _)| id.clone()).collect()
            }
            _ => Vec::new(),
        });
        for one in execs {
            self.end(id, &one, exit);
        }
        let noted = self.table(|table| {
            let process = table.process(id, exec).ok()?;
            let noted = process.end(exit).then_some(process.pid);
            if exec.is_empty() {
                drop(table.task(id).ok()?.holder.take());
            }
            noted
        });
        if let Some(pid) = noted {
            let event = TaskExit {
                container_id: id.to_owned(),
                id: if exec.is_empty() { id } else { exec }.to_owned(),
                pid,
                exit_status: exit.code,
                exited_at: MessageField::some(crate::events::stamp(exit.at)),
                ..TaskExit::default()
            };
            self.events.say("/tasks/exit", &event);
        }
    }
}
