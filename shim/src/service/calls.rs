//! The service as ttrpc has it: messages in and out, nothing else.

use super::{Asked, Shim};
use crate::error::ShimError;
use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::ttrpc::Result;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use std::sync::Arc;

/// The service under one of its names.
#[derive(Debug)]
pub struct Service {
    shim: Arc<Shim>,
}

impl Service {
    /// That of a server.
    pub fn of(shim: &Arc<Shim>) -> Self {
        let shim = Arc::clone(shim);
        Self { shim }
    }
}

fn empty() -> api::Empty {
    api::Empty::default()
}

/// Errors for options of a runtime: there is no file of the shim's that they could
/// name, and nothing of runc's that they could set. An empty message says nothing.
fn refuse_options(request: &api::CreateTaskRequest) -> Result<()> {
    let options = request.options.as_ref();
    match options.filter(|options| !options.value.is_empty()) {
        Some(options) => {
            let field = format!("the runtime's options ({})", options.type_url);
            Err(refused(&field, "the shim has none"))?
        }
        None => Ok(()),
    }
}

fn refused(field: &str, why: &'static str) -> ShimError {
    let field = field.to_owned();
    ShimError::Refused { field, why }
}

#[async_trait]
impl Task for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: api::CreateTaskRequest,
    ) -> Result<api::CreateTaskResponse> {
        refuse_options(&request)?;
        let pid = self.shim.create(request).await?;
        Ok(api::CreateTaskResponse {
            pid,
            ..api::CreateTaskResponse::default()
        })
    }

    async fn start(
        &self,
        _: &TtrpcContext,
        request: api::StartRequest,
    ) -> Result<api::StartResponse> {
        let pid = self.shim.start(&request.id, &request.exec_id).await?;
        Ok(api::StartResponse {
            pid,
            ..api::StartResponse::default()
        })
    }

    async fn state(
        &self,
        _: &TtrpcContext,
        request: api::StateRequest,
    ) -> Result<api::StateResponse> {
        let (id, exec) = (&request.id, &request.exec_id);
        Ok(self.shim.table(|table| table.state(id, exec))?)
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: api::DeleteRequest,
    ) -> Result<api::DeleteResponse> {
        Ok(self.shim.delete(&request.id, &request.exec_id).await?)
    }

    async fn wait(&self, _: &TtrpcContext, request: api::WaitRequest) -> Result<api::WaitResponse> {
        Ok(self.shim.wait(&request.id, &request.exec_id).await?)
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> Result<api::Empty> {
        self.shim.kill(request).await?;
        Ok(empty())
    }

    async fn exec(&self, _: &TtrpcContext, request: api::ExecProcessRequest) -> Result<api::Empty> {
        self.shim.add_exec(request)?;
        Ok(empty())
    }

    async fn pids(&self, _: &TtrpcContext, request: api::PidsRequest) -> Result<api::PidsResponse> {
        let processes = self.shim.table(|table| table.pids(&request.id))?;
        Ok(api::PidsResponse {
            processes,
            ..api::PidsResponse::default()
        })
    }

    async fn pause(&self, _: &TtrpcContext, request: api::PauseRequest) -> Result<api::Empty> {
        self.shim.freeze(&request.id, true).await?;
        Ok(empty())
    }

    async fn resume(&self, _: &TtrpcContext, request: api::ResumeRequest) -> Result<api::Empty> {
        self.shim.freeze(&request.id, false).await?;
        Ok(empty())
    }

    async fn checkpoint(
        &self,
        _: &TtrpcContext,
        _: api::CheckpointTaskRequest,
    ) -> Result<api::Empty> {
        Err(refused("checkpoint", "a container cannot be saved"))?
    }

    async fn resize_pty(
        &self,
        _: &TtrpcContext,
        request: api::ResizePtyRequest,
    ) -> Result<api::Empty> {
        let number = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        let size = Asked::Size(number(request.height), number(request.width));
        self.shim.ask(&request.id, &request.exec_id, size).await?;
        Ok(empty())
    }

    async fn close_io(&self, _: &TtrpcContext, request: api::CloseIORequest) -> Result<api::Empty> {
        if request.stdin {
            let (id, exec) = (&request.id, &request.exec_id);
            self.shim.ask(id, exec, Asked::CloseInput).await?;
        }
        Ok(empty())
    }

    async fn update(
        &self,
        _: &TtrpcContext,
        request: api::UpdateTaskRequest,
    ) -> Result<api::Empty> {
        self.shim.update(request).await?;
        Ok(empty())
    }

    async fn stats(
        &self,
        _: &TtrpcContext,
        request: api::StatsRequest,
    ) -> Result<api::StatsResponse> {
        let stats = self.shim.stats(&request.id).await?;
        Ok(api::StatsResponse {
            stats: MessageField::some(stats),
            ..api::StatsResponse::default()
        })
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: api::ConnectRequest,
    ) -> Result<api::ConnectResponse> {
        let task = self
            .shim
            .table(|table| table.process(&request.id, "").map(|one| one.pid));
        Ok(api::ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: task.unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..api::ConnectResponse::default()
        })
    }

    async fn shutdown(
        &self,
        _: &TtrpcContext,
        request: api::ShutdownRequest,
    ) -> Result<api::Empty> {
        self.shim.finish(request.now);
        Ok(empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::protobuf::well_known_types::any::Any;

    #[test]
    fn options_are_refused_by_their_name_unless_they_say_nothing() {
        let with = |value: &[u8]| api::CreateTaskRequest {
            options: MessageField::some(Any {
                type_url: "runtimeoptions.v1.Options".to_owned(),
                value: value.to_vec(),
                ..Any::default()
            }),
            ..api::CreateTaskRequest::default()
        };
        refuse_options(&api::CreateTaskRequest::default()).unwrap();
        refuse_options(&with(b"")).unwrap();
        let error = refuse_options(&with(b"\x12\x02/x")).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("(runtimeoptions.v1.Options) is not supported"),
            "{error}"
        );
    }
}
