//! How long a client waits for a first answer, and what it tells when none comes.

use super::client::ClientError;
use super::{ApiMessage, Channel};
use crate::host::process;
use crate::settings::Settings;
use crate::store;
use beluga_proto::PodUid;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Longer than a supervisor waits for its agent.
const PATIENCE: Duration = Duration::from_secs(90);
/// After so much silence one looks whether there is anybody to answer.
const LOOK: Duration = Duration::from_secs(2);

/// The answer to a request. Two looks in a row at a stopped process are an
/// error at once: nobody will answer before somebody else lets it go on.
pub(super) async fn answer(
    channel: &mut Channel,
    settings: &Settings,
    uid: &PodUid,
) -> Result<Option<ApiMessage>, ClientError> {
    let end = Instant::now() + PATIENCE;
    let mut before = None;
    loop {
        if let Ok(message) = timeout(LOOK, channel.receive()).await {
            return Ok(message?);
        }
        let stopped = stopped(channel, settings, uid);
        match stopped {
            Some((what, pid)) if stopped == before => {
                return Err(ClientError::Stopped { what, pid });
            }
            _ => before = stopped,
        }
        if Instant::now() >= end {
            let seconds = PATIENCE.as_secs();
            return Err(ClientError::Silent { seconds });
        }
    }
}

/// A stopped process among those that an answer takes.
fn stopped(channel: &Channel, settings: &Settings, uid: &PodUid) -> Option<(&'static str, i32)> {
    let record = store::read_record(settings, uid).ok().flatten();
    let vmm = record.and_then(|record| record.vmm).map(|vmm| vmm.pid);
    let all = [("supervisor", channel.peer()), ("VMM", vmm)];
    let mut all = all.into_iter().filter_map(|(what, pid)| Some((what, pid?)));
    all.find(|(_, pid)| process::is_stopped(*pid))
}
