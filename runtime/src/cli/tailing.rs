//! Reading a container's log files as they grow, run after run and file after
//! file ([`segments`]).

use crate::logs::{Entry, Output, segments};
use rustix::fs::inotify;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
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

impl From<Entry<'_>> for Line {
    fn from(entry: Entry<'_>) -> Self {
        Self {
            time: entry.time.to_owned(),
            error: entry.output == Output::Stderr,
            partial: entry.is_partial,
            text: entry.content.to_vec(),
        }
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
            self.file = self.first()?;
        }
        loop {
            self.read(&mut take)?;
            let Some(next) = self.next_file()? else {
                return Ok(());
            };
            // What was written between the last look and its being put aside.
            self.read(&mut take)?;
            self.file = Some(next);
        }
    }

    /// Hands over the lines that the present file has left.
    fn read(&mut self, take: &mut impl FnMut(Line)) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        while file.read_until(b'\n', &mut self.pending)? > 0 {
            if self.pending.last() != Some(&b'\n') {
                // The writer is in the middle of it.
                continue;
            }
            self.pending.pop();
            if let Some(entry) = Entry::parse(&self.pending) {
                take(entry.into());
            }
            self.pending.clear();
        }
        Ok(())
    }

    /// The oldest file there is.
    fn first(&self) -> io::Result<Option<BufReader<File>>> {
        for path in segments::all(&self.path())? {
            if let Some(file) = open(&path)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// The file behind the present one, if that has been put aside.
    fn next_file(&self) -> io::Result<Option<BufReader<File>>> {
        let Some(present) = &self.file else {
            return Ok(None);
        };
        let present = present.get_ref().metadata()?.ino();
        let number = |path: &Path| std::fs::metadata(path).map(|file| file.ino());
        // Looked at first: what is not here any more is among the full ones.
        if number(&self.path()).is_ok_and(|newest| newest == present) {
            return Ok(None);
        }
        let newest = open(&self.path())?;
        let full = segments::full(&self.path())?;
        let at = full
            .iter()
            .position(|full| number(&full.path).is_ok_and(|number| number == present));
        // The present file itself may be gone: the oldest comes next then.
        match full.get(at.map_or(0, |at| at + 1)) {
            Some(next) => open(&next.path),
            None => Ok(newest),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.run))
    }

    /// Skips all but the last `count` whole lines of what is there now.
    pub fn skip_to_last(&mut self, count: usize) -> io::Result<()> {
        let mut starts = std::collections::VecDeque::new();
        let (mut line, mut inside) = (Vec::new(), false);
        let mut end = None;
        for path in segments::all(&self.path())? {
            let Some(mut file) = open(&path)? else {
                continue;
            };
            let mut at = 0u64;
            loop {
                line.clear();
                let length = file.read_until(b'\n', &mut line)?;
                if length == 0 {
                    break;
                }
                // Pieces of one line are one line.
                if !inside {
                    starts.push_back((path.clone(), at));
                    if starts.len() > count {
                        starts.pop_front();
                    }
                }
                let bare = line.strip_suffix(b"\n").unwrap_or(&line);
                inside = Entry::parse(bare).is_some_and(|entry| entry.is_partial);
                at += length as u64;
            }
            end = Some((path, at));
        }
        let Some((path, at)) = starts.pop_front().or(end) else {
            return Ok(());
        };
        if let Some(mut file) = open(&path)? {
            file.seek(SeekFrom::Start(at))?;
            self.file = Some(file);
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::with_capacity(64 << 10, file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
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

    /// Watches a directory of records, in which whole files come and go.
    pub fn add_records(&self, directory: &Path) {
        let wanted = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::DELETE;
        if let Some(fd) = &self.inotify {
            // One that is gone is looked for by whoever asks.
            let _ = inotify::add_watch(fd.get_ref(), directory, wanted);
        }
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

    #[test]
    fn a_log_that_changes_its_file_loses_no_line_and_repeats_none() {
        let directory = std::env::temp_dir().join(format!("beluga-next-{}", std::process::id()));
        let path = directory.join("0.log");
        let limits = crate::logs::Limits {
            bytes: 300,
            files: 4,
        };
        let mut log = crate::logs::LogFile::open(&path, &crate::logs::Kind::Own(limits)).unwrap();
        let (mut tailing, mut seen) = (Tailing::new(directory.clone(), 0), Vec::new());
        for number in 0..100u32 {
            log.append(Output::Stdout, format!("{number}\n").as_bytes())
                .unwrap();
            // Sometimes several files come between two looks.
            if number % 13 == 0 {
                seen.extend(texts(&mut tailing));
            }
        }
        seen.extend(texts(&mut tailing));
        let all: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(seen, all);
        let mut tailing = Tailing::new(directory.clone(), 0);
        tailing.skip_to_last(10).unwrap();
        assert_eq!(texts(&mut tailing), all[90..]);
        let mut tailing = Tailing::new(directory.clone(), 0);
        let kept = texts(&mut tailing);
        assert!(kept.len() < 40 && all.ends_with(&kept), "{kept:?}");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
