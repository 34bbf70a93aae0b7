//! Bytes of an output stream that are not known to be safe yet.

use beluga_proto::agent::OUTPUT_WINDOW;
use std::collections::VecDeque;

/// An acknowledgement or an offset that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{offset} is outside of {base}..={limit}")]
pub struct OutOfWindow {
    /// What was said.
    pub offset: u64,
    /// First byte held.
    pub base: u64,
    /// End of what may be said.
    pub limit: u64,
}

/// Bytes from `base`, of which those below `sent` have gone to the supervisor.
/// Offsets count from the stream's first byte.
#[derive(Debug, Default)]
pub struct Window {
    bytes: VecDeque<u8>,
    base: u64,
    sent: u64,
}

impl Window {
    /// An empty window at an offset.
    pub fn at(offset: u64) -> Self {
        Self {
            bytes: VecDeque::new(),
            base: offset,
            sent: offset,
        }
    }

    /// End of what is held: offset of the next byte of the process.
    pub fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// How many bytes may be added.
    pub fn room(&self) -> usize {
        OUTPUT_WINDOW.saturating_sub(self.bytes.len())
    }

    /// Whether all is safe.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether all has been sent.
    pub fn is_sent(&self) -> bool {
        self.sent == self.end()
    }

    /// Adds bytes of the process.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next bytes to send: all of them or the first part.
    pub fn unsent(&self) -> &[u8] {
        let skip = usize::try_from(self.sent - self.base).unwrap_or(usize::MAX);
        let (first, second) = self.bytes.as_slices();
        match first.get(skip..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => second
                .get(skip.saturating_sub(first.len())..)
                .unwrap_or(&[]),
        }
    }

    /// Offset of the next byte to send.
    pub fn sent_offset(&self) -> u64 {
        self.sent
    }

    /// Notes that so many of [`Window::unsent`] have gone.
    pub fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count as u64).min(self.end());
    }

    /// Forgets what is safe: all below `offset`.
    pub fn acknowledge(&mut self, offset: u64) -> Result<(), OutOfWindow> {
        if !(self.base..=self.sent).contains(&offset) {
            return Err(OutOfWindow {
                offset,
                base: self.base,
                limit: self.sent,
            });
        }
        self.forget_below(offset);
        Ok(())
    }

    /// Goes back to what is safe, to send the rest again. An offset below the
    /// window means that the supervisor lost what it had acknowledged: the
    /// stream goes on from the first byte that is left.
    pub fn resume(&mut self, offset: u64) -> Result<(), OutOfWindow> {
        if offset > self.end() {
            return Err(OutOfWindow {
                offset,
                base: self.base,
                limit: self.end(),
            });
        }
        self.forget_below(offset.max(self.base));
        self.sent = self.base;
        Ok(())
    }

    fn forget_below(&mut self, offset: u64) {
        let count = usize::try_from(offset - self.base).unwrap_or(usize::MAX);
        self.bytes.drain(..count.min(self.bytes.len()));
        self.base = offset;
        if self.bytes.is_empty() {
            // An idle container holds no buffer.
            self.bytes = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kept_until_they_are_safe_and_sent_again_on_resume() {
        let mut window = Window::default();
        window.push(b"abcdef");
        assert_eq!(window.unsent(), b"abcdef");
        window.sent(4);
        assert_eq!(window.unsent(), b"ef");
        window.acknowledge(2).unwrap();
        assert_eq!(window.end(), 6);
        window.resume(3).unwrap();
        assert_eq!(window.unsent(), b"def");
        window.sent(3);
        window.acknowledge(6).unwrap();
        assert!(window.is_empty() && window.is_sent());
        window.resume(1).unwrap();
        assert_eq!(window.end(), 6, "what is gone is gone");
    }

    #[test]
    fn a_supervisor_cannot_acknowledge_what_it_did_not_get() {
        let mut window = Window::default();
        window.push(b"abc");
        window.sent(1);
        assert!(window.acknowledge(2).is_err());
        assert!(window.acknowledge(u64::MAX).is_err());
        window.acknowledge(1).unwrap();
        assert!(window.acknowledge(0).is_err());
        assert!(window.resume(4).is_err());
    }

    #[test]
    fn a_window_has_an_end() {
        let mut window = Window::default();
        window.push(&vec![0; OUTPUT_WINDOW]);
        assert_eq!(window.room(), 0);
        window.sent(OUTPUT_WINDOW);
        window.acknowledge(10).unwrap();
        assert_eq!(window.room(), 10);
        window.push(&[1; 10]);
        assert_eq!(window.unsent(), [1; 10], "across the wrap of the ring");
    }
}
