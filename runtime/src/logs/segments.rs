//! The files of one log, which together have a limit.
//!
//! `3.log` is the one that is written to. When it is full it becomes
//! `3.log.OUT-ERR`, where OUT and ERR say how many bytes of standard output and
//! standard error end with it, counted from the container's start; a new `3.log`
//! is begun, and the oldest files go. So the newest of these names tells a
//! supervisor that takes over what is safe, whatever has gone.

use std::io;
use std::path::{Path, PathBuf};

/// How much of a run's output is kept; the kubelet's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a file that is full.
    pub bytes: u64,
    /// Files of one run, with the one that is written to.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 10 << 20,
            files: 5,
        }
    }
}

impl Limits {
    /// From `BYTES,FILES`; `None` when it is not that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (bytes, files) = text.split_once(',')?;
        let limits = Self {
            bytes: bytes.trim().parse().ok()?,
            files: files.trim().parse().ok()?,
        };
        // The kubelet wants two as well: a reader needs one that stays.
        (limits.files >= 2).then_some(limits)
    }
}

/// A full file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Bytes of each stream that end with it.
    pub end: [u64; 2],
    /// Where it is.
    pub path: PathBuf,
}

/// The full files of the log at `path`, oldest first.
pub fn full(path: &Path) -> io::Result<Vec<Full>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut full = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let end = name.to_str().and_then(|name| {
            let (out, err) = name.strip_prefix(&prefix)?.split_once('-')?;
            Some([out.parse().ok()?, err.parse().ok()?])
        });
        if let Some(end) = end {
            let path = entry.path();
            full.push(Full { end, path });
        }
    }
    full.sort_by_key(|full| full.end[0] + full.end[1]);
    Ok(full)
}

/// All files of the log at `path` that may be there, oldest first.
pub fn all(path: &Path) -> io::Result<Vec<PathBuf>> {
    let full = full(path)?.into_iter().map(|full| full.path);
    Ok(full.chain([path.to_owned()]).collect())
}

/// Gives the file at `path` the name of a full one and removes the oldest.
pub fn put_aside(path: &Path, end: [u64; 2], limits: Limits) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{}", end[0], end[1]));
    std::fs::rename(path, name)?;
    let full = full(path)?;
    let too_many = (full.len() + 1).saturating_sub(limits.files);
    for old in &full[..too_many] {
        std::fs::remove_file(&old.path)?;
    }
    Ok(())
}

/// Removes the logs in `directory` of all runs before `run`.
pub fn forget_runs_before(directory: &Path, run: u32) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.split_once(".log"));
        if number.is_some_and(|(number, _)| number.parse().is_ok_and(|old: u32| old < run)) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bytes_and_files() {
        assert_eq!(
            Limits::parse("65536, 3"),
            Some(Limits {
                bytes: 65536,
                files: 3
            })
        );
        for wrong in ["", "10", "10,1", "x,3", "10,-1"] {
            assert_eq!(Limits::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_logs_of_earlier_runs_are_forgotten() {
        let directory = std::env::temp_dir().join(format!("beluga-runs-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        for name in [
            "0.log",
            "1.log",
            "1.log.5-0",
            "2.log.9-9",
            "12.log",
            "other",
        ] {
            std::fs::write(directory.join(name), name).unwrap();
        }
        forget_runs_before(&directory, 2).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["12.log", "2.log.9-9", "other"]);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
