//! ExecSync: a process whose output is an answer.

use crate::error::CallError;
use crate::pods::Found;
use beluga_runtime::api::client::{ClientError, Remote};
use beluga_runtime::engine::{self, ExecRequest, ExecSession};
use beluga_runtime::settings::Settings;
use k8s_cri::v1 as cri;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes of both streams together that are kept; more is read and thrown away. What
/// kubelets and crictl take is a message of 16 MiB, of which the rest of an answer
/// needs a few bytes.
const MAX_OUTPUT: usize = (16 << 20) - 1024;

/// How long a process may take to end once it has been killed, and streams that its
/// children hold to end once it has.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Runs a process beside a container's own and waits for it. One that does not end
/// in time is killed, with those that it has started; so is one whose caller has gone.
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
    // Nothing or less is no limit.
    let limit = u64::try_from(timeout_seconds)
        .ok()
        .filter(|limit| *limit > 0);
    let (caller, gone) = oneshot::channel();
    // A call that is given up is dropped where it waits: what it has begun goes on
    // in a task of its own, which then sees that nobody is there.
    let (settings, uid) = (settings.clone(), found.pod.uid.clone());
    let done = tokio::spawn(async move {
        let session = engine::exec(&settings, &uid, request).await?;
        finish(session, limit.map(Duration::from_secs), gone).await
    });
    let done = done.await;
    drop::<oneshot::Sender<()>>(caller);
    done.map_err(|broken| CallError::State {
        message: broken.to_string(),
    })?
}

/// Waits for the end of a process and for its output.
async fn finish(
    session: ExecSession,
    limit: Option<Duration>,
    gone: oneshot::Receiver<()>,
) -> Result<cri::ExecSyncResponse, CallError> {
    let ExecSession {
        stdout,
        stderr,
        mut control,
        ..
    } = session;
    let until = limit.map(|limit| Instant::now() + limit);
    let output = Output::collect(stdout, stderr)?;
    let late = async {
        match until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    let exit = tokio::select! {
        exit = control.wait() => exit,
        () = late => {
            kill(control).await;
            let seconds = limit.unwrap_or_default().as_secs();
            return Err(CallError::Late {
                message: format!("command timed out: it did not end within {seconds} s"),
            });
        }
        _ = gone => {
            kill(control).await;
            return Err(CallError::State {
                message: "its caller has gone".to_owned(),
            });
        }
    };
    let exit = exit.map_err(engine::EngineError::from)?;
    let patience = Instant::now() + END_PATIENCE;
    let kept = output.end(until.map_or(patience, |until| until.min(patience)));
    let Kept { stdout, stderr } = kept.await;
    Ok(cri::ExecSyncResponse {
        stdout,
        stderr,
        exit_code: exit.code,
    })
}

/// Kills a process with those that it has started.
async fn kill(mut control: Remote) {
    let ended = async {
        control.kill().await?;
        control.wait().await.map(drop)
    };
    // One that is gone already is as good.
    let _: Result<Result<(), ClientError>, _> = tokio::time::timeout(END_PATIENCE, ended).await;
}

/// A stream of a process, for this event loop.
pub fn stream(fd: OwnedFd) -> Result<UnixStream, CallError> {
    let stream = UnixStream::from_std(std::os::unix::net::UnixStream::from(fd));
    stream.map_err(|source| CallError::Stream {
        action: "read from the process",
        source,
    })
}

/// What is kept of a process's output.
#[derive(Debug, Default)]
struct Kept {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Kept {
    /// As much of it as there is room for.
    fn add(&mut self, is_stderr: bool, bytes: &[u8]) {
        let room = MAX_OUTPUT - self.stdout.len() - self.stderr.len();
        let bytes = &bytes[..bytes.len().min(room)];
        match is_stderr {
            true => self.stderr.extend_from_slice(bytes),
            false => self.stdout.extend_from_slice(bytes),
        }
    }
}

/// What is read so far, and who reads on.
struct Output {
    kept: Arc<Mutex<Kept>>,
    readers: JoinSet<()>,
}

impl Output {
    fn collect(stdout: OwnedFd, stderr: Option<OwnedFd>) -> Result<Self, CallError> {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let mut readers = JoinSet::new();
        let all = [(false, Some(stdout)), (true, stderr)];
        for (is_stderr, fd) in all {
            let Some(fd) = fd else { continue };
            let (mut stream, into) = (stream(fd)?, Arc::clone(&kept));
            readers.spawn(async move {
                let mut buffer = vec![0u8; 64 << 10];
                while let Ok(length) = stream.read(&mut buffer).await {
                    if length == 0 {
                        break;
                    }
                    let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.add(is_stderr, &buffer[..length]);
                }
            });
        }
        Ok(Self { kept, readers })
    }

    /// All of it, or what has come by then where a child of the process keeps a
    /// stream open.
    async fn end(mut self, until: Instant) -> Kept {
        let all = async { while self.readers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout_at(until, all).await;
        self.readers.abort_all();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream as Pipe;

    #[test]
    fn an_answer_is_no_larger_than_clients_take() {
        let mut kept = Kept::default();
        let piece = vec![b'x'; 3 << 20];
        for is_stderr in [false, true, true, false, true, false] {
            kept.add(is_stderr, &piece);
        }
        assert_eq!(kept.stdout.len() + kept.stderr.len(), MAX_OUTPUT);
        assert_eq!(kept.stderr.len(), 9 << 20);
    }

    #[tokio::test]
    async fn output_that_does_not_end_is_not_waited_for_beyond_its_time() {
        let (ours, mut theirs) = Pipe::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.write_all(b"fg\n").unwrap();
        let output = Output::collect(ours.into(), None).unwrap();
        let begun = Instant::now();
        let kept = output.end(begun + Duration::from_millis(50)).await;
        assert_eq!(kept.stdout, b"fg\n");
        assert!(begun.elapsed() < END_PATIENCE);
        drop(theirs);
    }
}
