//! The user's terminal: raw mode that is always taken back, its size, and the
//! moving of bytes between it and a pod.

use super::output::reader_gone;
use super::{CliError, exit};
use crate::engine::Remote;
use beluga_proto::container::TerminalSize;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use rustix::termios::{self, OptionalActions, Termios};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long output may stay silent after the process ended while somebody
/// else in the pod still holds it open.
const SILENCE: Duration = Duration::from_millis(500);

/// Bytes moved at once.
const CHUNK: usize = 128 << 10;

/// A terminal in raw mode; with the value the old mode comes back.
pub struct Raw {
    before: Option<Termios>,
}

impl Raw {
    /// Sets standard input raw, if it is a terminal.
    pub fn enter() -> Result<Self, CliError> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self { before: None });
        }
        let set = || -> rustix::io::Result<Termios> {
            let before = termios::tcgetattr(&stdin)?;
            let mut raw = before.clone();
            raw.make_raw();
            termios::tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
            Ok(before)
        };
        let before = set().map_err(|error| CliError::io("set the terminal raw", error.into()))?;
        Ok(Self {
            before: Some(before),
        })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs no restoring.
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, before);
        }
    }
}

/// Waits for the end of a process whose streams are ours, and tells its terminal
/// the size of this one whenever that changes; its exit code.
pub async fn follow(control: &mut Remote, outputs: Outputs, tty: bool) -> Result<u8, CliError> {
    let mut resized = signal(SignalKind::window_change())
        .map_err(|source| CliError::io("watch the terminal's size", source))?;
    let ended = loop {
        tokio::select! {
            ended = control.wait() => break ended,
            _ = resized.recv(), if tty => {
                if let Some(size) = size() {
                    // The process may have ended just now.
                    drop(control.resize(size).await);
                }
            }
        }
    };
    let written = outputs.finish().await;
    let code = exit::of_process(ended?.code);
    written.map(|()| code)
}

/// The size of the terminal, if there is one.
pub fn size() -> Option<TerminalSize> {
    let size = termios::tcgetwinsize(io::stdout())
        .or_else(|_| termios::tcgetwinsize(io::stdin()))
        .ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(TerminalSize {
        rows: size.ws_row,
        cols: size.ws_col,
    })
}

/// Characters in a line of the terminal on standard error; the usual 80 where it says none.
pub fn error_width() -> usize {
    let size = termios::tcgetwinsize(io::stderr());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns > 0 { columns } else { 80 }
}

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Whether a terminal that was asked for can be given. Without one of our own
/// there is no point in it where input comes from somewhere else, and its end
/// would never be heard.
pub fn is_to_be_had(stdin: bool) -> bool {
    if stdin && !stdin_is_terminal() {
        tell!("Unable to use a TTY - input is not a terminal or the right kind of file");
        return false;
    }
    true
}

/// Moves standard input to a process on a thread of its own, which ends with
/// the program: a read of a terminal cannot be called off.
pub fn send_input(to: OwnedFd) -> Result<(), CliError> {
    blocking(&to)?;
    thread::spawn(move || {
        // The process may end before its input does.
        let _ = feed(rustix::stdio::stdin(), to.as_fd());
        let _ = rustix::net::shutdown(&to, rustix::net::Shutdown::Write);
        // Kept open until the program ends: closing it would tear down the
        // stream of a terminal, whose two directions are one.
        std::mem::forget(to);
    });
    Ok(())
}

/// Output streams on their way to ours.
#[derive(Default)]
pub struct Outputs {
    streams: Vec<Stream>,
}

/// One of them, moved by a thread of its own.
struct Stream {
    progress: Arc<Progress>,
    thread: JoinHandle<rustix::io::Result<()>>,
}

/// How far a stream has come.
#[derive(Default)]
struct Progress {
    moved: AtomicU64,
    /// Bytes have come that our reader has not taken yet.
    is_writing: AtomicBool,
}

impl Outputs {
    /// Moves a stream to standard output (or error) on a thread of its own.
    pub fn add(&mut self, from: OwnedFd, error: bool) -> Result<(), CliError> {
        let to = if error {
            rustix::stdio::stderr()
        } else {
            rustix::stdio::stdout()
        };
        self.join(from, to)
    }

    fn join(&mut self, from: OwnedFd, to: impl AsFd + Send + 'static) -> Result<(), CliError> {
        blocking(&from)?;
        let progress = Arc::new(Progress::default());
        let moving = Arc::clone(&progress);
        let thread = thread::spawn(move || copy(from.as_fd(), to.as_fd(), &moving));
        self.streams.push(Stream { progress, thread });
        Ok(())
    }

