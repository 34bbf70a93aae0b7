//! The user's terminal: raw mode that is always taken back, its size, and the
//! moving of bytes between it and a pod.

use super::CliError;
use beluga_proto::container::TerminalSize;
use rustix::termios::{self, OptionalActions, Termios};
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

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

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Moves standard input to a process on a thread of its own, which ends with
/// the program: a read of a terminal cannot be called off.
pub fn send_input(to: OwnedFd) -> Result<(), CliError> {
    blocking(&to)?;
    thread::spawn(move || {
        let mut to = File::from(to);
        // The process may end before its input does.
        drop(copy(&mut io::stdin().lock(), &mut to, &AtomicU64::new(0)));
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
    moved: Arc<AtomicU64>,
    open: Vec<Arc<AtomicBool>>,
}

impl Outputs {
    /// Moves a stream to standard output (or error) on a thread of its own.
    pub fn add(&mut self, from: OwnedFd, error: bool) -> Result<(), CliError> {
        blocking(&from)?;
        let open = Arc::new(AtomicBool::new(true));
        self.open.push(Arc::clone(&open));
        let moved = Arc::clone(&self.moved);
        thread::spawn(move || {
            let mut from = File::from(from);
            // A reader of ours that is gone, or a pod that is: both end it.
            let _ = if error {
                copy(&mut from, &mut io::stderr().lock(), &moved)
            } else {
                copy(&mut from, &mut io::stdout().lock(), &moved)
            };
            open.store(false, Ordering::Release);
        });
        Ok(())
    }

    /// Waits until all streams have ended, or are silent for a while.
    pub async fn finish(self) {
        let mut seen = self.moved.load(Ordering::Relaxed);
        let mut silent = Duration::ZERO;
        let step = Duration::from_millis(2);
        while silent < SILENCE && self.open.iter().any(|open| open.load(Ordering::Acquire)) {
            tokio::time::sleep(step).await;
            let now = self.moved.load(Ordering::Relaxed);
            silent = if now == seen {
                silent + step
            } else {
                Duration::ZERO
            };
            seen = now;
        }
    }
}

fn copy(from: &mut impl io::Read, to: &mut impl io::Write, moved: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0u8; CHUNK];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..length])?;
        to.flush()?;
        moved.fetch_add(length as u64, Ordering::Relaxed);
    }
}

fn blocking(fd: &OwnedFd) -> Result<(), CliError> {
    rustix::io::ioctl_fionbio(fd, false)
        .map_err(|error| CliError::io("prepare a stream", error.into()))
}
