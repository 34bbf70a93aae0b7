//! Streams of processes, between containerd's named pipes and the guest.

use crate::error::ShimError;
use crate::task::Stdio;
use beluga_runtime::spec::Fifos;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::Notify;

/// Bytes moved at a time: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// Errors when a stream is not a named pipe: the loggers that are addresses are
/// programs of the host.
pub fn check(stdio: &Stdio) -> Result<(), ShimError> {
    for path in [&stdio.stdin, &stdio.stdout, &stdio.stderr] {
        if path.is_empty() {
            continue;
        }
        let refused = || ShimError::Refused {
            field: format!("the stream {path}"),
            why: "streams are named pipes, and loggers are none",
        };
        if path.contains("://") {
            return Err(refused());
        }
        let found = std::fs::metadata(path);
        let found = found.map_err(ShimError::path("look at", path))?;
        if !found.file_type().is_fifo() {
            return Err(refused());
        }
    }
    Ok(())
}

/// Where output goes.
pub fn fifos(stdio: &Stdio) -> Fifos {
    let path = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
    Fifos {
        stdout: path(&stdio.stdout),
        stderr: path(&stdio.stderr),
    }
}

/// Moves a process's output into a pipe until it ends. Without a pipe it is thrown
/// away.
pub async fn drain(from: OwnedFd, path: &str) -> io::Result<()> {
    let mut stream = stream(from)?;
    // Opened to read as well: it does not wait for a reader.
    let open = |path| pipe::OpenOptions::new().read_write(true).open_sender(path);
    let mut pipe = match path {
        "" => None,
        path => Some(open(path)?),
    };
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        if let Some(pipe) = &mut pipe {
            pipe.write_all(&buffer[..length]).await?;
        }
    }
}

/// Moves what comes out of a pipe to a process. The input ends when `closed` has
/// been said and nobody else writes.
pub async fn feed(path: &Path, to: OwnedFd, closed: &Notify) -> io::Result<()> {
    let mut stream = stream(to)?;
    let mut pipe = pipe::OpenOptions::new().open_receiver(path)?;
    // Writers that come and go do not end the input.
    let mut holder = Some(pipe::OpenOptions::new().open_sender(path)?);
    let mut buffer = vec![0; CHUNK];
    loop {
        tokio::select! {
            length = pipe.read(&mut buffer) => match length? {
                0 => break,
                length => stream.write_all(&buffer[..length]).await?,
            },
            () = closed.notified(), if holder.is_some() => drop(holder.take()),
        }
    }
    stream.shutdown().await
}

fn stream(fd: OwnedFd) -> io::Result<UnixStream> {
    UnixStream::from_std(std::os::unix::net::UnixStream::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loggers_are_refused_as_such() {
        for path in ["file:///tmp/log", "binary:///bin/true", "/dev/null"] {
            let stdio = Stdio {
                stdout: path.to_owned(),
                ..Stdio::default()
            };
            let error = check(&stdio).unwrap_err().to_string();
            let wanted = format!("the stream {path} is not supported");
            assert!(error.starts_with(&wanted), "{error}");
        }
    }
}
