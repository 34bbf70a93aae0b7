//! A blob on its way out: hashed, so that what is damaged here is not taken for a fault there.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use super::PushProgress;
use crate::cancel::Cancel;
use crate::digest::{Digest, Hasher};
use crate::load::candidate::Expected;

pub(super) const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Bytes between two reports of progress.
const REPORT: u64 = 1 << 20;

/// A blob that is sent, from the beginning each time.
pub(super) struct Sending<'a> {
    file: &'a File,
    blob: Expected,
    cancel: &'a Cancel,
    state: RefCell<State<'a>>,
}

struct State<'a> {
    tell: &'a mut dyn FnMut(PushProgress),
    hasher: Hasher,
    reported: u64,
    /// Of the last time that it was read to its end.
    digest: Option<Digest>,
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        file: &'a File,
        blob: Expected,
        cancel: &'a Cancel,
        tell: &'a mut dyn FnMut(PushProgress),
    ) -> Self {
        let state = RefCell::new(State {
            tell,
            hasher: Hasher::new(),
            reported: 0,
            digest: None,
        });
        Sending {
            file,
            blob,
            cancel,
            state,
        }
    }

    /// Reads from a byte on; the beginning begins it anew.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut state = self.state.borrow_mut();
        if at == 0 {
            (state.hasher, state.reported) = (Hasher::new(), 0);
        }
        let left = usize::try_from(self.blob.size - at).unwrap_or(usize::MAX);
        let space = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..space], at)?;
        state.hasher.update(&buffer[..read]);
        let done = at + read as u64;
        let is_end = done == self.blob.size;
        if is_end && read > 0 {
            state.digest = Some(state.hasher.clone().finish());
        }
        if is_end || done - state.reported >= REPORT {
            state.reported = done;
            let (blob, total) = (self.blob.digest, self.blob.size);
            (state.tell)(PushProgress::Layer { blob, done, total });
        }
        Ok(read)
    }

    /// Whether what was read to its end was not what it is called.
    pub(super) fn is_damaged(&self) -> bool {
        let found = self.state.borrow().digest;
        found.is_some_and(|digest| digest != self.blob.digest)
    }
}
