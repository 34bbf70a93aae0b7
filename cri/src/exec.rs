//! ExecSync: a process whose output is an answer.

use crate::error::CallError;
use crate::pods::Found;
use beluga_runtime::engine::{self, ExecRequest, ExecSession};
use beluga_runtime::settings::Settings;
use k8s_cri::v1 as cri;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// Bytes of each stream that are kept; more is read and thrown away.
const MAX_OUTPUT: usize = 16 << 20;

/// How long a process may take to end once it has been killed, and streams that its
/// children hold to end once it has.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Runs a process beside a container's own and waits for it. One that does not end
/// in time is killed, with those that it has started.
pub async fn run(
    settings: &Settings,
    found: &Found,
    args: Vec<String>,
    timeout_seconds: i64,
) -> Result<cri::ExecSyncResponse, CallError> {
    let request = ExecRequest {
        container: Some(found.name.clone()),
        args,
        ..ExecRequest::default()
    };
    let session = engine::exec(settings, &found.pod.uid, request).await?;
    let ExecSession {
        stdout,
        stderr,
        mut control,
        ..
    } = session;
    let stdout = collect(stdout)?;
    let stderr = stderr.map(collect).transpose()?;
    // Nothing or less is no limit.
    let limit = u64::try_from(timeout_seconds)
        .ok()
        .filter(|limit| *limit > 0);
    let exit = match limit {
        None => control.wait().await,
        Some(seconds) => {
            let waited = tokio::time::timeout(Duration::from_secs(seconds), control.wait()).await;
            match waited {
                Ok(exit) => exit,
                Err(_) => {
                    let _ = control.kill().await;
                    let _ = tokio::time::timeout(END_PATIENCE, control.wait()).await;
                    return Err(CallError::Late {
                        message: format!("command timed out: it did not end within {seconds} s"),
                    });
                }
            }
        }
    };
    let exit = exit.map_err(engine::EngineError::from)?;
    Ok(cri::ExecSyncResponse {
        stdout: output(stdout).await,
        stderr: match stderr {
            Some(stderr) => output(stderr).await,
            None => Vec::new(),
        },
        exit_code: exit.code,
    })
}

/// A stream of a process, for this event loop.
pub fn stream(fd: OwnedFd) -> Result<UnixStream, CallError> {
    let stream = UnixStream::from_std(std::os::unix::net::UnixStream::from(fd));
    stream.map_err(|source| CallError::Stream {
        action: "read from the process",
        source,
    })
}

/// What is read so far, and who reads on.
struct Collected {
    bytes: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

fn collect(fd: OwnedFd) -> Result<Collected, CallError> {
    let mut stream = stream(fd)?;
    let bytes: std::sync::Arc<std::sync::Mutex<Vec<u8>>> = std::sync::Arc::default();
    let into = std::sync::Arc::clone(&bytes);
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0u8; 64 << 10];
        while let Ok(length) = stream.read(&mut buffer).await {
            if length == 0 {
                break;
            }
            let mut kept = into
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let room = MAX_OUTPUT - kept.len();
            kept.extend_from_slice(&buffer[..length.min(room)]);
        }
    });
    Ok(Collected { bytes, reader })
}

/// All of it, or what has come where a child of the process keeps the stream open.
async fn output(collected: Collected) -> Vec<u8> {
    let Collected { bytes, mut reader } = collected;
    if tokio::time::timeout(END_PATIENCE, &mut reader)
        .await
        .is_err()
    {
        reader.abort();
    }
    let mut bytes = bytes
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    std::mem::take(&mut *bytes)
}
