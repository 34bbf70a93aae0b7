//! What the processes that serve a pod's guest can still touch.

use super::{EngineError, live};
use crate::host::audit::{self, Audit};
use crate::host::{HostError, pasta};
use crate::settings::Settings;
use crate::store;
use beluga_proto::PodUid;

/// Looks at the pod's VMM, the servers of its shared directories, and who carries an
/// ordinary user's network. Errors when the pod has ended.
pub async fn audit(settings: &Settings, uid: &PodUid) -> Result<Vec<Audit>, EngineError> {
    live(settings, uid).await?;
    let Some(record) = store::read_record(settings, uid)? else {
        return Ok(Vec::new());
    };
    let directory = settings.pod_dir(uid);
    let look = |role: &str, process: store::ProcessRef, log: &str| {
        audit::look(role, process.pid, &directory.join(log)).map_err(HostError::from)
    };
    let mut audits = Vec::new();
    if let Some(vmm) = record.vmm {
        audits.push(look("vmm", vmm, "vmm.log")?);
    }
    for share in &record.shares {
        let role = format!("share {}", share.volume);
        audits.push(look(&role, share.process, "share.log")?);
    }
    let plan = store::read_plan(settings, uid)?;
    if let Some(pasta) = plan.and_then(|one| pasta::of(&one.plan)) {
        audits.push(look("pasta", pasta, "pasta.log")?);
    }
    Ok(audits)
}
