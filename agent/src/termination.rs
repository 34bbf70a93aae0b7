//! Last messages of containers: a file of each run, mounted into it, whose end
//! is read when the run is over. It lies beside the writable layer, so that it
//! is charged to the same quota and goes with it.

use beluga_proto::agent::MAX_TERMINATION_MESSAGE;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// The file in the directory of a writable layer.
pub fn file(directory: &str) -> String {
    format!("{directory}/termination-log")
}

/// The end of what a run wrote; none when it wrote nothing. Bytes that are no
/// text are replaced.
pub fn read(directory: &str) -> Option<String> {
    let bytes = tail(&file(directory)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    (!text.is_empty()).then(|| text.into_owned())
}

fn tail(path: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let most = MAX_TERMINATION_MESSAGE as u64;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_message_is_kept() {
        let directory = std::env::temp_dir().join(format!("beluga-last-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let directory = directory.to_str().unwrap();
        assert_eq!(read(directory), None, "no file");
        std::fs::write(file(directory), "").unwrap();
        assert_eq!(read(directory), None, "nothing in it");
        std::fs::write(file(directory), format!("{}end", "x".repeat(5000))).unwrap();
        let message = read(directory).unwrap();
        assert_eq!(message.len(), MAX_TERMINATION_MESSAGE);
        assert!(message.ends_with("xend"));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
