//! What a running container may use, when that changes.

use super::{Shim, parse};
use crate::error::ShimError;
use crate::oci::{self, Kind};
use beluga_runtime::engine::sandbox;
use containerd_shim_protos::api::UpdateTaskRequest;
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
}
