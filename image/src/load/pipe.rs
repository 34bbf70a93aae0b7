//! Bytes from one thread to another, so that reading and decompressing a layer and writing its
//! disk run side by side. Bounded: the faster side waits.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Small enough that the allocator reuses them, large enough that a message costs nothing.
const CHUNK: usize = 64 << 10;
const CHUNKS: usize = 16;

type Message = io::Result<Vec<u8>>;

/// The end that bytes go into.
pub(super) struct Intake(SyncSender<Message>);

/// The end that bytes come out of.
pub(super) struct Outlet {
    receiver: Receiver<Message>,
    chunk: Vec<u8>,
    taken: usize,
}

pub(super) fn pipe() -> (Intake, Outlet) {
    let (sender, receiver) = sync_channel(CHUNKS);
    (
        Intake(sender),
        Outlet {
            receiver,
            chunk: Vec::new(),
            taken: 0,
        },
    )
}

impl Intake {
    /// Sends all that `source` gives, and the error if that is how it ends. Stops when the other
    /// end is gone.
    pub(super) fn send_all(self, mut source: impl Read) {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let result = (&mut source).take(CHUNK as u64).read_to_end(&mut chunk);
            let last = chunk.len() < CHUNK;
            // What came before an error counts: the archive may be broken there already.
            let gone = !chunk.is_empty() && self.0.send(Ok(chunk)).is_err();
            if let (Err(error), false) = (result, gone) {
                let _ = self.0.send(Err(error));
                return;
            }
            if last || gone {
                return;
            }
        }
    }
}

impl Read for Outlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() {
            match self.receiver.recv() {
                Ok(message) => (self.chunk, self.taken) = (message?, 0),
                // The sender is done.
                Err(_) => return Ok(0),
            }
        }
        let read = (&self.chunk[self.taken..]).read(buffer)?;
        self.taken += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `left` bytes, then an error.
    struct Failing(usize);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let read = buffer.len().min(self.0);
            self.0 -= read;
            Ok(read)
        }
    }

    #[test]
    fn everything_arrives_in_order() {
        let bytes: Vec<u8> = (0..3_000_001u32).map(|i| i as u8).collect();
        let (intake, mut outlet) = pipe();
        let mut found = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| intake.send_all(&bytes[..]));
            outlet.read_to_end(&mut found).unwrap();
        });
        assert!(found == bytes);
    }

    #[test]
    fn an_error_comes_after_what_came_before_it() {
        let (intake, mut outlet) = pipe();
        intake.send_all(Failing(CHUNK + 10));
        let mut found = Vec::new();
        let error = outlet.read_to_end(&mut found).unwrap_err();
        assert_eq!(
            (found.len(), error.kind()),
            (CHUNK + 10, io::ErrorKind::BrokenPipe)
        );
    }

    #[test]
    fn a_reader_that_leaves_stops_the_sender() {
        let (intake, outlet) = pipe();
        drop(outlet);
        intake.send_all(io::repeat(0));
    }
}
