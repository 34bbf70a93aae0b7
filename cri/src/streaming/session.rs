//! Exec and Attach: the streams of a process as channels.

use super::Session;
use super::channels::{CLOSE, Channels, ERROR, RESIZE, Receiver, STDERR, STDIN, STDOUT, Sender};
use crate::error::CallError;
use crate::exec::stream;
use beluga_proto::agent::ProcessExit;
use beluga_proto::container::TerminalSize;
use beluga_runtime::api::client::ClientError;
use beluga_runtime::engine::{self, AttachRequest, ExecRequest, Remote};
use beluga_runtime::error_chain;
use beluga_runtime::settings::Settings;
use serde_json::json;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// What is spoken over SPDY, the best first. With the fifth, a client can close a
/// channel.
pub const SPDY_PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// And over WebSockets: those of the kubelet's own server, at last with who names
/// nothing. Dashboards speak base64.
pub const SOCKET_PROTOCOLS: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];

/// Bytes moved at a time.
const CHUNK: usize = 32 << 10;

/// Streams that children of an ended process hold are not waited for much longer.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// A terminal's size until the client tells its own.
const TERMINAL: TerminalSize = TerminalSize { rows: 24, cols: 80 };

/// A process and its streams.
struct Process {
    stdin: Option<UnixStream>,
    /// Its input ends with the client's.
    ends_input: bool,
    outputs: Vec<(u8, UnixStream)>,
    control: Remote,
}

/// Carries a session's streams until its process has ended, then tells how.
pub async fn run(
    settings: &Settings,
    session: Session,
    mut channels: Channels,
    protocol: &str,
) -> Result<(), CallError> {
    let told = match open(settings, session).await {
        Ok(process) => carry(process, &mut channels.from, &channels.to).await,
        Err(error) => Some(failure(&error_chain(&error))),
    };
    if let Some(words) = told.and_then(|status| words(&status, protocol)) {
        channels.to.send(ERROR, words.as_bytes()).await;
    }
    channels.close().await;
    Ok(())
}

async fn open(settings: &Settings, session: Session) -> Result<Process, CallError> {
    let sockets = |fd: Option<OwnedFd>| fd.map(stream).transpose();
    match session {
        Session::Exec {
            uid,
            name,
            args,
            tty,
            stdin,
            ..
        } => {
            let request = ExecRequest {
                container: Some(name),
                args,
                tty: tty.then_some(TERMINAL),
                stdin,
                ..ExecRequest::default()
            };
            let opened = engine::exec(settings, &uid, request).await?;
            let mut outputs = vec![(STDOUT, stream(opened.stdout)?)];
            outputs.extend(sockets(opened.stderr)?.map(|stderr| (STDERR, stderr)));
            Ok(Process {
                stdin: sockets(opened.stdin)?,
                ends_input: true,
                outputs,
                control: opened.control,
            })
        }
        Session::Attach {
            uid,
            name,
            stdin,
            stdin_once,
            ..
        } => {
            let container = Some(name);
            let request = AttachRequest {
                container,
                stdin,
                ..AttachRequest::default()
            };
            let opened = engine::attach(settings, &uid, request).await?;
            Ok(Process {
                stdin: sockets(opened.stdin)?,
                ends_input: stdin_once,
                outputs: vec![(STDOUT, stream(opened.output)?)],
                control: opened.control,
            })
        }
        Session::Forward { .. } => Err(CallError::State {
            message: "ports are no process".to_owned(),
        }),
    }
}

/// Moves bytes both ways; what is to be told of the end, if anybody is there.
async fn carry(process: Process, from: &mut Receiver, to: &Sender) -> Option<serde_json::Value> {
    let Process {
        mut stdin,
        ends_input,
        outputs,
        mut control,
    } = process;
    let mut moving = JoinSet::new();
    for (channel, output) in outputs {
        moving.spawn(forward(output, channel, to.clone()));
    }
    let exit = loop {
        tokio::select! {
            exit = control.wait() => break exit,
            message = from.next() => match message {
                Some((STDIN, bytes)) => feed(&mut stdin, &bytes).await,
                Some((RESIZE, bytes)) => {
                    if let Some(size) = size(&bytes) {
                        let _ = control.resize(size).await;
                    }
                }
                Some((CLOSE, bytes)) if bytes == [STDIN] => {
                    // The supervisor has the same socket: dropping it ends nothing.
                    if let (Some(mut open), true) = (stdin.take(), ends_input) {
                        let _ = open.shutdown().await;
                    }
                }
                Some(_) => {}
                // Nobody is there to be told.
                None => return None,
            },
        }
    };
    let all = async { while moving.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(END_PATIENCE, all).await;
    moving.abort_all();
    while moving.join_next().await.is_some() {}
    Some(status(exit))
}

/// Writes to a process; one that does not read any more gets nothing more.
async fn feed(stdin: &mut Option<UnixStream>, bytes: &[u8]) {
    if let Some(open) = stdin
        && open.write_all(bytes).await.is_err()
    {
        *stdin = None;
    }
}

async fn forward(mut output: UnixStream, channel: u8, to: Sender) {
    let mut buffer = vec![0u8; CHUNK];
    while let Ok(length) = output.read(&mut buffer).await {
        if length == 0 || !to.send(channel, &buffer[..length]).await {
            return;
        }
    }
}

/// What a client says of its terminal: `{"Width":80,"Height":24}`.
fn size(bytes: &[u8]) -> Option<TerminalSize> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let number = |key: &str| u16::try_from(value[key].as_u64()?).ok();
    Some(TerminalSize {
        rows: number("Height")?,
        cols: number("Width")?,
    })
}

/// What a client reads of an end: before the fourth protocol, why it is a failure, and
/// nothing where it is none.
fn words(status: &serde_json::Value, protocol: &str) -> Option<String> {
    if protocol.starts_with('v') {
        return Some(status.to_string());
    }
    let message = status["message"].as_str();
    message.map(str::to_owned)
}

/// The end of a process, as the API machinery of Kubernetes tells it.
fn status(exit: Result<ProcessExit, ClientError>) -> serde_json::Value {
    match exit {
        Ok(exit) if exit.code == 0 => json!({"metadata": {}, "status": "Success"}),
        Ok(exit) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {}", exit.code),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": exit.code.to_string()}]},
        }),
        Err(error) => failure(&error_chain(&error)),
    }
}

fn failure(message: &str) -> serde_json::Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "InternalError",
        "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_clients_read_it() {
        let exit = |code| {
            Ok(ProcessExit {
                code,
                signal: None,
                oom_killed: false,
                unix_nanos: 0,
            })
        };
        assert_eq!(status(exit(0))["status"], "Success");
        let failed = status(exit(3));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(failed["details"]["causes"][0]["message"], "3");
        assert_eq!(status(Err(ClientError::Closed))["status"], "Failure");
        assert_eq!(words(&status(exit(0)), "channel.k8s.io"), None);
        let old = words(&failed, "base64.channel.k8s.io").unwrap();
        assert!(old.ends_with("exit status 3"), "{old}");
        assert!(
            words(&failed, "v4.base64.channel.k8s.io")
                .unwrap()
                .starts_with('{')
        );
    }

    #[test]
    fn sizes_are_read_or_not_at_all() {
        let read = size(br#"{"Width":100,"Height":30}"#).unwrap();
        assert_eq!((read.rows, read.cols), (30, 100));
        assert!(size(b"{}").is_none() && size(b"x").is_none());
    }
}
