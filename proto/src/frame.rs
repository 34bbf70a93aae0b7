//! The one frame codec: a little-endian `u32` length, then that many bytes of
//! JSON. Both ends enforce [`MAX_FRAME`] before they allocate, so a peer
//! cannot make the other hold more than one frame.

use serde::{Serialize, de::DeserializeOwned};

/// Largest payload of a frame in bytes. A file of a volume travels in one
/// frame, and Kubernetes bounds a ConfigMap at 1 MiB (4/3 of that in base64).
pub const MAX_FRAME: usize = 2 << 20;

/// Bytes of the length prefix.
const PREFIX: usize = 4;

/// Why bytes are no frame, or a value does not fit one.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The payload is longer than the limit.
    #[error("a frame of {length} bytes is over the limit of {MAX_FRAME}")]
    TooLong {
        /// Length announced or needed, in bytes.
        length: usize,
    },
    /// The payload is not the JSON of the message expected here.
    #[error("a frame does not hold the message expected here")]
    Payload {
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
}

/// The frame that carries `message`. Errors when it would be over [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0u8; PREFIX];
    serde_json::to_writer(&mut bytes, message).map_err(|source| FrameError::Payload { source })?;
    let length = bytes.len() - PREFIX;
    match u32::try_from(length) {
        Ok(prefix) if length <= MAX_FRAME => bytes[..PREFIX].copy_from_slice(&prefix.to_le_bytes()),
        _ => return Err(FrameError::TooLong { length }),
    }
    Ok(bytes)
}

/// Collects bytes from a stream and gives back whole messages. After an error
/// the stream has lost its framing and must be closed.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    start: usize,
}

impl FrameDecoder {
    /// An empty decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, `None` when more bytes are needed.
    /// Errors on a length over the limit and on a payload that is not a `T`.
    pub fn next_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let pending = &self.buffer[self.start..];
        let Some((prefix, rest)) = pending.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong { length });
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let message =
            serde_json::from_slice(payload).map_err(|source| FrameError::Payload { source })?;
        self.start += PREFIX + length;
        if self.start == self.buffer.len() {
            // A large frame must not stay allocated on an idle connection.
            self.buffer = Vec::new();
            self.start = 0;
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_whole_however_the_bytes_are_cut() {
        let mut wire = encode(&"first").expect("fits");
        wire.extend(encode(&"second").expect("fits"));
        for step in 1..wire.len() {
            let mut decoder = FrameDecoder::new();
            let mut seen: Vec<String> = Vec::new();
            for chunk in wire.chunks(step) {
                decoder.feed(chunk);
                while let Some(message) = decoder.next_frame().expect("own output decodes") {
                    seen.push(message);
                }
            }
            assert_eq!(seen, ["first", "second"]);
            assert_eq!(decoder.start, decoder.buffer.len(), "nothing is left");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_arrive() {
        let mut decoder = FrameDecoder::new();
        decoder.feed(&u32::MAX.to_le_bytes());
        assert!(matches!(
            decoder.next_frame::<String>(),
            Err(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn a_message_over_the_limit_is_not_encoded() {
        let long = "x".repeat(MAX_FRAME);
        assert!(matches!(encode(&long), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn nesting_does_not_exhaust_the_stack() {
        let deep = "[".repeat(100_000);
        let mut decoder = FrameDecoder::new();
        decoder.feed(&u32::try_from(deep.len()).expect("short").to_le_bytes());
        decoder.feed(deep.as_bytes());
        assert!(matches!(
            decoder.next_frame::<crate::AgentFrame>(),
            Err(FrameError::Payload { .. })
        ));
    }
}
