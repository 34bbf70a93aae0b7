//! Reading a container's log files as they grow, run after run.
//!
//! A line of a file is `TIME STREAM TAG TEXT` (the CRI log format); the tag
//! `P` marks a piece of a line that goes on in the next line.

use rustix::fs::inotify;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// A file system that tells nothing is looked at this often all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// One piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, RFC 3339 with nanoseconds.
    pub time: String,
    /// Written to standard error.
    pub error: bool,
    /// The line goes on in the next piece.
    pub partial: bool,
    /// What, without the line's end.
    pub text: Vec<u8>,
}

impl Line {
    /// Reads a line of a log file without its end; `None` when it is none.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?.to_owned();
        let error = match parts.next()? {
            b"stdout" => false,
            b"stderr" => true,
            _ => return None,
        };
        let partial = parts.next()?.first() == Some(&b'P');
        Some(Self {
            time,
            error,
            partial,
            text: parts.next().unwrap_or_default().to_vec(),
        })
    }
}

/// The log files of one container, read in order.
pub struct Tailing {
    directory: PathBuf,
    run: u32,
    file: Option<BufReader<File>>,
    /// A line that is not finished yet.
    pending: Vec<u8>,
}

impl Tailing {
    /// Begins with the first byte of the file of `run`.
    pub fn new(directory: PathBuf, run: u32) -> Self {
        Self {
            directory,
            run,
            file: None,
            pending: Vec::new(),
        }
    }

    /// The run whose file is read.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Goes on with the next run. What the present one has left is lost, so
    /// [`Tailing::drain`] comes first.
    pub fn next_run(&mut self) {
        self.run += 1;
        self.file = None;
        self.pending.clear();
    }

    /// Hands over all lines that are there. No file is no lines.
    pub fn drain(&mut self, mut take: impl FnMut(Line)) -> io::Result<()> {
        if self.file.is_none() {
            match File::open(self.path()) {
                Ok(file) => self.file = Some(BufReader::with_capacity(64 << 10, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        loop {
            if file.read_until(b'\n', &mut self.pending)? == 0 {
                return Ok(());
            }
            if self.pending.last() != Some(&b'\n') {
                // The writer is in the middle of it.
                continue;
            }
            self.pending.pop();
            if let Some(line) = Line::parse(&self.pending) {
                take(line);
            }
            self.pending.clear();
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.run))
    }

    /// Skips all but the last `count` whole lines of what is there now.
    pub fn skip_to_last(&mut self, count: usize) -> io::Result<()> {
        let mut starts = std::collections::VecDeque::new();
        let mut file = match File::open(self.path()) {
            Ok(file) => BufReader::with_capacity(64 << 10, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let (mut at, mut line, mut inside) = (0u64, Vec::new(), false);
        loop {
            line.clear();
            let length = file.read_until(b'\n', &mut line)?;
            if length == 0 {
                break;
            }
            // Pieces of one line are one line.
            if !inside {
                starts.push_back(at);
                if starts.len() > count {
                    starts.pop_front();
                }
            }
            let bare = line.strip_suffix(b"\n").unwrap_or(&line);
            inside = Line::parse(bare).is_some_and(|line| line.partial);
            at += length as u64;
        }
        let begin = if count == 0 {
            at
        } else {
            starts.front().copied().unwrap_or(0)
        };
        file.seek(SeekFrom::Start(begin))?;
        self.file = Some(file);
        Ok(())
    }
}

/// Tells when something was written into one of some directories.
pub struct Changes {
    inotify: Option<AsyncFd<OwnedFd>>,
}

impl Changes {
    /// Without inotify it falls back to looking once a second.
    #[expect(
        deprecated,
        reason = "the successor is unsafe, and nobody but the value closes its descriptor"
    )]
    pub fn new() -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Self {
            inotify: inotify::init(flags)
                .ok()
                .and_then(|fd| AsyncFd::new(fd).ok()),
        }
    }

    /// Watches a directory. One that is not there yet is noticed by patience.
    pub fn add(&self, directory: &Path) -> bool {
        let wanted = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::CLOSE_WRITE;
        self.inotify
            .as_ref()
            .is_some_and(|fd| inotify::add_watch(fd.get_ref(), directory, wanted).is_ok())
    }

    /// Waits for a change, but never for long.
    pub async fn wait(&self) {
        let Some(fd) = &self.inotify else {
            tokio::time::sleep(PATIENCE).await;
            return;
        };
        let Ok(Ok(mut guard)) = tokio::time::timeout(PATIENCE, fd.readable()).await else {
            return;
        };
        let mut buffer = [0u8; 4096];
        while rustix::io::read(fd.get_ref(), &mut buffer).is_ok_and(|length| length > 0) {}
        guard.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(tailing: &mut Tailing) -> Vec<String> {
        let mut out = Vec::new();
        tailing
            .drain(|line| out.push(String::from_utf8(line.text).unwrap()))
            .unwrap();
        out
    }

    #[test]
    fn lines_of_the_log_format_are_read() {
        let line = Line::parse(b"2026-01-01T00:00:00.000000001Z stderr P a  b").unwrap();
        assert!(line.error && line.partial);
        assert_eq!(line.text, b"a  b");
        assert!(Line::parse(b"2026 stdout F").unwrap().text.is_empty());
        assert!(Line::parse(b"garbage").is_none());
    }

    #[test]
    fn a_growing_file_is_read_line_by_line_and_run_by_run() {
        let directory = std::env::temp_dir().join(format!("beluga-tail-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let write = |run: u32, text: &str| {
            std::fs::write(directory.join(format!("{run}.log")), text).unwrap();
        };
        let mut tailing = Tailing::new(directory.clone(), 0);
        assert!(texts(&mut tailing).is_empty());
        write(0, "t stdout F one\nt stdout F tw");
        assert_eq!(texts(&mut tailing), ["one"]);
        write(0, "t stdout F one\nt stdout F two\n");
        assert_eq!(texts(&mut tailing), ["two"]);
        write(1, "t stdout P a\nt stdout F b\nt stdout F c\n");
        tailing.next_run();
        tailing.skip_to_last(2).unwrap();
        assert_eq!(texts(&mut tailing), ["a", "b", "c"]);
        let mut tailing = Tailing::new(directory.clone(), 1);
        tailing.skip_to_last(1).unwrap();
        assert_eq!(texts(&mut tailing), ["c"]);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
