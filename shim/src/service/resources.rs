//! What a running container may use, when that changes: nothing, while it stands still.

use super::{Shim, parse};
use crate::error::ShimError;
use crate::oci::{self, Kind};
use beluga_runtime::engine::sandbox;
use containerd_shim_protos::api::UpdateTaskRequest;
use containerd_shim_protos::events::task::{TaskPaused, TaskResumed};
use oci_spec::runtime::LinuxResources;

impl Shim {
    pub(super) async fn update(&self, request: UpdateTaskRequest) -> Result<(), ShimError> {
        let _turn = self.turn.lock().await;
        let kind = self.table(|table| Ok::<_, ShimError>(table.task(&request.id)?.kind.clone()))?;
        if kind == Kind::Sandbox {
            return Err(ShimError::Refused {
                field: "resources of the sandbox".to_owned(),
                why: "the size of a machine is fixed when it boots",
            });
        }
        let given = request.resources.into_option().unwrap_or_default();
        let given: LinuxResources = parse(&given.value)?;
        let name = oci::container_name(&request.id);
        let (uid, limits) = (self.uid()?, oci::limits(&given));
        let memory_limit = limits.memory_limit;
        sandbox::resize(&self.settings, &uid, &name, limits).await?;
        self.table(|table| {
            table.task(&request.id)?.memory_limit = memory_limit;
            Ok(())
        })
    }

    pub(super) async fn freeze(&self, id: &str, frozen: bool) -> Result<(), ShimError> {
        let _turn = self.turn.lock().await;
        let kind = self.table(|table| Ok::<_, ShimError>(table.task(id)?.kind.clone()))?;
        if kind == Kind::Sandbox {
            return Err(ShimError::Refused {
                field: "pause of the sandbox".to_owned(),
                why: "it has no process: containers stand still one by one",
            });
        }
        sandbox::freeze(
            &self.settings,
            &self.uid()?,
            &oci::container_name(id),
            frozen,
        )
        .await?;
        self.table(|table| {
            table.task(id)?.own.is_paused = frozen;
            Ok::<_, ShimError>(())
        })?;
        let container_id = id.to_owned();
        if frozen {
            let paused = TaskPaused {
                container_id,
                ..TaskPaused::default()
            };
            self.events.say("/tasks/paused", &paused);
        } else {
            let resumed = TaskResumed {
                container_id,
                ..TaskResumed::default()
            };
            self.events.say("/tasks/resumed", &resumed);
        }
        Ok(())
    }
}