    /// Waits until all streams have ended, or are silent for a while. A reader of ours that takes
    /// its time is no silence: who waits for it has bytes. Errors where output is lost; a reader
    /// that has seen enough loses none.
    pub async fn finish(self) -> Result<(), CliError> {
        let mut seen = self.moved();
        let mut silent = Duration::ZERO;
        let step = Duration::from_millis(2);
        while silent < SILENCE && self.streams.iter().any(|one| !one.thread.is_finished()) {
            tokio::time::sleep(step).await;
            let now = self.moved();
            silent = if now != seen || self.is_writing() {
                Duration::ZERO
            } else {
                silent + step
            };
            seen = now;
        }
        for stream in self.streams {
            // One that is silent is left to the end of the program.
            if !stream.thread.is_finished() {
                continue;
            }
            let moved = match stream.thread.join() {
                Ok(moved) => moved.map_err(io::Error::from),
                Err(panic) => std::panic::resume_unwind(panic),
            };
            match moved {
                Err(error) if !reader_gone(&error) => {
                    return Err(CliError::io("write the output", error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn moved(&self) -> u64 {
        let all = self.streams.iter();
        all.map(|one| one.progress.moved.load(Ordering::Relaxed))
            .sum()
    }

    fn is_writing(&self) -> bool {
        let mut all = self.streams.iter();
        all.any(|one| one.progress.is_writing.load(Ordering::Acquire))
    }
}

/// Moves bytes to the source's end; a source that breaks has ended, by its pod. Errors where
/// they cannot be written.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, progress: &Progress) -> rustix::io::Result<()> {
    let mut buffer = vec![0u8; CHUNK];
    loop {
        let length = match rustix::io::read(from, &mut buffer[..]) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(Errno::INTR) => continue,
            Err(_) => return Ok(()),
        };
        progress.is_writing.store(true, Ordering::Release);
        write_all(to, &buffer[..length])?;
        progress.moved.fetch_add(length as u64, Ordering::Relaxed);
        progress.is_writing.store(false, Ordering::Release);
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // Who shares our standard output has made it so that nobody waits for its reader.
            Err(Errno::AGAIN) => {
                let mut full = [PollFd::new(&to, PollFlags::OUT)];
                match poll(&mut full, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Moves bytes to a socket, to the source's end: from a pipe without a look at
/// them. Not the other way round: a splice into a pipe that waits for bytes
/// keeps the pipe's reader from those that are in it.
fn feed(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    loop {
        match splice(from, None, to, None, CHUNK, SpliceFlags::MOVE) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::INVAL) => return copy(from, to, &Progress::default()),
            Err(errno) => return Err(errno),
        }
    }
}

fn blocking(fd: &OwnedFd) -> Result<(), CliError> {
    rustix::io::ioctl_fionbio(fd, false)
        .map_err(|error| CliError::io("prepare a stream", error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    type Mover = fn(BorrowedFd<'_>, BorrowedFd<'_>);

    fn copied(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
        copy(from, to, &Progress::default()).expect("copied");
    }

    fn fed(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
        feed(from, to).expect("fed");
    }

    /// Moves 300 kB; their first word arrives before the rest is sent.
    fn arrives(
        mover: Mover,
        (mut source, from): (impl io::Write + Send, OwnedFd),
        (to, mut sink): (OwnedFd, impl io::Read),
    ) {
        let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let (first, rest) = sent.split_at(5);
        let mut got = vec![0; 5];
        thread::scope(|scope| {
            scope.spawn(|| {
                mover(from.as_fd(), to.as_fd());
                drop(to);
            });
            source.write_all(first).expect("somebody reads");
            sink.read_exact(&mut got).expect("the first word");
            scope.spawn(|| {
                source.write_all(rest).expect("somebody reads");
                drop(source);
            });
            sink.read_to_end(&mut got).expect("an end");
        });
        assert!(got == sent);
    }

    #[test]
    fn bytes_move_between_pipes_sockets_and_files_as_they_come() {
        let pipe = || std::io::pipe().expect("a pipe");
        let socket = || UnixStream::pair().expect("sockets");
        let ((pipe_out, pipe_in), (ours, theirs)) = (pipe(), socket());
        arrives(fed, (pipe_in, pipe_out.into()), (ours.into(), theirs));
        let ((pipe_out, pipe_in), (ours, theirs)) = (pipe(), socket());
        arrives(copied, (ours, theirs.into()), (pipe_in.into(), pipe_out));
        let (from, to) = (socket(), socket());
        arrives(fed, (from.0, from.1.into()), (to.0.into(), to.1));
        let path = std::env::temp_dir().join(format!("copy-{}", std::process::id()));
        std::fs::write(&path, b"from a file").expect("a file");
        let (to, mut sink) = socket();
        let file = File::open(&path).expect("a file");
        fed(file.as_fd(), to.as_fd());
        drop(to);
        let mut got = String::new();
        sink.read_to_string(&mut got).expect("an end");
        assert_eq!(got, "from a file");
        std::fs::remove_file(path).expect("removed");
    }

    #[tokio::test]
    async fn a_reader_that_takes_its_time_gets_every_byte() {
        let (mut sink, to) = std::io::pipe().expect("a pipe");
        let mut outputs = Outputs::default();
        let path = std::env::temp_dir().join(format!("slow-{}", std::process::id()));
        std::fs::write(&path, vec![7; 300_000]).expect("a file");
        let file = File::open(&path).expect("a file");
        std::fs::remove_file(path).expect("removed");
        outputs
            .join(file.into(), OwnedFd::from(to))
            .expect("joined");
        let slow = thread::spawn(move || {
            thread::sleep(SILENCE * 2);
            let mut got = Vec::new();
            sink.read_to_end(&mut got).expect("an end");
            got.len()
        });
        outputs.finish().await.expect("written");
        assert_eq!(slow.join().expect("no panic"), 300_000);
    }

    #[tokio::test]
    async fn output_that_is_lost_is_an_error_and_a_reader_that_is_gone_is_none() {
        let sink = |path| File::options().write(true).open(path).expect("a device");
        let lost = |to: OwnedFd| async move {
            let (mut source, from) = UnixStream::pair().expect("sockets");
            let mut outputs = Outputs::default();
            outputs.join(from.into(), to).expect("joined");
            io::Write::write_all(&mut source, b"said").expect("somebody reads");
            drop(source);
            outputs.finish().await
        };
        let full = lost(sink("/dev/full").into()).await;
        let full = full.expect_err("no space");
        assert!(
            crate::error_chain(&full).contains("No space left"),
            "{full}"
        );
        let (gone, to) = std::io::pipe().expect("a pipe");
        drop(gone);
        lost(to.into()).await.expect("enough was seen");
        lost(sink("/dev/null").into()).await.expect("written");
    }
}
