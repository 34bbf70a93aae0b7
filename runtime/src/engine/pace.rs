//! Many pods are not booted all at once: each boot wants a CPU for a moment,
//! and a host of two that boots fifty gives each a twenty-fifth of one.

use super::EngineError;
use crate::settings::Settings;
use crate::store::{self, Life};
use beluga_proto::PodUid;
use std::time::Duration;

/// How often the ones before are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Fewest boots at once.
const FEWEST: usize = 2;

/// Waits until few enough of the pods that have been begun are still booting:
/// fewer than the host has CPUs.
pub async fn pace(settings: &Settings, begun: &[PodUid]) -> Result<(), EngineError> {
    let cpus = std::thread::available_parallelism().map_or(FEWEST, |count| count.get());
    let most = cpus.max(FEWEST);
    loop {
        let mut booting = 0;
        for uid in begun.iter().rev() {
            // One that is gone does not boot.
            let record = store::read_record(settings, uid)?;
            let is_booting = record.is_some_and(|record| record.life == Life::Starting);
            booting += usize::from(is_booting);
        }
        if booting < most {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
