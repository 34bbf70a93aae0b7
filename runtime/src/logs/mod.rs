//! Container logs in the CRI format, exact to the byte.
//!
//! ```text
//! 2026-01-02T03:04:05.678901234Z stdout F a whole line
//! 2026-01-02T03:04:05.678901234Z stderr P a piece; more of the line follows
//! ```
//! A line with tag `F` stands for its content and a newline, one with `P` for
//! its content alone; the last piece of a stream that ends without a newline
//! is a `P`. So the file itself says how many bytes of each stream are safe,
//! and a supervisor that takes over counts them instead of trusting a number.
//!
//! A log has a limit: [`segments`] tells what becomes of a full file.

mod entry;
pub mod segments;

pub use entry::{Entry, Output};
pub use segments::Limits;

use crate::settings::Settings;
use beluga_proto::PodUid;
use entry::timestamp;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest content of one line in bytes; longer lines become pieces.
pub const MAX_LINE: usize = 16 << 10;

/// Directory of the logs of one container, a file `<run>.log` per run.
#[must_use]
pub fn directory(settings: &Settings, uid: &PodUid, container: &str) -> PathBuf {
    settings.pod_dir(uid).join("logs").join(container)
}

/// Log file of one run of a container; the first run is 0.
#[must_use]
pub fn path(settings: &Settings, uid: &PodUid, container: &str, run: u32) -> PathBuf {
    directory(settings, uid, container).join(format!("{run}.log"))
}

/// Who puts the full files of a log aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// We do, within limits.
    Own(Limits),
    /// Others do, and say so afterwards. The file named here says how many bytes
    /// of each stream lie before the present log.
    Others(PathBuf),
}

/// The log of one run, open for writing.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    kind: Kind,
    file: File,
    /// Bytes in the file.
    length: u64,
    /// Bytes of each stream that are in the log's files, or were.
    safe: [u64; 2],
    /// The unfinished line of each stream: not in the file yet.
    partial: [Vec<u8>; 2],
    /// Lines of the present write.
    lines: Vec<u8>,
}

impl LogFile {
    /// Opens the log, makes it when it is missing. A last line that was torn
    /// by a crash is cut off; what is there is counted.
    pub fn open(path: &Path, kind: &Kind) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = writable(path)?;
        let before = match kind {
            Kind::Own(_) => segments::full(path)?.last().map_or([0; 2], |full| full.end),
            Kind::Others(begins) => read_begin(begins)?,
        };
        let (here, length) = count(&file)?;
        if length < file.metadata()?.len() {
            file.set_len(length)?;
        }
        Ok(Self {
            path: path.to_owned(),
            kind: kind.clone(),
            file,
            length,
            safe: [before[0] + here[0], before[1] + here[1]],
            partial: [Vec::new(), Vec::new()],
            lines: Vec::new(),
        })
    }

    /// Bytes of the stream since the container's start that are in the log.
    #[must_use]
    pub fn safe(&self, output: Output) -> u64 {
        self.safe[output.index()]
    }

    /// Takes in the next bytes of a stream. Whole lines are in the file when
    /// this returns; an unfinished one waits for its end.
    pub fn append(&mut self, output: Output, mut bytes: &[u8]) -> io::Result<()> {
        let stamp = timestamp(SystemTime::now());
        let mut added = 0;
        while !bytes.is_empty() {
            let room = MAX_LINE - self.partial[output.index()].len();
            let newline = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let (piece, rest, tag) = match newline {
                Some(at) => (&bytes[..at], &bytes[at + 1..], Some(b'F')),
                None if bytes.len() >= room => (&bytes[..room], &bytes[room..], Some(b'P')),
                None => (bytes, &bytes[bytes.len()..], None),
            };
            bytes = rest;
            match tag {
                Some(tag) => added += self.line(output, piece, tag, &stamp),
                None => self.partial[output.index()].extend_from_slice(piece),
            }
        }
        self.flush(output, added)
    }

    /// Takes in the end of a stream: what waits for a newline is written.
    pub fn finish(&mut self, output: Output) -> io::Result<()> {
        if self.partial[output.index()].is_empty() {
            return Ok(());
        }
        let stamp = timestamp(SystemTime::now());
        let added = self.line(output, &[], b'P', &stamp);
        self.flush(output, added)
    }

    /// Adds a line to the present write; how many bytes of the stream it holds.
    fn line(&mut self, output: Output, piece: &[u8], tag: u8, stamp: &str) -> u64 {
        let held = std::mem::take(&mut self.partial[output.index()]);
        self.lines.extend_from_slice(stamp.as_bytes());
        self.lines.push(b' ');
        self.lines.extend_from_slice(output.name().as_bytes());
        self.lines.extend_from_slice(&[b' ', tag, b' ']);
        self.lines.extend_from_slice(&held);
        self.lines.extend_from_slice(piece);
        self.lines.push(b'\n');
        (held.len() + piece.len()) as u64 + u64::from(tag == b'F')
    }

    fn flush(&mut self, output: Output, added: u64) -> io::Result<()> {
        if !self.lines.is_empty() {
            let written = self.file.write_all(&self.lines);
            self.length += self.lines.len() as u64;
            self.lines.clear();
            // A flood must not stay allocated in an idle supervisor.
            self.lines.shrink_to(4 * MAX_LINE);
            written?;
            self.safe[output.index()] += added;
            if let Kind::Own(limits) = self.kind
                && self.length >= limits.bytes
            {
                segments::put_aside(&self.path, self.safe, limits)?;
                self.begin_next()?;
            }
        }
        Ok(())
    }

    /// The log was put aside by others: goes on in a new file, which is there when
    /// this returns.
    pub fn reopen(&mut self) -> io::Result<()> {
        if let Kind::Others(begins) = &self.kind {
            // First: what is told as safe twice is only asked for in vain.
            let [out, err] = self.safe;
            if let Some(directory) = begins.parent() {
                std::fs::create_dir_all(directory)?;
            }
            std::fs::write(begins, format!("{out} {err}"))?;
        }
        self.begin_next()
    }

    /// Begins a new file.
    fn begin_next(&mut self) -> io::Result<()> {
        self.file = writable(&self.path)?;
        self.length = 0;
        Ok(())
    }
}

