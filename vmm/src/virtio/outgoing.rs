//! What a device has to tell the supervisor.

use beluga_proto::ControlMessage;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A message on its way to the supervisor.
#[derive(Debug)]
pub struct Outgoing {
    /// The message.
    pub message: ControlMessage,
    /// The descriptor beside it.
    pub fd: Option<OwnedFd>,
    /// What it takes up until it is sent or dropped.
    pub place: Option<Place>,
}

impl From<ControlMessage> for Outgoing {
    fn from(message: ControlMessage) -> Self {
        Self {
            message,
            fd: None,
            place: None,
        }
    }
}

/// A bound on messages that a guest can cause, wherever they wait: in the
/// device, in the mailbox, or for a supervisor that does not read.
#[derive(Debug)]
pub struct Places {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// One of [`Places`], free again when it is dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Places {
    /// So many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            taken: Arc::default(),
            most,
        }
    }

    /// A free one, if there is one. One thread takes, any thread gives back.
    #[must_use]
    pub fn take(&self) -> Option<Place> {
        if self.taken.load(Ordering::Acquire) >= self.most {
            return None;
        }
        self.taken.fetch_add(1, Ordering::AcqRel);
        Some(Place(Arc::clone(&self.taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
