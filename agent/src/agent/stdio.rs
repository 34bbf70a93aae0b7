//! Standard streams of a process: pipes or a terminal on its side, streams to
//! the supervisor on ours.

use super::Agent;
use crate::spawn::Stdio;
use crate::stream::StreamId;
use beluga_proto::agent::StdioNonces;
use beluga_proto::container::TerminalSize;
use beluga_proto::{ExecSpec, Nonce};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Size of the pipes of a command in bytes: its caller is waiting, so fewer and
/// larger transfers are worth the memory while it runs.
const EXEC_PIPE: usize = 256 << 10;

/// Streams of a process. Nothing else here holds its terminal, so that it hangs
/// up when the caller of a command is gone.
#[derive(Debug, Default)]
pub struct ProcessStreams {
    /// To it.
    pub stdin: Option<StreamId>,
    /// From it, or from its terminal.
    pub stdout: Option<StreamId>,
    /// From it.
    pub stderr: Option<StreamId>,
    /// Their local ends are one terminal.
    pub is_terminal: bool,
    /// Streams outlive a supervisor.
    lasting: bool,
}

fn null() -> io::Result<OwnedFd> {
    Ok(open(
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A pipe of which one end is ours and non-blocking.
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

fn pipe(lasting: bool) -> io::Result<Pipe> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    if !lasting {
        // A smaller pipe does as well, only slower.
        let _ = fcntl_setpipe_size(&read, EXEC_PIPE);
    }
    Ok(Pipe { read, write })
}

fn non_blocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = fcntl_getfl(fd)?;
    Ok(fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

impl Agent {
    /// Pipes and streams of a process. With a terminal there is nothing to
    /// connect before the helper has made it.
    pub(super) fn open_stdio(
        &mut self,
        process: &ExecSpec,
        nonces: &StdioNonces,
        lasting: bool,
    ) -> io::Result<(Stdio, ProcessStreams)> {
        let mut streams = ProcessStreams {
            lasting,
            ..ProcessStreams::default()
        };
        if process.tty.is_some() {
            return Ok((Stdio::Terminal, streams));
        }
        let opened = self.open_pipes(process, nonces, &mut streams);
        match opened {
            Ok(stdio) => Ok((stdio, streams)),
            Err(error) => {
                self.close_streams(&streams);
                Err(error)
            }
        }
    }

    fn open_pipes(
        &mut self,
        process: &ExecSpec,
        nonces: &StdioNonces,
        streams: &mut ProcessStreams,
    ) -> io::Result<Stdio> {
        let lasting = streams.lasting;
        let stdin = match &nonces.stdin {
            Some(nonce) if process.stdin => {
                let pipe = pipe(lasting)?;
                non_blocking(&pipe.write)?;
                let id = self
                    .streams
                    .open_input(&self.poller, pipe.write, nonce, lasting)?;
                streams.stdin = Some(id);
                pipe.read
            }
            _ => null()?,
        };
        let stdout = self.open_output(nonces.stdout.as_ref(), lasting, &mut streams.stdout)?;
        let stderr = self.open_output(nonces.stderr.as_ref(), lasting, &mut streams.stderr)?;
        Ok(Stdio::Pipes {
            stdin,
            stdout,
            stderr,
        })
    }

    fn open_output(
        &mut self,
        nonce: Option<&Nonce>,
        lasting: bool,
        id: &mut Option<StreamId>,
    ) -> io::Result<OwnedFd> {
        let Some(nonce) = nonce else {
            return null();
        };
        let pipe = pipe(lasting)?;
        non_blocking(&pipe.read)?;
        let opened = self
            .streams
            .open_output(&self.poller, pipe.read, Some(nonce), lasting)?;
        *id = Some(opened);
        Ok(pipe.write)
    }

    /// Connects the terminal that the helper has made.
    pub(super) fn attach_terminal(
        &mut self,
        streams: &mut ProcessStreams,
        terminal: OwnedFd,
        nonces: &StdioNonces,
    ) -> io::Result<()> {
        non_blocking(&terminal)?;
        let lasting = streams.lasting;
        if let Some(nonce) = &nonces.stdin {
            let sink = terminal.try_clone()?;
            let id = self
                .streams
                .open_input(&self.poller, sink, nonce, lasting)?;
            streams.stdin = Some(id);
        }
        if let Some(nonce) = &nonces.stdout {
            let source = terminal.try_clone()?;
            let id = self
                .streams
                .open_output(&self.poller, source, Some(nonce), lasting)?;
            streams.stdout = Some(id);
        }
        streams.is_terminal = true;
        Ok(())
    }

    /// Closes what goes to a process that is gone; what came from it is still
    /// to be delivered.
    pub(super) fn close_input(&mut self, streams: &mut ProcessStreams) {
        if let Some(id) = streams.stdin.take() {
            self.streams.close(&self.poller, id);
        }
    }

    /// Closes every stream of a process.
    pub(super) fn close_streams(&mut self, streams: &ProcessStreams) {
        for id in [streams.stdin, streams.stdout, streams.stderr]
            .into_iter()
            .flatten()
        {
            self.streams.close(&self.poller, id);
        }
    }
}

/// Changes the size of a terminal; the kernel tells its processes.
pub fn resize(terminal: BorrowedFd<'_>, size: TerminalSize) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}