/// Bytes of each stream that lie before the present file of a log.
fn read_begin(path: &Path) -> io::Result<[u64; 2]> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok([0; 2]),
        text => text?,
    };
    let mut numbers = text.split(' ').filter_map(|word| word.parse().ok());
    Ok([numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)])
}

fn writable(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
}

/// Bytes and lines of a log's end that stand for a last message, as the kubelet
/// has it.
const LAST_BYTES: usize = 2048;
const LAST_LINES: usize = 80;

/// The end of what a run has printed; none when it printed nothing, or the log
/// cannot be read.
#[must_use]
pub fn last_words(path: &Path) -> Option<String> {
    // Beside its content a line has a stamp, a stream's name and a tag.
    const AROUND: u64 = 64;
    let most = (LAST_BYTES + MAX_LINE) as u64 + LAST_LINES as u64 * AROUND;
    let mut bytes = end(path, most).ok()?;
    if (bytes.len() as u64) < most
        && let Some(before) = segments::full(path).ok()?.last()
    {
        bytes = [end(&before.path, most).ok()?, bytes].concat();
    }
    // The first one may be the end of a line; then it does not parse.
    let lines = bytes.split(|byte| *byte == b'\n');
    let entries: Vec<Entry<'_>> = lines.filter_map(Entry::parse).collect();
    let mut text = Vec::new();
    for entry in &entries[entries.len().saturating_sub(LAST_LINES)..] {
        text.extend_from_slice(entry.content);
        text.extend((!entry.is_partial).then_some(b'\n'));
    }
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(LAST_BYTES)..]).into_owned();
    (!text.is_empty()).then_some(text)
}

