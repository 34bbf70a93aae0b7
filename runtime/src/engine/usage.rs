//! What a pod uses of this host.

use super::{EngineError, live};
use crate::api::client;
use crate::host::{pasta, process};
use crate::settings::Settings;
use crate::store;
use beluga_proto::PodUid;
use beluga_proto::agent::PodStats;

/// What a pod uses, seen from inside and from outside.
#[derive(Debug, Clone)]
pub struct Usage {
    /// By the guest's own account.
    pub guest: PodStats,
    /// Memory of VMM, supervisor, servers of host files and pasta that the host holds for it, in bytes;
    /// shared pages count by their share.
    pub host_bytes: u64,
}

/// What a pod uses now. Errors when it has ended.
pub async fn usage(settings: &Settings, uid: &PodUid) -> Result<Usage, EngineError> {
    live(settings, uid).await?;
    let guest = client::stats(settings, uid).await?;
    let record = store::read_record(settings, uid)?;
    let helpers = record.iter().flat_map(|record| {
        let shares = record.shares.iter().map(|share| share.process);
        record.vmm.into_iter().chain(shares)
    });
    let plan = store::read_plan(settings, uid)?;
    let helpers = helpers.chain(plan.and_then(|one| pasta::of(&one.plan)));
    let helpers: u64 = helpers.map(|one| process::resident_bytes(one.pid)).sum();
    Ok(Usage {
        guest,
        host_bytes: helpers + client::supervisor(settings, uid).map_or(0, process::resident_bytes),
    })
}
