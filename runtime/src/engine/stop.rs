//! Ends pods, also those whose supervisor does not answer.

use super::{EngineError, Reached, reach};
use crate::api::StopRequest;
use crate::api::client::{self, ClientError};
use crate::host::process;
use crate::pod;
use crate::settings::Settings;
use crate::store::{self, Life};
use beluga_proto::PodUid;
use std::time::{Duration, Instant};

/// How long a supervisor may take beyond the grace period until it has ended
/// its pod. Emulated hosts are slow.
const END_PATIENCE: Duration = Duration::from_secs(60);
/// The same when the pod shall go at once.
const FORCE_PATIENCE: Duration = Duration::from_secs(20);
/// How long a client waits for a supervisor to finish its pod's clean-up.
const GONE_PATIENCE: Duration = Duration::from_secs(10);
/// How many supervisors of a pod may be killed over its end before that is an error.
const SUPERVISORS: usize = 3;

/// Ends a pod and waits until nothing of it runs; with `delete` until its
/// record is gone as well. A supervisor that does not answer is an error,
/// unless there is no grace: then it is killed, and its successor ends the pod.
pub async fn stop(
    settings: &Settings,
    uid: &PodUid,
    request: StopRequest,
) -> Result<(), EngineError> {
    for _ in 0..SUPERVISORS {
        match reach(settings, uid).await {
            Ok(Reached::Live) => ask(settings, uid, request).await?,
            Ok(Reached::Ended(_)) => {}
            Err(EngineError::Absent { .. }) if request.delete => return Ok(()),
            Err(error) => return Err(error),
        }
        if has_gone(settings, uid, request).await? {
            return Ok(());
        }
    }
    Err(ClientError::Closed.into())
}

/// Waits until a supervisor that was asked to end its pod has let go of it; whether
/// the pod has ended then, or has lost one more supervisor.
async fn has_gone(
    settings: &Settings,
    uid: &PodUid,
    request: StopRequest,
) -> Result<bool, EngineError> {
    // The supervisor closes its connections just before it lets go.
    let started = Instant::now();
    loop {
        if let Some(_lock) = store::try_own(settings, uid)? {
            // Read under the lock: nobody else changes it.
            let Some(record) = store::read_record(settings, uid)? else {
                return Ok(true);
            };
            if record.life != Life::Ended {
                return Ok(false);
            }
            if request.delete {
                store::remove(settings, &record)?;
            }
            return Ok(true);
        }
        if store::read_record(settings, uid)?.is_none() {
            return Ok(true);
        }
        if started.elapsed() > GONE_PATIENCE {
            return Err(ClientError::Closed.into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks the supervisor; at most twice, where the first may be killed for silence.
async fn ask(settings: &Settings, uid: &PodUid, request: StopRequest) -> Result<(), EngineError> {
    let Some(definition) = store::read_definition(settings, uid)? else {
        return Ok(());
    };
    let by_force = request.grace == Some(0);
    let patience = if by_force {
        FORCE_PATIENCE
    } else {
        let grace = request.grace.unwrap_or(definition.spec.grace_seconds);
        END_PATIENCE + Duration::from_secs(grace.into())
    };
    for is_last in [!by_force, true] {
        let asked = client::stop(settings, uid, request);
        match tokio::time::timeout(patience, asked).await {
            // It went while we asked: that is what was asked for.
            Ok(Ok(()) | Err(ClientError::Channel(_))) => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) if is_last => break,
            Err(_) => kill_supervisor(settings, uid),
        }
        if let Reached::Ended(_) = reach(settings, uid).await? {
            return Ok(());
        }
    }
    let identity = definition.plan.identity;
    Err(EngineError::Silent {
        name: identity.name,
        namespace: identity.namespace,
    })
}

/// Kills the process that answers for a pod, if that is a supervisor of it.
pub(super) fn kill_supervisor(settings: &Settings, uid: &PodUid) {
    let found = client::supervisor(settings, uid).and_then(process::identify);
    let Some(supervisor) = found else {
        return;
    };
    let Some(pidfd) = process::open(supervisor) else {
        return;
    };
    let line = std::fs::read(format!("/proc/{}/cmdline", supervisor.pid)).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).skip(1);
    let is_ours = words.next() == Some(pod::SUPERVISE.as_bytes())
        && words.next() == Some(uid.as_str().as_bytes());
    if is_ours && process::kill(&pidfd).is_ok() {
        let _ = process::wait_end(&pidfd, 3000);
    }
}
