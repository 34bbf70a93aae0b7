//! How a device watches descriptors of its own (tap, sockets, timers) on the
//! epoll instance of its thread.

use std::os::fd::RawFd;
use std::sync::Arc;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// What a device watches a descriptor for, and what it is told.
pub type Interest = EventSet;

/// A device's own name for a descriptor that it watches: any 32-bit number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u32);

/// Where a device registers its descriptors.
///
/// Level-triggered unless the interest says `EDGE_TRIGGERED`. The device keeps
/// the descriptor open while it is registered, and removes it before closing.
#[derive(Debug, Clone)]
pub struct EventRegistry {
    epoll: Arc<Epoll>,
    source: u32,
}

impl EventRegistry {
    /// A registry of the source number `source` on `epoll`.
    #[must_use]
    pub fn new(epoll: Arc<Epoll>, source: u32) -> Self {
        Self { epoll, source }
    }

    /// The event data that `token` of this source has.
    #[must_use]
    pub fn data(&self, token: Token) -> u64 {
        u64::from(self.source) << 32 | u64::from(token.0)
    }

    /// Source and token of an event.
    #[must_use]
    pub fn split(data: u64) -> (u32, Token) {
        ((data >> 32) as u32, Token(data as u32))
    }

    /// Watches `fd`.
    pub fn add(&self, fd: RawFd, token: Token, interest: Interest) -> std::io::Result<()> {
        self.control(ControlOperation::Add, fd, token, interest)
    }

    /// Watches `fd`, which is watched already, for something else.
    pub fn modify(&self, fd: RawFd, token: Token, interest: Interest) -> std::io::Result<()> {
        self.control(ControlOperation::Modify, fd, token, interest)
    }

    /// Stops watching `fd`.
    pub fn remove(&self, fd: RawFd) {
        // Nobody can do anything about a descriptor that was not watched.
        let _ = self.control(ControlOperation::Delete, fd, Token(0), EventSet::empty());
    }

    fn control(
        &self,
        operation: ControlOperation,
        fd: RawFd,
        token: Token,
        interest: Interest,
    ) -> std::io::Result<()> {
        self.epoll
            .ctl(operation, fd, EpollEvent::new(interest, self.data(token)))
    }
}
