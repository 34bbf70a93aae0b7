//! What the processes that serve a pod's guest can still touch.

use super::{EngineError, live};
use crate::api::client;
use crate::host::audit::{self, Audit};
use crate::host::network::Net;
use crate::host::{HostError, pasta, process, resolver};
use crate::settings::Settings;
use crate::store;
use beluga_proto::PodUid;

/// Looks at the pod's VMM, the servers of its shared directories, who carries an
/// ordinary user's network, the resolver of its network and its supervisor. Errors when the pod has ended.
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
    let plan = plan.map(|one| one.plan);
    if let Some(pasta) = plan.as_ref().and_then(pasta::of) {
        audits.push(look("pasta", pasta, "pasta.log")?);
    }
    let network = plan.as_ref().and_then(|plan| plan.gateway());
    if let Some(net) = network.and_then(|(name, _)| Net::open(settings, name).ok()) {
        let log = resolver::log(&net);
        for (role, pid) in resolver::processes(&net) {
            audits.push(audit::look(role, pid, &log).map_err(HostError::from)?);
        }
    }
    if let Some(supervisor) = client::supervisor(settings, uid).and_then(process::identify) {
        audits.push(look("supervisor", supervisor, "supervisor.log")?);
    }
    Ok(audits)
}
