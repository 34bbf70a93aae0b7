//! What a container is given as its task is made, and what becomes of the task when its
//! program cannot be executed.

use super::Shim;
use crate::error::ShimError;
use crate::holder::Holder;
use crate::oci::{self, Kind, Processes};
use crate::root;
use crate::task::Exit;
use beluga_runtime::engine::{EngineError, sandbox};
use beluga_runtime::spec::Container;
use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::events::task::{TaskCreate, TaskIO};
use containerd_shim_protos::protobuf::MessageField;
use oci_spec::runtime::Spec;
use std::path::Path;

/// The exit code of what was never executed, where nothing better is known: containerd's own.
const NOT_STARTED: u32 = 128;

impl Shim {
    /// Says whose processes a container is to see.
    pub(super) fn give_processes(
        &self,
        kind: &Kind,
        spec: &Spec,
        container: &mut Container,
    ) -> Result<(), ShimError> {
        let sandbox = match kind {
            Kind::Member { sandbox } => Some(sandbox.as_str()),
            Kind::Sandbox | Kind::Alone => None,
        };
        let guest = container.guest.get_or_insert_default();
        match oci::processes(spec)? {
            Processes::Own => guest.own_processes = true,
            // Who is alone has said so of its pod.
            Processes::Host if sandbox.is_none() || self.made()?.guest_processes => {}
            Processes::Host => return Err(oci::processes_refused()),
            Processes::Task(pid) => {
                let whose = self.table(|table| table.of_pid(pid).map(|(id, _)| id.to_owned()));
                let whose = whose.ok_or_else(oci::processes_refused)?;
                if Some(whose.as_str()) != sandbox {
                    guest.own_processes = true;
                    container.target = Some(oci::container_name(&whose));
                }
            }
        }
        Ok(())
    }

    /// Starts the process whose PID is a container's; without one the container goes again.
    pub(super) async fn hold(&self, id: &str, bundle: &Path) -> Result<Holder, ShimError> {
        let started = Holder::start(id);
        if started.is_err() {
            let name = oci::container_name(id);
            sandbox::remove(&self.settings, &self.uid()?, &name).await?;
            root::unmount(bundle)?;
        }
        started
    }

    /// A task whose program could not be executed has ended, and with it a machine that has
    /// no other container.
    pub(super) async fn has_not_started(&self, id: &str, kind: &Kind) {
        self.told(id);
        self.look_again();
        self.end(id, "", Exit::now(NOT_STARTED));
        if *kind == Kind::Alone {
            // Whoever deletes the task hears of what could not be ended.
            let _ = self.stop(false).await;
        }
    }
}

/// An error with containerd's name of the container that could not be started.
pub(super) fn named(error: EngineError, id: &str) -> ShimError {
    match error {
        EngineError::NotStarted { name, message } if name == oci::container_name(id) => {
            let name = id.to_owned();
            EngineError::NotStarted { name, message }.into()
        }
        error => error.into(),
    }
}

/// What subscribers are told of a task that is made.
pub(super) fn created(request: CreateTaskRequest, pid: u32) -> TaskCreate {
    TaskCreate {
        container_id: request.id,
        bundle: request.bundle,
        rootfs: request.rootfs,
        io: MessageField::some(TaskIO {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
            ..TaskIO::default()
        }),
        pid,
        ..TaskCreate::default()
    }
}
