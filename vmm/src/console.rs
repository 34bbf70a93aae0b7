//! The early console: the guest writes, nobody reads until something is wrong.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Bytes that are kept: the last ones.
pub const CAPACITY: usize = 64 << 10;

/// What Linux writes when it gives up.
const PANIC: &[u8] = b"Kernel panic - not syncing";

/// The last [`CAPACITY`] bytes that the guest wrote. Grows as it is used: a
/// quiet boot costs nothing.
#[derive(Debug, Default)]
pub struct Console {
    bytes: Mutex<VecDeque<u8>>,
}

impl Console {
    /// Adds what the guest wrote.
    pub fn write(&self, bytes: &[u8]) {
        let mut ring = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            if ring.len() == CAPACITY {
                ring.pop_front();
            }
            ring.push_back(*byte);
        }
    }

    /// The last `most` bytes as text, beginning with a whole line where
    /// something was cut off.
    #[must_use]
    pub fn tail(&self, most: usize) -> String {
        let ring = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = ring.len().saturating_sub(most);
        let bytes: Vec<u8> = ring.iter().skip(skip).copied().collect();
        let start = match skip {
            0 if ring.len() < CAPACITY => 0,
            _ => bytes
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1),
        };
        String::from_utf8_lossy(&bytes[start..]).replace('\r', "")
    }

    /// The line with which a kernel says that it has panicked, if there is one.
    #[must_use]
    pub fn panic_line(&self) -> Option<String> {
        let ring = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = ring.iter().copied().collect();
        let at = bytes.windows(PANIC.len()).position(|part| part == PANIC)?;
        let line = bytes[at..]
            .split(|byte| matches!(byte, b'\n' | b'\r'))
            .next()?;
        Some(String::from_utf8_lossy(line).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept() {
        let console = Console::default();
        for line in 0..20_000 {
            console.write(format!("line {line}\r\n").as_bytes());
        }
        let tail = console.tail(CAPACITY);
        assert!(tail.len() <= CAPACITY);
        assert!(tail.starts_with("line "));
        assert!(tail.ends_with("line 19999\n"));
        assert_eq!(console.tail(13), "line 19999\n");
    }

    #[test]
    fn a_panic_is_found() {
        let console = Console::default();
        console.write(b"[0.1] all well\n");
        assert_eq!(console.panic_line(), None);
        console.write(b"[0.2] Kernel panic - not syncing: No working init found.\r\nmore");
        assert_eq!(
            console.panic_line().as_deref(),
            Some("Kernel panic - not syncing: No working init found.")
        );
    }
}
