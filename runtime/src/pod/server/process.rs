//! A process beside a container's own: asked for, its streams dialled, handed
//! to the client.

use crate::api::{ApiMessage, Channel, ChannelError, ExecRequest};
use crate::link::{Link, Streams};
use beluga_proto::agent::{ProcessExit, StdioNonces};
use beluga_proto::copy::CopySpec;
use beluga_proto::{ContainerId, ExecId, ExecSpec, Fault, FaultCode, Reply, Request};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// How long the streams of a started process may take to be dialled.
const STREAM_PATIENCE: Duration = Duration::from_secs(30);

type Answer = Pin<Box<dyn Future<Output = Result<Reply, Fault>> + Send>>;
type Stream = oneshot::Receiver<UnixStream>;

/// A process that the agent has been asked to run.
pub(in crate::pod) struct Exec {
    pub(super) id: ExecId,
    started: Answer,
    stdin: Option<Stream>,
    stdout: Stream,
    stderr: Option<Stream>,
    exited: oneshot::Receiver<ProcessExit>,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Exec {
    /// Asks the agent to run the process.
    pub(in crate::pod) fn begin(
        link: &Link,
        streams: &Streams,
        container: ContainerId,
        id: ExecId,
        (process, copy): (ExecSpec, Option<CopySpec>),
        exited: oneshot::Receiver<ProcessExit>,
    ) -> Self {
        let (stdout_nonce, stdout) = streams.expect();
        let (stderr_nonce, stderr) = process.tty.is_none().then(|| streams.expect()).unzip();
        let (stdin_nonce, stdin) = process.stdin.then(|| streams.expect()).unzip();
        let started = link.ask(Request::Exec {
            container,
            exec: id.clone(),
            process: Box::new(process),
            copy,
            stdio: StdioNonces {
                stdin: stdin_nonce,
                stdout: Some(stdout_nonce),
                stderr: stderr_nonce,
            },
        });
        Self {
            id,
            started: Box::pin(started),
            stdin,
            stdout,
            stderr,
            exited,
        }
    }
}

/// The process of an exec: the container's own with other arguments.
pub(in crate::pod) fn exec_process(
    own: &ExecSpec,
    request: &ExecRequest,
) -> Result<ExecSpec, Fault> {
    if request.args.is_empty() {
        let message = "there is no command to run";
        return Err(Fault::new(FaultCode::InvalidArgument, message));
    }
    let mut process = own.clone();
    process.args.clone_from(&request.args);
    process.tty = request.tty;
    process.stdin = request.stdin;
    if let Some(user) = &request.user {
        // What the manifest says of the container's user would win over the word.
        process.user.uid = None;
        process.user.gid = None;
        process.user.image_user.clone_from(user);
    }
    if let Some(workdir) = &request.workdir {
        process.cwd.clone_from(workdir);
    }
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    for entry in &request.env {
        process.env.retain(|old| name(old) != name(entry));
        process.env.push(entry.clone());
    }
    if process.tty.is_some() && !process.env.iter().any(|entry| name(entry) == "TERM") {
        process.env.push("TERM=xterm".to_owned());
    }
    Ok(process)
}

type Opened = (
    Option<OwnedFd>,
    OwnedFd,
    Option<OwnedFd>,
    oneshot::Receiver<ProcessExit>,
);

/// Waits until the process runs and its streams are there.
pub(super) async fn open(exec: Exec) -> Result<Opened, Fault> {
    exec.started.await?;
    let stdin = match exec.stdin {
        Some(stdin) => Some(dialled(stdin).await?),
        None => None,
    };
    let stdout = dialled(exec.stdout).await?;
    let stderr = match exec.stderr {
        Some(stderr) => Some(dialled(stderr).await?),
        None => None,
    };
    Ok((stdin, stdout, stderr, exec.exited))
}

pub(in crate::pod) async fn dialled(stream: Stream) -> Result<OwnedFd, Fault> {
    let stream = tokio::time::timeout(STREAM_PATIENCE, stream).await;
    let stream = stream.ok().and_then(Result::ok).ok_or_else(|| {
        let message = "the agent did not open the streams of the process";
        Fault::new(FaultCode::Protocol, message)
    })?;
    stream
        .into_std()
        .map(OwnedFd::from)
        .map_err(|error| Fault::from_error(FaultCode::Internal, &error))
}

pub(in crate::pod) async fn send_streams(
    channel: &Channel,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
) -> Result<(), ChannelError> {
    let message = ApiMessage::Streams {
        stdin: stdin.is_some(),
        stdout: stdout.is_some(),
        stderr: stderr.is_some(),
    };
    let all = [stdin, stdout, stderr];
    let fds: Vec<BorrowedFd<'_>> = all.iter().flatten().map(|fd| fd.as_fd()).collect();
    channel.send(&message, &fds).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use beluga_proto::container::UserSpec;
    use serde_json::json;

    fn own() -> ExecSpec {
        let user = UserSpec {
            image_user: "app".into(),
            uid: Some(1000),
            gid: Some(1000),
            supplementary: vec![2000],
            refuse_root: true,
            strict_groups: false,
        };
        let own = json!({
            "args": ["serve"], "env": ["A=1", "B=2"], "cwd": "/srv", "user": user,
            "capabilities": [], "no_new_privileges": true,
            "seccomp": {"type": "runtime_default"}, "tty": null, "stdin": false,
        });
        serde_json::from_value(own).unwrap()
    }

    #[test]
    fn an_exec_is_the_containers_own_process_but_for_what_it_says_itself() {
        let mut request = ExecRequest {
            args: vec!["id".into()],
            ..ExecRequest::default()
        };
        let plain = exec_process(&own(), &request).unwrap();
        assert_eq!((plain.cwd.as_str(), &plain.user), ("/srv", &own().user));
        request.env = vec!["B=3".into()];
        request.user = Some("33:34".into());
        request.workdir = Some("/tmp".into());
        let changed = exec_process(&own(), &request).unwrap();
        assert_eq!(changed.env, ["A=1", "B=3"]);
        assert_eq!(changed.cwd, "/tmp");
        assert_eq!(changed.user.image_user, "33:34");
        assert_eq!((changed.user.uid, changed.user.gid), (None, None));
        // What the pod is bound to holds for whoever it is.
        assert_eq!(changed.user.supplementary, [2000]);
        assert!(changed.user.refuse_root && changed.no_new_privileges);
        request.args.clear();
        assert!(exec_process(&own(), &request).is_err());
    }
}