/// The last bytes of a file.
fn end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(most);
    file.seek(io::SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Bytes of each stream in a file, and where its last whole line ends.
fn count(file: &File) -> io::Result<([u64; 2], u64)> {
    let mut safe = [0u64; 2];
    let mut end = 0;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 || line.last() != Some(&b'\n') {
            return Ok((safe, end));
        }
        end += length as u64;
        line.pop();
        if let Some(entry) = Entry::parse(&line) {
            let newline = u64::from(!entry.is_partial);
            safe[entry.output.index()] += entry.content.len() as u64 + newline;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("beluga-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn contents(path: &Path, output: Output) -> Vec<u8> {
        let text = std::fs::read(path).unwrap();
        let mut bytes = Vec::new();
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let entry = Entry::parse(line).unwrap();
            if entry.output == output {
                bytes.extend_from_slice(entry.content);
                bytes.extend((!entry.is_partial).then_some(b'\n'));
            }
        }
        bytes
    }

    #[test]
    fn a_stream_comes_back_byte_for_byte() {
        let path = temporary("exact");
        let mut log = LogFile::open(&path, &Kind::Own(Limits::default())).unwrap();
        let mut sent = b"one\n\ntwo ".to_vec();
        sent.extend(vec![b'x'; 3 * MAX_LINE]);
        sent.extend(b"\nend without newline");
        for piece in sent.chunks(7) {
            log.append(Output::Stdout, piece).unwrap();
            log.append(Output::Stderr, b"e\n").unwrap();
        }
        log.finish(Output::Stdout).unwrap();
        assert_eq!(log.safe(Output::Stdout), sent.len() as u64);
        assert_eq!(contents(&path, Output::Stdout), sent);
        let again = LogFile::open(&path, &Kind::Own(Limits::default())).unwrap();
        assert_eq!(again.safe, log.safe);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_torn_last_line_is_cut_and_its_bytes_count_as_unsafe() {
        let path = temporary("torn");
        let mut log = LogFile::open(&path, &Kind::Own(Limits::default())).unwrap();
        log.append(Output::Stdout, b"whole\nunfinished").unwrap();
        assert_eq!(
            log.safe(Output::Stdout),
            6,
            "the unfinished line is not safe"
        );
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            std::fs::write(&path, [&whole[..], &whole[..cut]].concat()).unwrap();
            let log = LogFile::open(&path, &Kind::Own(Limits::default())).unwrap();
            assert_eq!(log.safe(Output::Stdout), 6);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        let directory = temporary("full");
        let path = directory.join("0.log");
        let limits = Limits {
            bytes: 1000,
            files: 3,
        };
        let mut log = LogFile::open(&path, &Kind::Own(limits)).unwrap();
        for number in 0..200 {
            log.append(Output::Stdout, format!("line {number}\n").as_bytes())
                .unwrap();
        }
        let sent: usize = (0..200)
            .map(|number| format!("line {number}\n").len())
            .sum();
        assert_eq!(log.safe(Output::Stdout), sent as u64);
        let full = segments::full(&path).unwrap();
        assert_eq!(full.len(), 2, "and the one that is written to");
        for file in full.iter().map(|full| &full.path).chain([&path]) {
            assert!(std::fs::metadata(file).unwrap().len() < 1100);
        }
        // Who takes over goes on counting where the other left off, also right
        // behind a full file.
        std::fs::remove_file(&path).unwrap();
        let again = LogFile::open(&path, &Kind::Own(limits)).unwrap();
        assert_eq!(again.safe, full[1].end);
        assert!(last_words(&path).unwrap().contains("\nline 1"));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_log_that_others_put_aside_goes_on_in_a_new_file() {
        let directory = temporary("aside");
        let (path, kind) = (
            directory.join("0.log"),
            Kind::Others(directory.join("begins")),
        );
        let mut log = LogFile::open(&path, &kind).unwrap();
        log.append(Output::Stdout, b"one\nhalf").unwrap();
        std::fs::rename(&path, directory.join("0.log.1")).unwrap();
        log.reopen().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"", "it is there at once");
        log.append(Output::Stdout, b" a line\n").unwrap();
        assert_eq!(contents(&path, Output::Stdout), b"half a line\n");
        drop(log);
        let again = LogFile::open(&path, &kind).unwrap();
        assert_eq!(again.safe(Output::Stdout), 16, "with what was put aside");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_last_words_are_80_lines_or_2048_bytes() {
        let path = temporary("last");
        let mut log = LogFile::open(&path, &Kind::Own(Limits::default())).unwrap();
        assert_eq!(last_words(&path), None);
        for line in 0..200 {
            log.append(Output::Stdout, format!("{line}\n").as_bytes())
                .unwrap();
        }
        let last = last_words(&path).unwrap();
        assert!(last.starts_with("120\n") && last.ends_with("\n199\n"));
        let long = vec![b'x'; 3 * MAX_LINE];
        log.append(Output::Stderr, &long).unwrap();
        log.append(Output::Stderr, b"end").unwrap();
        log.finish(Output::Stderr).unwrap();
        let last = last_words(&path).unwrap();
        assert_eq!(last.len(), LAST_BYTES);
        assert!(last.ends_with("xend"));
        std::fs::remove_file(&path).unwrap();
    }
}
