//! Jobs. Each job that is not done has a process of its own, its runner, as
//! each pod has its supervisor: it starts pods, counts how they end, and goes
//! when the job is done. A runner that is killed is replaced by the next command.
//!
//! ```text
//! <root>/workloads/<namespace>/Job/<name>.runner   held by the runner
//! <root>/workloads/<namespace>/Job/<name>.state    what it has counted, replaced whole
//! ```

mod count;
mod failure;
mod object;
mod plan;
mod runner;

pub use object::{duration, ranges, status, word};
pub use plan::{IndexFailures, JobEnd, JobState};
pub use runner::{RUNNER, adopt, adopt_all, runner_main};

use crate::path_error::PathError;
use crate::settings::Settings;
use crate::spec::WorkloadKind;
use crate::store::{self, StoreError, atomic};
use std::path::PathBuf;

fn file(
    settings: &Settings,
    namespace: &str,
    name: &str,
    extension: &str,
) -> Result<PathBuf, StoreError> {
    let path = super::kept::path(settings, namespace, WorkloadKind::Job, name)?;
    Ok(path.with_extension(extension))
}

/// What has been counted of the job with this UID: nothing of an earlier one of its
/// name, which may have been deleted by somebody who was killed in between.
pub fn read_state(
    settings: &Settings,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<JobState, StoreError> {
    let state: Option<JobState> = store::read_json(&file(settings, namespace, name, "state")?)?;
    let is_its = |state: &JobState| state.of.as_ref().is_none_or(|of| of == uid);
    let state = state.filter(is_its).unwrap_or_default();
    Ok(JobState {
        of: Some(uid.to_owned()),
        ..state
    })
}

fn write_state(
    settings: &Settings,
    namespace: &str,
    name: &str,
    state: &JobState,
) -> Result<(), StoreError> {
    let path = file(settings, namespace, name, "state")?;
    let bytes = store::to_json(&path, state)?;
    Ok(atomic::replace_durably(&path, &bytes).map_err(PathError::on("write", &path))?)
}

/// Forgets what has been counted of a job that is deleted.
pub fn forget(settings: &Settings, namespace: &str, name: &str) -> Result<(), StoreError> {
    for extension in ["state", "runner", "log"] {
        PathError::remove_file(&file(settings, namespace, name, extension)?)?;
    }
    Ok(())
}
