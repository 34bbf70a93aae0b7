//! `delete`: what a server leaves that has died with its tasks.

use crate::error::ShimError;
use crate::events::stamp;
use crate::oci::{self, Kind, Note};
use crate::options::Options;
use crate::root;
use crate::task::Exit;
use beluga_runtime::engine::{self, StopRequest, sandbox};
use beluga_runtime::settings::Settings;
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use std::io::Write as _;
use std::path::PathBuf;

/// As if SIGKILL had ended it, which is what its server has died of, or has sent.
const KILLED: u32 = 137;

/// Ends what the task still has and tells containerd how that was.
pub fn delete(options: &Options) -> Result<(), ShimError> {
    let bundle = match options.bundle.as_str() {
        "" => std::env::current_dir().map_err(ShimError::system("find the bundle"))?,
        path => PathBuf::from(path),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ShimError::system("start"))?;
    runtime.block_on(clear(options, &bundle))?;
    root::unmount(&bundle)?;
    let response = DeleteResponse {
        exit_status: KILLED,
        exited_at: MessageField::some(stamp(Exit::now(KILLED).at)),
        ..DeleteResponse::default()
    };
    let bytes = response.write_to_bytes().unwrap_or_default();
    let mut stdout = std::io::stdout();
    let told = stdout.write_all(&bytes).and_then(|()| stdout.flush());
    told.map_err(ShimError::system("answer"))
}

async fn clear(options: &Options, bundle: &std::path::Path) -> Result<(), ShimError> {
    let settings = Settings::new(None, None)?;
    // A bundle that cannot be read is no container of a pod that lives on.
    let kind = oci::read(bundle).map_or(Kind::Alone, |spec| oci::kind(&spec));
    let task = match &kind {
        Kind::Member { sandbox } => sandbox,
        Kind::Sandbox | Kind::Alone => &options.id,
    };
    for pod in engine::list(&settings).await? {
        let note = pod.spec.sandbox.as_ref().map(|one| one.note.as_str());
        let note = note.and_then(|note| serde_json::from_str::<Note>(note).ok());
        let is_it = note.is_some_and(|note| {
            note.task == *task
                && note.namespace == options.namespace
                && note.containerd == options.address
        });
        if !is_it {
            continue;
        }
        if let Kind::Member { .. } = kind {
            let name = oci::container_name(&options.id);
            sandbox::remove(&settings, &pod.uid, &name).await?;
        } else {
            let request = StopRequest {
                grace: Some(0),
                delete: true,
            };
            engine::stop(&settings, &pod.uid, request).await?;
        }
    }
    Ok(())
}
