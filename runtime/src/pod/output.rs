//! Carries one container run's output into its log, and to who is attached.

use super::fifo::Pipes;
use crate::logs::{Kind, LogFile, Output};
use beluga_proto::{Fault, FaultCode};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// Bytes moved at a time; the buffer exists only while there is output.
const CHUNK: usize = 32 << 10;

/// Who waits for a log to be opened anew.
pub(super) type Reopened = oneshot::Sender<Result<(), Fault>>;

/// What a run's output needs.
#[derive(Debug)]
pub(super) struct Pump {
    pub(super) log: PathBuf,
    pub(super) kind: Kind,
    /// Where it goes in place of the log.
    pub(super) pipes: Option<Pipes>,
    /// Those who have put the log aside.
    pub(super) reopened: mpsc::UnboundedReceiver<Reopened>,
    pub(super) stdout: oneshot::Receiver<UnixStream>,
    pub(super) stderr: Option<oneshot::Receiver<UnixStream>>,
    /// Clients that want a copy, from when they come.
    pub(super) attached: mpsc::UnboundedReceiver<UnixStream>,
    /// Grows with each piece that is in the log.
    pub(super) moved: Arc<AtomicU64>,
}

/// A stream and the piece of it that was read last.
struct Source {
    output: Output,
    stream: Option<UnixStream>,
}

impl Pump {
    /// Runs until every stream has ended. What is acknowledged to the agent is
    /// in the log. Errors when the log cannot be written: the agent then holds
    /// the output back, and the container stops at its next write.
    pub(super) async fn run(mut self) -> std::io::Result<()> {
        if let Some(pipes) = self.pipes {
            return pipes.carry(self.stdout, self.stderr, &self.moved).await;
        }
        let mut log = LogFile::open(&self.log, &self.kind)?;
        let stdout = (&mut self.stdout).await.ok();
        let stderr = match &mut self.stderr {
            Some(stderr) => stderr.await.ok(),
            None => None,
        };
        let mut out = Source {
            output: Output::Stdout,
            stream: stdout,
        };
        let mut err = Source {
            output: Output::Stderr,
            stream: stderr,
        };
        let mut clients: Vec<UnixStream> = Vec::new();
        let mut no_more_clients = false;
        let mut no_more_moves = false;
        while out.stream.is_some() || err.stream.is_some() {
            tokio::select! {
                biased;
                client = self.attached.recv(), if !no_more_clients => match client {
                    Some(client) => clients.push(client),
                    None => no_more_clients = true,
                },
                reply = self.reopened.recv(), if !no_more_moves => match reply {
                    Some(reply) => {
                        let _ = reply.send(log.reopen().map_err(unopened));
                    }
                    None => no_more_moves = true,
                },
                () = out.readable(), if out.stream.is_some() => {
                    out.transfer(&mut log, &mut clients).await?;
                    self.moved.fetch_add(1, Ordering::Relaxed);
                }
                () = err.readable(), if err.stream.is_some() => {
                    err.transfer(&mut log, &mut clients).await?;
                    self.moved.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }
}

fn unopened(error: std::io::Error) -> Fault {
    Fault::new(FaultCode::Internal, format!("cannot open the log: {error}"))
}

impl Source {
    async fn readable(&self) {
        if let Some(stream) = &self.stream {
            // An error shows again at the read.
            let _ = stream.readable().await;
        }
    }

    /// Moves one piece: read, log, acknowledge, copy.
    async fn transfer(
        &mut self,
        log: &mut LogFile,
        clients: &mut Vec<UnixStream>,
    ) -> std::io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let mut buffer = Vec::with_capacity(CHUNK);
        let length = match stream.try_read_buf(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => 0,
        };
        if length == 0 {
            log.finish(self.output)?;
        } else {
            log.append(self.output, &buffer)?;
        }
        let safe = log.safe(self.output).to_le_bytes();
        let is_over = stream.write_all(&safe).await.is_err() || length == 0;
        if is_over && let Some(stream) = self.stream.take() {
            tokio::spawn(drain(stream));
        }
        copy(&buffer, clients).await;
        Ok(())
    }
}

/// Gives the agent the time to read the last acknowledgement: closing a socket
/// with unread data in it resets the connection.
pub(super) async fn drain(mut stream: UnixStream) {
    let _ = stream.shutdown().await;
    let mut rest = [0u8; 64];
    let wait = std::time::Duration::from_secs(1);
    let _ = tokio::time::timeout(wait, async {
        while matches!(stream.read(&mut rest).await, Ok(length) if length > 0) {}
    })
    .await;
}

/// A client that is slow slows the container down, as a terminal does; one
/// that has gone is forgotten.
async fn copy(bytes: &[u8], clients: &mut Vec<UnixStream>) {
    let mut at = 0;
    while at < clients.len() {
        if clients[at].write_all(bytes).await.is_ok() {
            at += 1;
        } else {
            clients.swap_remove(at);
        }
    }
}
